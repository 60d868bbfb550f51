"""All that editors and generators import, for `tests.support.forked`."""

# ruff: noqa: F401
from __future__ import annotations

import workers.editor.__main__
import workers.generator.__main__
from workers.editor.process.preload import preload

preload()
