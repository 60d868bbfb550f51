"""The built-in engine as a `TextEngine` and `TextReader`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.concurrency import run_in_threadpool

from models_store.schemas.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.schemas.generation import (
    Finished,
    GenerationError,
    GenerationRequest,
    TextPiece,
)
from workers.generator import examine
from workers.generator.engine.choice import Piece
from workers.generator.engine.engine import Engine, Job
from workers.generator.engine.token_names import PieceNames
from workers.generator.jobs import prepare
from workers.generator.line_queue import LineQueue
from workers.generator.protocol import Line
from workers.generator.shelf import Shelf


class BuiltIn:
    """Generates and reads texts with the base models that it loads."""

    serves: tuple[str, ...] | None = None

    def __init__(self, shelf: Shelf, engine: Engine) -> None:
        self._shelf = shelf
        self._engine = engine

    @property
    def base_models(self) -> tuple[str, ...]:
        return self._shelf.base_models

    @property
    def busy(self) -> int:
        return self._engine.busy

    async def begin(self, request: GenerationRequest) -> AsyncGenerator[Line]:
        lines = LineQueue(asyncio.get_running_loop())
        job = await run_in_threadpool(prepare, self._shelf, request, lines.put)
        self._engine.submit(job)
        named = PieceNames(job.side.base.tokenizer, request.n)
        return self._lines(job, lines, named)

    async def _lines(self, job: Job, lines: LineQueue, named: PieceNames) -> AsyncGenerator[Line]:
        open_choices = len(job.choices)
        try:
            while open_choices:
                for line in await lines.take():
                    open_choices -= isinstance(line, Finished)
                    if not isinstance(line, Piece):
                        yield line
                    elif line.prompt or line.scored:
                        for piece in await run_in_threadpool(named.pieces, line):
                            yield piece
                    else:
                        yield TextPiece(index=line.index, text=line.text)
                    if isinstance(line, GenerationError):
                        return
        finally:
            self._engine.cancel(job)

    def estimate(self, request: EstimateRequest) -> Estimate:
        return examine.estimate(self._shelf, self._engine, request)

    def probe(self, request: ProbeRequest) -> ProbeScores:
        return examine.probe_scores(self._shelf, self._engine, request)

    def close(self) -> None:
        self._engine.close()
