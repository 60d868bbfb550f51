"""The daily sweep of a store in a process of its own, whose memory is nothing else's.

    python -m benchmarks.serving.s3_sweep

takes the store from the environment, as the API does, and prints seconds and bytes.
"""

from __future__ import annotations

import time

from app.loops.keeper.sweep import sweep
from benchmarks.memory import peak_resident
from models_store.objects.store import open_store
from models_store.settings import Settings
from models_store.work.store import WorkStore


def main() -> None:
    work = WorkStore(open_store(Settings()))
    before = peak_resident()
    started = time.perf_counter()
    sweep(work, lambda: False)
    print(time.perf_counter() - started, peak_resident() - before)


if __name__ == "__main__":
    main()
