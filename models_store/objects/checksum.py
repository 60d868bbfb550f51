"""Records carry their own digest, so that one that was damaged, or put in the place of another, is
never taken for what was written.

    {"sha256":"<64 hex digits>", …the record's own fields…}

The digest is of the record's path and of its JSON without that first field. Records from before
there were digests have none; they are read as they are.
"""

from __future__ import annotations

import hashlib

from models_store.errors import CorruptArtifact

_HEAD = b'{"sha256":"'
_TAIL = b'",'
_BODY_AT = len(_HEAD) + 64 + len(_TAIL)


def seal(path: str, body: bytes) -> bytes:
    """The JSON object `body`, which is not empty, with its digest as first field."""
    return _HEAD + _digest(path, body) + _TAIL + body[1:]


def unseal(path: str, data: bytes) -> bytes:
    """The JSON object that was sealed; `data` itself where it never was.

    Raises:
        CorruptArtifact: it is not what was written under this path.
    """
    if not data.startswith(_HEAD):
        return data
    body = b"{" + data[_BODY_AT:]
    if data[:_BODY_AT] != _HEAD + _digest(path, body) + _TAIL:
        raise CorruptArtifact(f"the record {path} is damaged: its SHA-256 is not the one it has")
    return body


def _digest(path: str, body: bytes) -> bytes:
    return hashlib.sha256(path.encode() + b"\0" + body).hexdigest().encode()
