"""Many calls as few: what is asked for while a call is under way is asked for by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Batches(Generic[K, V]):
    """Values by key, from a function that is called in a thread, for many keys at a time.

    A call begins after all its keys were asked for, so a value is never older than its request.
    """

    def __init__(self, call: Callable[[Sequence[K]], Sequence[V | Exception]], name: str) -> None:
        """Args:
        call: gives a value or an exception for each key.
        name: of the thread.
        """
        self._call = call
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._under_way = False

    async def get(self, key: K) -> V:
        """The value of the key; raises what the function gives or raises."""
        loop = asyncio.get_running_loop()
        value: asyncio.Future[V] = loop.create_future()
        self._waiting.append((key, value))
        if not self._under_way:
            self._under_way = True
            loop.call_soon(self._begin, loop)
        return await value

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting, []

        def end(done: asyncio.Future[Sequence[V | Exception]]) -> None:
            for (_, waiting), value in zip(batch, done.result(), strict=True):
                if waiting.done():
                    continue  # whoever asked has left
                if isinstance(value, Exception):
                    waiting.set_exception(value)
                else:
                    waiting.set_result(value)
            if self._waiting:
                self._begin(loop)
            else:
                self._under_way = False

        keys = [key for key, _ in batch]
        loop.run_in_executor(self._thread, self._values, keys).add_done_callback(end)

    def _values(self, keys: Sequence[K]) -> Sequence[V | Exception]:
        try:
            return self._call(keys)
        except Exception as error:
            return [error] * len(keys)
