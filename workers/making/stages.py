"""The stages of an edit: what is told while one runs, and what each of them took."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from models_store.schemas.records import Stage
from workers.runtime.progress import Progress


class Stages:
    """Tells stage and progress of an edit, and keeps the seconds of each stage."""

    def __init__(self, report: Callable[[Stage, float], None], started_at: float) -> None:
        """Args:
        started_at: when the process began, by `time.monotonic()`; the first stage counts from
            there.
        """
        self._report = report
        self._started_at = started_at
        self._entered_at = started_at
        self.seconds: dict[str, float] = {}

    @property
    def total_seconds(self) -> float:
        """Since the process began."""
        return time.monotonic() - self._started_at

    @contextmanager
    def stage(self, name: Stage) -> Iterator[Progress]:
        """Do one stage; the block gets a callback for the share of it that is done."""
        self._report(name, 0.0)
        yield lambda share: self._report(name, min(1.0, share))
        now = time.monotonic()
        self.seconds[name] = now - self._entered_at
        self._entered_at = now


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_memory_bytes(device: torch.device) -> int | None:
    """The most memory taken on all accelerators together; None without one."""
    if device.type != "cuda":
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
