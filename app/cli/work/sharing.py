"""`scalpel push` and `scalpel pull`: exports on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.client import ApiError
from app.cli.console import safe
from app.cli.options import Service, spread

Token = Annotated[
    str,
    typer.Option(
        envvar="HF_TOKEN",
        help="Access token of the hub; by default the one that `hf auth login` saved.",
        show_default=False,
    ),
]
Endpoint = Annotated[
    str, typer.Option(envvar="HF_ENDPOINT", help="Address of the hub.", show_default=False)
]


@spread
def push(
    export: Annotated[str, typer.Argument(help="An exp_… id.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Nobody else may see it.")] = False,
    token: Token = "",
    endpoint: Endpoint = "",
    service: Service = Service(),
) -> None:
    """Upload an export to the Hugging Face hub."""
    from app.cli.work import hub

    with service.connect() as client:
        pushed = hub.push(client, export, repo, token=token, endpoint=endpoint, private=private)
    typer.echo(safe(pushed))


def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME")],
    folder: Annotated[Path | None, typer.Argument(help="By default NAME.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, a tag or a commit.")] = None,
    token: Token = "",
    endpoint: Endpoint = "",
) -> None:
    """Download an export from the Hugging Face hub; check it."""
    from app.cli.work import hub

    target = folder or Path(repo.rpartition("/")[2])
    names, problems = hub.pull(repo, target, revision=revision, token=token, endpoint=endpoint)
    for name, problem in problems:
        typer.echo(safe(f"{problem} {name}"), err=True)
    if problems:
        raise ApiError(f"{len(problems)} of {len(names)} files are not what was pushed")
    typer.echo(f"{len(names)} files in {target}, all as they were pushed")
