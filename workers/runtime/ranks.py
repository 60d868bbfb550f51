"""Do work in several processes at once, one a core, that share the weights of a model.

Threads that share each product of a small model wait for each other hundreds of times a token: a
second thread makes reading 1.2 times as fast, a second process nearly twice. A forked process has
all of its parent's memory, so nothing is sent to it; what it makes comes back through a pipe. Each
runs one thread, and so must the parent: threads that OpenMP has started do not survive a fork.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from models_store.process.lifetimes import die_with_parent

T = TypeVar("T")

most_bytes = 0
"""Memory that the other processes of a block had of their own at its end, the most so far."""


class Ranks:
    """A block of code that several processes run at the same time, each with a rank of its own.

    Rank 0 is this process; the others are forked from it at the block's beginning, and end where
    they have given their part. Only rank 0 leaves the block.

        with Ranks(4) as ranks:
            part = [f(item) for item in items[ranks.rank :: ranks.size]]
            parts = ranks.gather(part)

    Within the block nothing may be touched that another thread holds, such as a connection.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rank = 0
        self._children: list[tuple[int, int]] = []
        """Of rank 0: process and pipe of each other rank."""
        self._to_parent = -1

    def __enter__(self) -> Self:
        parent = os.getpid()
        for rank in range(1, self.size):
            from_child, to_parent = os.pipe()
            try:
                process = _fork()
            except OSError:  # no room for another process: this one does it all
                os.close(from_child)
                os.close(to_parent)
                self._end()
                self.size = 1
                break
            if process == 0:
                os.close(from_child)
                self._become(rank, to_parent, parent)
                break
            os.close(to_parent)
            self._children.append((process, from_child))
        return self

    def gather(self, part: T) -> list[T]:
        """The parts of all ranks in their order, at rank 0; the others end here.

        Raises:
            MemoryError: a process was killed, most likely for want of memory.
            Exception: what another rank raised in the block.
        """
        if self.rank:
            self._leave(part, None)
        global most_bytes
        parts, taken = [part], 0
        for _, from_child in self._children:
            with os.fdopen(from_child, "rb", closefd=False) as pipe:
                try:
                    value, error, private = pickle.load(pipe)  # noqa: S301 - of a process of ours
                except EOFError:
                    raise MemoryError("a process that did a part of the work was killed") from None
            if error is not None:
                raise error
            parts.append(value)
            taken += private
        most_bytes = max(most_bytes, taken)
        return parts

    def add_up(self, totals: Sequence[Any]) -> None:
        """Add what all other ranks have of some totals to those of rank 0, in place; the others end
        here. Those of other ranks must begin at zero.

        Raises: see `gather`.
        """
        for part in self.gather(totals)[1:]:
            for total, more in zip(totals, part, strict=True):
                total += more

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.rank:
            self._leave(None, error or RuntimeError("a rank gave no part"))
        self._end()

    def _end(self) -> None:
        """End the other processes, which are still at work where this one failed."""
        for process, from_child in self._children:
            os.close(from_child)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._children = []

    def _become(self, rank: int, to_parent: int, parent: int) -> None:
        """What is special about a forked process."""
        self.rank, self._to_parent, self._children = rank, to_parent, []
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent(parent)
        gc.freeze()  # what the parent has is not for this process to clean up

    def _leave(self, value: Any, error: BaseException | None) -> NoReturn:
        try:
            with os.fdopen(self._to_parent, "wb") as pipe:
                message = value, error, _private_bytes()
                pickle.dump(message, pipe, protocol=pickle.HIGHEST_PROTOCOL)
        finally:
            os._exit(0)


def _private_bytes() -> int:
    """Memory of this process that it does not share with its parent; 0 where nothing tells."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns where there are other threads: what they hold is not touched.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


ALONE = Ranks(1)
