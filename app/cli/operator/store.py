"""The store of an installation, and its settings."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from app.cli.console import out
from app.cli.options import Local, spread

_PASSWORD = re.compile(r"(://[^/@\s]*:)[^/@\s]+@")
"""Of an address."""


@spread
def config(local: Local = Local()) -> None:
    """Print the settings in force."""
    from models_store.operator.policy import read_policy

    settings = local.settings()
    shown = settings.model_dump(mode="json")
    shown["internal_token"] = "set" if shown["internal_token"] else "not set"
    for name, value in shown.items():
        shown_value = "" if value is None else _PASSWORD.sub(r"\1…@", str(value))
        typer.echo(f"SCALPEL_{name.upper()}={shown_value}")
    typer.echo(f"# policy: {read_policy(settings).summary()}")


@spread
def recover(local: Local = Local()) -> None:
    """Look once at all open work, and mend what was cut off."""
    from app.loops.keeper import recover_once

    typer.echo(recover_once(local.store_settings()))


@spread
def repair(
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move them to the store's folder `quarantine`.")
    ] = False,
    local: Local = Local(),
) -> None:
    """List records of the store that cannot be read."""
    from app.domain.repair import find_damaged
    from app.domain.repair import quarantine as put_aside
    from models_store.objects.store import open_store

    objects = open_store(local.store_settings())
    damaged = list(find_damaged(objects))
    for each in damaged:
        out.print(f"[red]damaged[/] {each.path}\n        {each.problem}")
        for path in put_aside(objects, each) if quarantine else ():
            out.print(f"        moved to quarantine/{path}")
    if not damaged:
        out.print("every record can be read")
    elif not quarantine:
        out.print(f"{len(damaged)} damaged; `scalpel repair --quarantine` moves them away")
    sys.exit(bool(damaged) and not quarantine)


def openapi() -> None:
    """Print the OpenAPI document."""
    from app.cli.openapi import openapi_document

    typer.echo(openapi_document(), nl=False)
