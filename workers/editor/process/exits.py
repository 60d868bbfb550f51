"""How processes of an editor end at once, a child before its job returns, and when it began."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

FAULT = 1
"""Something broke outside the work itself."""
HANDED_BACK = 75
"""Another attempt is to do it."""
ABANDONED = 76
"""Canceled, or ended by the keeper: nothing is left to do."""
ON_PURPOSE = (HANDED_BACK, ABANDONED)

forked_at = 0.0
"""`time.monotonic()` at the child's beginning; 0 outside of an editor."""


def leave(code: int) -> NoReturn:
    """End this process now, from any thread, whatever the others are doing."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
