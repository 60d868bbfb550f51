"""Records carry a SHA-256, so that one that was damaged or moved to another path is noticed.

    {"sha256":"<64 hex digits>", …the record's fields…}

It is over the record's path and its JSON without that first field. Older records have none and are
read as they are.
"""

from __future__ import annotations

import hashlib

from models_store.errors import CorruptArtifact

_HEAD = b'{"sha256":"'
_TAIL = b'",'
_BODY_AT = len(_HEAD) + 64 + len(_TAIL)


def with_checksum(path: str, body: bytes) -> bytes:
    """The JSON object `body`, which is not empty, with its checksum as first field."""
    return _HEAD + _digest(path, body) + _TAIL + body[1:]


def without_checksum(path: str, data: bytes) -> bytes:
    """The JSON object without its checksum, once that was verified; older records as they are.

    Raises:
        CorruptArtifact: this is not what was written under the path.
    """
    if not data.startswith(_HEAD):
        return data
    body = b"{" + data[_BODY_AT:]
    if data[:_BODY_AT] != _HEAD + _digest(path, body) + _TAIL:
        raise CorruptArtifact(f"the record {path} is damaged: its SHA-256 is not the one it has")
    return body


def _digest(path: str, body: bytes) -> bytes:
    return hashlib.sha256(path.encode() + b"\0" + body).hexdigest().encode()
