"""What a slow reader has waiting."""

from __future__ import annotations

import asyncio
import threading

from models_store.schemas.generation import Finished
from workers.generator.engine.choice import Piece
from workers.generator.line_queue import LineQueue


def piece(index: int, text: str) -> Piece:
    return Piece(index, text)


END = Finished(index=0, finish_reason="stop", prompt_tokens=1, completion_tokens=2)


def test_pieces_that_wait_become_one_and_an_end_comes_last() -> None:
    async def read() -> None:
        lines = LineQueue(asyncio.get_running_loop())
        lines.put(piece(0, "a"))
        assert await lines.take() == [piece(0, "a")]
        for line in (piece(0, "b"), piece(1, "x"), piece(0, "c"), END, piece(1, "y")):
            lines.put(line)
        assert await lines.take() == [piece(0, "bc"), piece(1, "xy"), END]

    asyncio.run(read())


def test_nothing_is_lost_between_threads() -> None:
    async def read() -> str:
        lines = LineQueue(asyncio.get_running_loop())

        def write() -> None:
            for number in range(5000):
                lines.put(piece(0, f"{number} "))
            lines.put(END)

        thread = threading.Thread(target=write)
        thread.start()
        text = ""
        while True:
            for line in await lines.take():
                if isinstance(line, Finished):
                    thread.join()
                    return text
                assert isinstance(line, Piece)
                text += line.text

    assert asyncio.run(read()) == "".join(f"{number} " for number in range(5000))
