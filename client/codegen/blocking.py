"""The blocking half of the client, from the other one: the same without `async` and `await`."""

from __future__ import annotations

import re

_REPLACED = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAwaitable, ", ""),
    (r"\b(Abstract)?Async(?=[A-Z])", r"\1"),
    (r"\bimport asyncio\b", "import time"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\ba(close|iter_lines|iter_raw|read)\b", r"\1"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\baclosing\b", "closing"),
    (r"\b_async\b", "_sync"),
]


def blocking(source: str) -> str:
    for pattern, replacement in _REPLACED:
        source = re.sub(pattern, replacement, source)
    return source
