"""Sets the clock of a Python process wrong by `WRONG_BY_SECONDS`, before it imports anything."""

import os
import time

_right = time.time
_wrong_by = float(os.environ["WRONG_BY_SECONDS"])
time.time = lambda: _right() + _wrong_by
