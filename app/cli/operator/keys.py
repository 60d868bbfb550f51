"""`scalpel keys`: the API keys of this installation, of every tenant, in its store."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.console import safe
from app.cli.options import Local, spread

if TYPE_CHECKING:
    from app.domain.accounts.api_keys import ApiKeys

keys = typer.Typer(help="API keys of this installation.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="A key_… id.")]
_DAY = 24 * 3600


@keys.command("create")
@spread
def create_key(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: Annotated[
        str, typer.Option(help="Whose edits and models it gives access to.")
    ] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="May be given several times. Left out: all for the tenant default; for others "
            "edits:read, edits:write and models:generate."
        ),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="How long it is accepted; left out: for ever.")
    ] = None,
    local: Local = Local(),
) -> None:
    """Make an API key; it is shown once."""
    from app.domain.accounts.api_keys import ALL_SCOPES, DEFAULT_TENANT, USERS_SCOPES

    secret, key = _keys(local).create(
        name=name,
        tenant=tenant,
        scopes=scope or (ALL_SCOPES if tenant == DEFAULT_TENANT else USERS_SCOPES),
        expires_at=None if days is None else int(time.time() + days * _DAY),
    )
    _show_once(secret, key.id, tenant)


@keys.command("list")
@spread
def list_keys(local: Local = Local()) -> None:
    """List the keys; their secrets are not kept."""
    for state in _keys(local).all():
        key = state.key
        typer.echo(
            f"{key.id}  {state.status:<7}  {key.tenant}  {safe(key.name)}  {','.join(key.scopes)}  "
            f"expires {_day(state.expires_at)}  used {_day(state.last_used_at)}"
        )


@keys.command("revoke")
@spread
def revoke_key(key_id: KeyId, local: Local = Local()) -> None:
    """Accept a key no longer; the API notices within 3 seconds."""
    store = _keys(local)
    store.revoke(store.get(key_id))


@keys.command("rotate")
@spread
def rotate_key(
    key_id: KeyId,
    overlap_seconds: Annotated[
        int, typer.Option(min=0, help="How long the old key is still accepted.")
    ] = 0,
    local: Local = Local(),
) -> None:
    """Make a key in place of another one, with its rights; it is shown once."""
    store = _keys(local)
    secret, key = store.rotate(store.get(key_id), overlap_seconds=overlap_seconds)
    _show_once(secret, key.id, key.tenant)


def _keys(local: Local) -> ApiKeys:
    from app.domain.accounts.api_keys import ApiKeys
    from models_store.objects.store import open_store

    return ApiKeys(open_store(local.store_settings()))


def _show_once(secret: str, id: str, tenant: str) -> None:
    typer.echo(secret)
    typer.echo(f"{id} for tenant {tenant}; keep it, it is not shown again", err=True)


def _day(unix: int | None) -> str:
    return (
        "never" if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%MZ")
    )
