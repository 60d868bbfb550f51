"""Services that `scalpel login` has stored: addresses and keys, in a file of the user's own."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from pydantic import BaseModel, SecretStr, ValidationError, field_serializer

from app.cli.client import DEFAULT_URL, Client, WrongUse

USUAL = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Profile(BaseModel, extra="ignore"):
    """One service, and the key for it."""

    url: str
    key: SecretStr = SecretStr("")

    @field_serializer("key", when_used="json")
    def _show(self, key: SecretStr) -> str:
        return key.get_secret_value()


class Profiles(BaseModel, extra="ignore"):
    """The file."""

    profiles: dict[str, Profile] = {}


def profiles_file() -> Path:
    """In the user's configuration folder (XDG)."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "scalpel" / "profiles.json"


def read_profiles() -> dict[str, Profile]:
    """Raises:
    WrongUse: the file is there and cannot be read.
    """
    file = profiles_file()
    try:
        return Profiles.model_validate_json(file.read_bytes()).profiles
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not as it was written"
        raise WrongUse(f"{file} cannot be read ({reason}): `scalpel login` needs it") from error


def check_name(name: str) -> None:
    """Raises:
    WrongUse: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise WrongUse(f"--profile {name!r} is no name: letters, digits, points and hyphens")


def store_profile(name: str, profile: Profile | None) -> Path:
    """Put one into the file, which only its owner can read; None takes it out."""
    kept = {key: value for key, value in read_profiles().items() if key != name}
    if profile is not None:
        kept[name] = profile
    file = profiles_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    text = json.dumps(Profiles(profiles=kept).model_dump(mode="json"), indent=2)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text + "\n")
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return file


def connect(url: str, key: str, profile: str = "") -> Client:
    """The service that is named by address or by profile, else by SCALPEL_URL, else by
    SCALPEL_PROFILE, else the one that is stored as `default`, else that of this machine. A stored
    key goes to its own address only.

    Args:
        url, key, profile: as they are given to a command; a profile puts SCALPEL_URL and
            SCALPEL_API_KEY out of force.

    Raises:
        WrongUse: there is no such profile, or an address beside it.
    """
    if profile and url:
        raise WrongUse("--profile names an address by itself: give it or --url")
    if not profile:
        profile = os.environ.get("SCALPEL_PROFILE", "")
        url = url or os.environ.get("SCALPEL_URL", "")
        key = key or os.environ.get("SCALPEL_API_KEY", "")
    stored = None if url and key else _stored(profile)
    if stored is not None and url and url.rstrip("/") != stored.url.rstrip("/"):
        stored = None
    if stored is None:
        return Client(url or DEFAULT_URL, key or None)
    return Client(url or stored.url, key or stored.key.get_secret_value() or None)


def _stored(name: str) -> Profile | None:
    known = read_profiles()
    if name and name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise WrongUse(f"there is no profile {name!r}: `scalpel login` has stored {names}")
    return known.get(name or USUAL)
