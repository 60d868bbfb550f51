"""Storing the address and key of a service, and forgetting them."""

from __future__ import annotations

import sys
from typing import Annotated

import httpx
import typer
from pydantic import SecretStr

from app.cli.client import DEFAULT_URL, Client, NotAllowed, expecting_scalpel
from app.cli.console import notes
from app.cli.profiles import USUAL, Profile, check_name, profiles_file, read_profiles, store_profile
from models_store.settings import is_loopback

ProfileName = Annotated[
    str, typer.Option("--profile", envvar="SCALPEL_PROFILE", help="A name for the service.")
]


def login(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = DEFAULT_URL,
    profile: ProfileName = USUAL,
) -> None:
    """Store address and key of a service (asked for, or stdin)."""
    check_name(profile)
    address = url.rstrip("/") if "://" in url else f"https://{url.rstrip('/')}"
    with Client(address) as client, expecting_scalpel(address):
        version = client.get("/version")["version"]
    if _is_read_by_others(address):
        notes.print("note: without https, whoever is on the way can read the key", style="yellow")
    key = _asked_key()
    with Client(address, key) as client:
        try:
            client.get("/v1/models")
        except NotAllowed as error:
            if error.status != 403:  # which a key of this service for other calls gets
                raise
    file = store_profile(profile, Profile(url=address, key=SecretStr(key)))
    typer.echo(f"{address} (Scalpel {version}) stored as {profile!r} in {file}")


def logout(profile: ProfileName = USUAL) -> None:
    """Forget a service and its key."""
    if profile not in read_profiles():
        typer.echo(f"{profile!r} is not stored in {profiles_file()}")
        return
    typer.echo(f"{profile!r} taken out of {store_profile(profile, None)}")


def _asked_key() -> str:
    if sys.stdin.isatty():
        key: str = typer.prompt(
            "API key (empty: none)", hide_input=True, default="", show_default=False, err=True
        )
    else:
        key = sys.stdin.readline()
    return key.strip()


def _is_read_by_others(address: str) -> bool:
    parsed = httpx.URL(address)
    return parsed.scheme == "http" and not is_loopback(parsed.host)
