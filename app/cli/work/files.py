"""Files that come from a service and go to it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from app.cli.client import ApiError, Client, WrongUse
from app.cli.console import Column, ago, notes, print_json
from app.cli.listing import Listing
from app.cli.options import AsJson, Force, Service, Wait, spread, writable
from app.cli.progress import finished
from app.cli.work.names import EditName, edit_id, status_of, variant_of

_NAMES = ("adapter_config.json", "adapter_model.safetensors")
_FORMATS = ("native", "peft", "gguf", "merged", "merged-gguf")

list_exports = Listing(
    "/v1/exports",
    (
        Column("export", "id"),
        Column("format", "format"),
        Column("status", status_of),
        Column("variant", "variant", spare=2),
        Column("made", lambda one: ago(one["created_at"]), spare=1),
    ),
    "no exports yet: `scalpel export VARIANT` makes one",
).command("List exports, newest first.")


def _formats(incomplete: str) -> list[str]:
    return [name for name in _FORMATS if name.startswith(incomplete)]


@spread
def download(
    edit: EditName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="By default EDIT.safetensors.", show_default=False),
    ] = None,
    point: Annotated[
        int | None, typer.Option(help="Another trial of the search, by its number.")
    ] = None,
    force: Force = False,
    service: Service = Service(),
) -> None:
    """Download an edit as one safetensors file, and check it."""
    file = output or Path(f"{edit.rpartition(':')[2]}.safetensors")
    writable(file, force=force)
    with service.connect() as client:
        id = edit_id(client, edit)
        path = f"/v1/edits/{id}/delta" + ("" if point is None else f"?point={point}")
        with _bars() as bars:
            digest = fetch(client, path, file, bars, force=force)
    typer.echo(f"{digest}  {file}")


@spread
def export(
    variant: Annotated[
        str, typer.Argument(help="What to export; or an exp_… id, to download it again.")
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format", help=f"{', '.join(_FORMATS)}, or another.", autocompletion=_formats
        ),
    ] = "peft",
    dtype: Annotated[
        str | None,
        typer.Option(help="Of the matrices of merged-gguf: f16, q8_0 or f32.", show_default="f16"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder for its files; a name that ends in .zip: one archive.",
            show_default="VARIANT-FORMAT",
        ),
    ] = None,
    without_parents: Annotated[
        bool, typer.Option("--without-parents", help="Leave out parent edits that are not named.")
    ] = False,
    wait: Wait = True,
    force: Force = False,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Make files of a variant for other programs; download them."""
    with service.connect() as client:
        made = client.get(f"/v1/exports/{variant}") if variant.startswith("exp_") else None
        kind = format if made is None else file_name({"name": made["format"]})
        target = output or Path(f"{variant.rpartition(':')[2]}-{kind}")
        if wait:
            writable(target, force=force)
        if made is None:
            body: dict[str, Any] = {"variant": variant_of(client, variant), "format": format}
            body |= {"without_parents": True} if without_parents else {}
            body |= {} if dtype is None else {"dtype": dtype}
            made = client.create("/v1/exports", body)
        if not as_json:
            typer.echo(made["id"])
        if wait:
            made = finished(client, f"/v1/exports/{made['id']}")
            _save_export(client, made, target, force=force)
    if as_json:
        print_json(made)


def fetch(
    client: Client, path: str, file: Path, bars: Progress, *, force: bool, recorded: str = ""
) -> str:
    """Download into a file, which is there as a whole or not at all.

    Args:
        recorded: the SHA-256 of its record, in hexadecimal, if there is one.

    Returns:
        Its SHA-256, which was compared with that of the response and of the record.

    Raises:
        WrongUse: the file is there already.
        ApiError: it did not arrive as it was sent.
    """
    writable(file, force=force)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    task = bars.add_task(file.name, total=None)

    def told(size: int, total: int | None) -> None:
        bars.update(task, completed=size, total=total)

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        expected = client.save(path, part, told)
        with part.open("rb") as data:
            digest = hashlib.file_digest(data, "sha256").hexdigest()
        if {digest} != {digest, expected or digest, recorded or digest}:
            raise ApiError(f"{file.name} did not arrive as it was sent: download it again")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return digest


def file_name(file: Any) -> str:
    """The name of a file of an export, which leads out of no folder.

    Raises:
        ApiError: it is none.
    """
    name: str = file["name"]
    if name in ("", ".", "..") or Path(name).name != name or not name.isprintable():
        raise ApiError(f"the service names a file {name!r}: that is no name of a file")
    return name


def file_path(export: Any, file: Any) -> str:
    """Of a file of an export in the API."""
    return f"/v1/exports/{quote(export['id'], safe='')}/files/{quote(file['name'], safe='')}"


def import_files(path: Path) -> Sequence[Path]:
    """The files to send: those of an adapter's folder, or the one that is named.

    Raises:
        WrongUse: they are not there.
    """
    files = [path / name for name in _NAMES] if path.is_dir() else [path]
    for file in files:
        if not file.is_file():
            raise WrongUse(f"{file} is not there: name a file, or a folder with {_NAMES[0]}")
    return files


def _save_export(client: Client, made: Any, target: Path, *, force: bool) -> None:
    with _bars() as bars:
        if target.suffix == ".zip":
            archive = f"/v1/exports/{made['id']}/archive"
            fetch(client, archive, target, bars, force=force)
        else:
            for each in made["files"]:
                file, path = target / file_name(each), file_path(made, each)
                recorded = each["sha256"].removeprefix("sha256:")
                fetch(client, path, file, bars, force=force, recorded=recorded)
    proof = made["proof"] or {}
    proved = f", proved equal by {proof['loader']}" if proof.get("passed") else ""
    notes.print(f"{len(made['files'])} files in {target}{proved}", markup=False, soft_wrap=True)


@contextmanager
def _bars() -> Iterator[Progress]:
    """Bars of downloads, a line each, which stay in a terminal alone."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        DownloadColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=notes, disable=not notes.is_terminal) as bars:
        yield bars
