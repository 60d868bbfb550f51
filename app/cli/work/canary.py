"""`scalpel canary`: ask a server, from this machine, whether it serves an export."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from app.cli.client import WrongUse, checked_key
from app.cli.console import print_json, safe
from app.cli.options import Service, spread

if TYPE_CHECKING:
    from app.domain.canaries.asking import CanaryCheck, Post
    from models_store.schemas.canary import Canary

_SECONDS = 60.0
_WORDS = {
    "applied": "applied",
    "not_applied": "not applied: the base model is served",
    "other_strength": "applied at another strength",
    "something_else": "something else is served",
    "undecided": "cannot tell",
}


@spread
def canary(
    export: Annotated[
        str, typer.Argument(help="An exp_… id, or @FILE with the canary of an export.")
    ],
    server: Annotated[str, typer.Option(help="Address of the server to ask, with OpenAI's API.")],
    model: Annotated[str, typer.Option(help="What it calls the model or adapter.")],
    base_model: Annotated[
        str, typer.Option(help="What it calls the base model, where it serves that as well.")
    ] = "",
    server_key: Annotated[
        str, typer.Option(envvar="SCALPEL_SERVER_KEY", help="API key, where it asks for one.")
    ] = "",
    rows: Annotated[bool, typer.Option("--rows", help="Show each prompt.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    service: Service = Service(),
) -> None:
    """Say by its answers whether a server serves an export."""
    known = _canary(export, service)
    key = checked_key(server_key)
    found = asyncio.run(_checked(known, server, model, key, base_model or None))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found, rows=rows)
    sys.exit(found.outcome != "applied")


def _canary(export: str, service: Service) -> Canary:
    from models_store.objects.versions import parse_stored
    from models_store.schemas.canary import Canary

    if not export.startswith("@"):
        with service.connect() as client:
            return parse_stored(Canary, client.download(f"/v1/exports/{export}/canary"), export)
    try:
        data = Path(export[1:]).read_bytes()
    except OSError as error:
        raise WrongUse(f"{export[1:]} cannot be read: {error}") from error
    return parse_stored(Canary, data, export[1:])


async def _checked(
    known: Canary, server: str, model: str, key: str, base_model: str | None
) -> CanaryCheck:
    # Imported here: other commands have no use for it.
    from app.domain.canaries.asking import check
    from app.domain.canaries.sending import headers_for, root_of

    async with httpx.AsyncClient(headers=headers_for(key or None), timeout=_SECONDS) as http:
        return await check(known, model, _post(http, root_of(server)), base_model)


def _post(http: httpx.AsyncClient, root: str) -> Post:
    async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        try:
            response = await http.post(root + path, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError(str(error) or type(error).__name__) from error
        return response.status_code, response.content

    return post


def _show(found: CanaryCheck, *, rows: bool) -> None:
    words = _WORDS[found.outcome]
    if found.outcome == "other_strength":
        words += f" (about {found.strength:g})"
    if found.outcome != "undecided":
        words += f", certainty {found.certainty:.1%}"
    typer.echo(words)
    typer.echo(safe(f"{found.model} against {found.variant}: {found.reason}"))
    if found.strength is not None:
        typer.echo(f"strength {found.strength:g} (95 %: {found.low:g} to {found.high:g})")
    for row in found.prompts if rows else ():
        typer.echo(f"{row.prompt!r}: base {row.base!r}, edit {row.edited!r}, here {row.served!r}")
