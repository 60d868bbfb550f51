"""Options that many commands have, as dataclasses that a command takes whole."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from app.cli.client import Client
from app.cli.console import notes
from app.cli.profiles import connect
from models_store.settings import Settings

_SERVICE = "Service"

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
Wait = Annotated[bool, typer.Option(help="Show the progress until it is done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class Service:
    """Where the API is."""

    url: Annotated[
        str,
        typer.Option(
            envvar="SCALPEL_URL",
            help="Address of the API; by default that of `scalpel login`, else this machine.",
            show_default=False,
            rich_help_panel=_SERVICE,
        ),
    ] = ""
    key: Annotated[
        str,
        typer.Option(
            envvar="SCALPEL_API_KEY",
            help="API key, where the API asks for one.",
            show_default=False,
            rich_help_panel=_SERVICE,
        ),
    ] = ""
    profile: Annotated[
        str,
        typer.Option(
            envvar="SCALPEL_PROFILE",
            help="A service that `scalpel login --profile` stored.",
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

    @functools.wraps(function)
    def command(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in _parameters(kind)})
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
