"""The most memory that an edit has taken, for its receipt."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_memory_bytes(device: torch.device) -> int | None:
    """The most memory taken on all accelerators together; None without one."""
    if device.type != "cuda":
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
