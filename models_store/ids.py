"""Identifiers: a prefix for the kind, and a ULID, which sorts by time of creation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ulid import ULID

from models_store.errors import NotFound

ID_PATTERN = re.compile(r"[A-Za-z0-9_]{1,64}")
BASE_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""Base models and aliases."""
SUFFIX_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
TENANT_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")

HUB_REPO = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
WORK_ID = "^([A-Za-z0-9_]{0,37}_)?[A-Za-z0-9]{26}$"
VISIBLE = r"^[!-~]{1,1000}$"
IN_WORDS: Mapping[str, str] = {
    f"^{BASE_ID_PATTERN.pattern}$": (
        "1 to 63 of a-z, 0-9, '.' and '-', the first a letter or digit"
    ),
    f"^{SUFFIX_PATTERN.pattern}$": "1 to 40 of a-z, 0-9 and '-', the first a letter or digit",
    f"^{TENANT_PATTERN.pattern}$": "1 to 64 of A-Z, a-z, 0-9, '_' and '-'",
    HUB_REPO: "OWNER/NAME, as on the Hugging Face hub",
    WORK_ID: "an id, such as edit_01KB0000000000000000000000",
    VISIBLE: "1 to 1,000 visible ASCII characters, without spaces",
}
"""What people are told of the patterns that fields of requests must match."""

PREFIXES = {
    "edit": "edit",
    "export": "exp",
    "base_model": "bm",
    "behavior": "beh",
    "file": "file",
    "webhook": "whk",
    "api_key": "key",
}
_BUCKET_LENGTH = 5


def new_id(kind: str) -> str:
    """A new id such as `edit_01KB…`."""
    return f"{PREFIXES[kind]}_{ULID()}"


def bucket_of(work_id: str) -> str:
    """The folder that holds `work_id`: the first 5 characters of its ULID (about 9 hours).

    Raises:
        NotFound: the id is not one that Scalpel gives.
    """
    _, _, ulid = work_id.rpartition("_")
    if not ID_PATTERN.fullmatch(work_id) or len(ulid) != 26:
        raise NotFound(f"no such id: {work_id!r}")
    return ulid[:_BUCKET_LENGTH]


def bucket_at(seconds: float) -> str:
    """The folder of work with an id that is made at `seconds` (Unix time)."""
    return str(ULID.from_timestamp(seconds))[:_BUCKET_LENGTH]
