"""The `scalpel` command line: which commands there are, and how they end."""

from __future__ import annotations

# ruff: noqa: E402 - imports take a fifth longer while the collector looks through what they bring
import gc

gc.disable()

import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Annotated

import typer
from pydantic import ValidationError

from app.cli.console import safe
from app.cli.operator import parts, store
from app.cli.operator.audit import audit
from app.cli.operator.keys import keys
from app.cli.operator.tenants import tenants
from app.cli.work import files, making, reading, receipt, sharing, sign_in
from app.cli.work.behaviors import behaviors
from app.cli.work.canary import canary
from app.cli.work.chat import chat
from app.cli.work.models import alias, models
from models_store.errors import InvalidRequest, ScalpelError

gc.enable()

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "the work failed, was canceled, or does not hold: an export is not applied, a file damaged",
    2: "wrong use: an option, a file, or a request that the service refuses as it is",
    3: "the service cannot be reached, or not now: the same command may work later",
    4: "the service wants a key, or one with another scope",
    130: "Ctrl-C",
}

Command = Callable[..., None] | typer.Typer
COMMANDS: Mapping[str, Mapping[str, Command]] = {
    "Edits": {
        "edit": making.edit,
        "estimate": making.estimate,
        "list": reading.list_,
        "show": reading.show,
        "watch": reading.watch,
        "receipt": receipt.receipt,
        "compare": receipt.compare,
        "measure": making.measure,
        "reproduce": making.reproduce,
        "import": making.import_,
        "download": files.download,
        "cancel": reading.cancel,
        "delete": reading.delete,
    },
    "Behaviours, models and exports": {
        "behaviors": behaviors,
        "models": models,
        "alias": alias,
        "chat": chat,
        "export": files.export,
        "exports": files.list_exports,
        "canary": canary,
        "push": sharing.push,
        "pull": sharing.pull,
    },
    "Service": {
        "login": sign_in.login,
        "logout": sign_in.logout,
        "up": parts.up,
        "demo": parts.demo,
        "doctor": parts.doctor,
    },
    "Operator": {
        "api": parts.api,
        "editor": parts.editor,
        "generator": parts.generator,
        "keys": keys,
        "tenants": tenants,
        "audit": audit,
        "config": store.config,
        "recover": store.recover,
        "repair": store.repair,
        "openapi": store.openapi,
    },
}
"""By panel of the help."""

app = typer.Typer(
    help="Edit large language models: name a base model and a behaviour, get a small weight edit "
    "with a receipt, and serve it at any strength.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scalpel {metadata.version('scalpel-edit')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; what goes wrong is said in a line, with an exit code of its own."""
    try:
        app()
    except ScalpelError as error:
        usual = 2 if isinstance(error, InvalidRequest) else 1
        _fail(error.message, getattr(error, "exit_code", usual))
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"SCALPEL_{name}: {problem['msg']}" if name else problem["msg"], err=True)
        sys.exit(2)
    except OSError as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    typer.echo(f"scalpel: {safe(message)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
