"""Identifiers: a prefix for the kind, and a ULID, which sorts by time of creation."""

from __future__ import annotations

import re

from ulid import ULID

from models_store.errors import NotFound

ID_PATTERN = re.compile(r"[A-Za-z0-9_]{1,64}")
BASE_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""Base models and aliases."""
SUFFIX_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
TENANT_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")

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
