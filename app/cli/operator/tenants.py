"""`scalpel tenants`: what concerns a tenant as a whole."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from app.cli.options import Local, Yes, spread

tenants = typer.Typer(help="Tenants of this installation.", no_args_is_help=True)


@tenants.callback()
def _group() -> None:
    """With a single command, typer would leave out its name."""


@tenants.command("erase")
@spread
def erase(
    tenant: Annotated[str, typer.Argument(help="Its name.")],
    yes: Yes = False,
    local: Local = Local(),
) -> None:
    """Revoke its keys, end its work, and remove all that it has stored; nothing brings it back."""
    from app.domain.accounts.api_keys import ApiKeys
    from app.domain.erasure import erase_tenant
    from models_store.live.leases import connect
    from models_store.objects.store import open_store
    from models_store.work.store import WorkStore

    settings = local.store_settings()
    if not yes:
        typer.confirm(f"Remove everything of the tenant {tenant}?", abort=True)
    work = WorkStore(open_store(settings))
    with contextlib.closing(connect(settings)) as client:
        removed = erase_tenant(work, ApiKeys(work.objects, work.audit), client, tenant)
    for what, count in sorted(removed.items()):
        typer.echo(f"{count:8} {what}")
    typer.echo(f"{removed.total():8} objects of {tenant} were removed; the audit log keeps its ids")
