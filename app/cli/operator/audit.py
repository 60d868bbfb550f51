"""`scalpel audit`: the head of the audit log, whether it is whole, and what is in it."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Annotated

import typer

from app.cli.console import Column, print_table
from app.cli.options import Local, spread
from models_store.errors import InvalidRequest

audit = typer.Typer(help="The audit log of this installation.", no_args_is_help=True)
_COLUMNS = (
    Column("time", lambda line: datetime.fromtimestamp(line["at"]).isoformat(" ", "seconds")),
    Column("event", "event"),
    Column("tenant", "tenant"),
    Column("key", "key_id", spare=1),
    Column("what", lambda line: " ".join(f"{k}={v}" for k, v in line["fields"].items())),
    Column("chain", "writer", spare=2),
    Column("line", "n", spare=2),
)
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


@audit.command()
@spread
def head(local: Local = Local()) -> None:
    """Print the head: keep it elsewhere, and `verify --head` finds whatever is changed later."""
    from models_store.audit.heads import make_head
    from models_store.objects.store import open_store

    made = make_head(open_store(local.store_settings()))
    typer.echo(made.hash)
    sealed = 0 if made.sealed is None else made.sealed[0] + 1
    typer.echo(f"covers {len(made.tips)} chains and {sealed} segments", err=True)


@audit.command()
@spread
def verify(
    head: Annotated[
        list[str] | None, typer.Option(help="A head noted before; may be given several times.")
    ] = None,
    local: Local = Local(),
) -> None:
    """Walk the whole log: exit code 1 if anything in it was changed, removed or put in."""
    from models_store.audit.check import check_log
    from models_store.objects.store import open_store

    checked = check_log(open_store(local.store_settings()), heads=head or ())
    for problem in checked.problems:
        typer.echo(problem)
    what = f"{checked.lines} lines in {checked.chains} chains, against {checked.heads} heads"
    if checked.problems:
        typer.echo(f"scalpel: the audit log is not whole ({what})", err=True)
        sys.exit(1)
    typer.echo(f"whole: {what}")
    if not head:
        typer.echo(
            "without --head it is unknown whether the end was cut off together with the store's "
            "own record of it",
            err=True,
        )


@audit.command("list")
@spread
def list_lines(
    since: Annotated[
        str, typer.Option(help="Such as 30m, 12h, 7d, or 2026-11-25T10:00.", show_default=False)
    ] = "",
    tenant: Annotated[str, typer.Option(help="Of this tenant only.")] = "",
    event: Annotated[str, typer.Option(help="Events that begin so, such as edit.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    local: Local = Local(),
) -> None:
    """Print lines in order of time."""
    from models_store.audit.check import lines_of
    from models_store.objects.store import open_store

    first = _moment(since) if since else 0.0
    lines = (
        line
        for line in lines_of(open_store(local.store_settings()), since=first)
        if tenant in ("", line.tenant) and line.event.startswith(event)
    )
    if json:
        for line in lines:
            typer.echo(line.to_bytes().decode())
        return
    print_table(_COLUMNS, [line.model_dump() for line in lines])


def _moment(text: str) -> float:
    """Unix seconds of a time, or of one so long ago."""
    try:
        if text[-1] in _UNITS:
            return time.time() - float(text[:-1]) * _UNITS[text[-1]]
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidRequest(
            f"--since {text!r} is no time: write 30m, 12h, 7d or 2026-11-25T10:00"
        ) from error
