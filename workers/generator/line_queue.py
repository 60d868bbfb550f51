"""Lines from the engine's thread to the reader of one response."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from models_store.schemas.generation import Finished, GenerationError
from workers.generator.engine.choice import Piece

EngineLine = Piece | Finished | GenerationError


class LineQueue:
    """Lines that the reader has not taken yet.

    A slow reader blocks nobody; waiting pieces of a choice are joined, so the queue is never longer
    than the text.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the reader's event loop."""
        self._loop = loop
        self._lock = threading.Lock()
        self._pieces: dict[int, list[Piece]] = {}
        self._ends: list[Finished | GenerationError] = []
        self._filled = asyncio.Event()

    def put(self, line: EngineLine) -> None:
        """Called from the engine's thread; never blocks."""
        with self._lock:
            idle = not self._pieces and not self._ends
            if isinstance(line, Piece):
                self._pieces.setdefault(line.index, []).append(line)
            else:
                self._ends.append(line)
        if idle:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads
                self._loop.call_soon_threadsafe(self._filled.set)

    async def take(self) -> list[EngineLine]:
        """All waiting lines, text first, since the end of a choice comes after its text."""
        await self._filled.wait()
        with self._lock:
            self._filled.clear()
            pieces, self._pieces = self._pieces, {}
            ends, self._ends = self._ends, []
        return [*map(_joined, pieces.values()), *ends]


def _joined(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        index=pieces[0].index,
        text="".join(piece.text for piece in pieces),
        prompt=pieces[0].prompt,
        scored=tuple(token for piece in pieces for token in piece.scored),
    )
