"""Independent seeds for every use of chance, all drawn from the one seed of the request."""

from __future__ import annotations

import hashlib


def derive(seed: int, purpose: str) -> int:
    """A seed for one purpose, in [0, 2**31); the same on every machine and for ever."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
