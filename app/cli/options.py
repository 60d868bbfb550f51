"""Options that many commands have, as dataclasses that a command takes whole."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from app.cli.client import Client, WrongUse, expecting_scalpel
from app.cli.console import notes
from app.cli.profiles import connect
from models_store.settings import Settings

_SERVICE = "Service"

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
Wait = Annotated[bool, typer.Option(help="Show the progress until it is done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace files that are there.")]


@dataclass(frozen=True)
class Service:
    """Where the API is."""

    url: Annotated[
        str,
        typer.Option(
            help="Address of the API (SCALPEL_URL); by default that of `scalpel login`, else this "
            "machine.",
            show_default=False,
            rich_help_panel=_SERVICE,
        ),
    ] = ""
    key: Annotated[
        str,
        typer.Option(
            help="API key, where the API asks for one (SCALPEL_API_KEY).",
            show_default=False,
            rich_help_panel=_SERVICE,
        ),
    ] = ""
    profile: Annotated[
        str,
        typer.Option(
            help="A service that `scalpel login --profile` stored (SCALPEL_PROFILE).",
            show_default=False,
            rich_help_panel=_SERVICE,
        ),
    ] = ""

    def connect(self) -> Client:
        return connect(self.url, self.key, self.profile)


@dataclass(frozen=True)
class Local:
    """The folder of an installation on this machine."""

    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the local store.", show_default="SCALPEL_DATA"),
    ] = None

    def settings(self, **changes: Any) -> Settings:
        given = {"data": self.data, **changes}
        return Settings(**{name: value for name, value in given.items() if value is not None})

    def store_settings(self) -> Settings:
        """Says which store it is, so that nobody takes one for another."""
        settings = self.settings()
        notes.print(f"store: {settings.store}", style="dim", markup=False, soft_wrap=True)
        return settings


def writable(path: Path, *, force: bool) -> None:
    """Look before anything is asked for whether a file, or a folder of files, is free.

    Raises:
        WrongUse: it is there already, and is not to be replaced.
    """
    there = any(path.iterdir()) if path.is_dir() else path.exists()
    if there and not force:
        raise WrongUse(f"{path} is there already: --force replaces it, --output names another")


def remove(client: Client, path: str, what: str, *, yes: bool, verb: str = "delete") -> None:
    """Ask, delete what has that path in the API, and say so."""
    if not yes:
        typer.confirm(f"{verb.capitalize()} {what}?", abort=True, err=True)
    client.delete(path)
    typer.echo(f"{path.rpartition('/')[2]} {verb}d")


def spread(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the fields of its dataclasses as options of its own."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, type] = {}
    plain: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        kind = hints[parameter.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            groups[parameter.name] = kind
            plain += _parameters(kind)
        else:
            plain.append(parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY))

    talks = Service in groups.values()

    @functools.wraps(function)
    def command(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in _parameters(kind)})
        with expecting_scalpel("the service") if talks else contextlib.nullcontext():
            function(**given)

    del command.__wrapped__
    command.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in plain}
    return command


def _parameters(kind: type) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
