"""What a JSON text would take in memory, looked at before it is parsed.

`[[],[],…]` takes twenty times its length, and brackets within brackets take a stack: neither can be
seen from the length of a body.
"""

from __future__ import annotations

import re

from models_store.errors import Malformed, TooLarge

MAX_VALUES = 1_000_000
MAX_DEPTH = 100
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = frozenset(b"[{")


def check_shape(data: bytes, name: str) -> None:
    """Refuse what has too many values, or is nested too deeply.

    Raises:
        TooLarge, Malformed: it is so.
    """
    opened = _opened(data)
    if opened <= MAX_DEPTH and opened + data.count(b",") <= MAX_VALUES:
        return
    # What stands in texts does not count.
    bare = _STRING.sub(b"", data)
    opened = _opened(bare)
    if opened + bare.count(b",") > MAX_VALUES:
        raise TooLarge(f"{name} has more than {MAX_VALUES} values: send less at a time")
    if opened > MAX_DEPTH and _depth(bare) > MAX_DEPTH:
        raise Malformed(f"{name} is nested too deeply: {MAX_DEPTH} levels are the most")


def _opened(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _depth(bare: bytes) -> int:
    depth = deepest = 0
    for bracket in bare.translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > deepest:
            deepest = depth
            if deepest > MAX_DEPTH:
                break
    return deepest
