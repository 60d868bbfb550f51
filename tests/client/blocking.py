"""The client with `async` as if it had none, so that tests run with both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

_OWN = "scalpel_client"


class Blocking:
    """Whatever is taken from it is run to its end on one event loop."""

    def __init__(self, inner: Any, runner: asyncio.Runner) -> None:
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._wrapped(getattr(self._inner, name))

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        result = self._inner(*arguments, **keywords)
        return self._wrapped(self._runner.run(result) if inspect.iscoroutine(result) else result)

    def __iter__(self) -> Iterator[Any]:
        iterator: AsyncIterator[Any] = aiter(self._inner)
        try:
            while True:
                try:
                    item = self._runner.run(_next(iterator))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if inspect.isasyncgen(iterator):
                self._runner.run(_close(iterator))

    def _wrapped(self, value: Any) -> Any:
        """What may wait: functions, and what this package has that is not a response."""
        of_client = type(value).__module__.startswith(f"{_OWN}._async")
        if inspect.isroutine(value) or inspect.isasyncgen(value) or of_client:
            return value if hasattr(value, "model_dump") else Blocking(value, self._runner)
        return value


async def _next(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator)


async def _close(iterator: Any) -> None:
    await iterator.aclose()
