"""Calls that are made together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.domain.batches import Batches


def test_what_is_asked_for_meanwhile_is_asked_for_together() -> None:
    calls: list[list[int]] = []
    gate = threading.Event()

    def double(numbers: Sequence[int]) -> list[int | Exception]:
        calls.append(list(numbers))
        gate.wait(10)
        return [2 * number for number in numbers]

    async def ask() -> list[int]:
        batches: Batches[int, int] = Batches(double, "test")
        first = asyncio.create_task(batches.get(1))
        while not calls:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.get(number)) for number in (2, 3, 2)]
        await asyncio.sleep(0)
        gate.set()
        return [await task for task in (first, *others)]

    assert asyncio.run(ask()) == [2, 4, 6, 4]
    assert calls == [[1], [2, 3, 2]]


def test_each_has_its_own_error_and_who_leaves_harms_nobody() -> None:
    def thirds(numbers: Sequence[int]) -> list[int | Exception]:
        if 13 in numbers:
            raise KeyError("all of them")
        return [ValueError(str(number)) if number % 3 else number // 3 for number in numbers]

    async def ask() -> None:
        batches: Batches[int, int] = Batches(thirds, "test")
        leaving = asyncio.create_task(batches.get(6))
        staying, wrong = (asyncio.create_task(batches.get(number)) for number in (9, 10))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 3
        with pytest.raises(ValueError, match="10"):
            await wrong
        with pytest.raises(KeyError):
            await batches.get(13)
        assert await batches.get(3) == 1

    asyncio.run(ask())
