"""Memory of this process."""

from __future__ import annotations

from pathlib import Path


def peak_resident() -> int:
    """Most bytes that this process had in memory so far.

    Not `ru_maxrss`, which includes the memory of the parent at the fork.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
