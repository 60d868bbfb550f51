"""The engine: one thread that decodes everything, one step of each batch after the other.

Requests that wait together are decoded together, whichever variant each is for; one that comes
later starts a batch of its own at once, whose steps alternate with those of the older ones. Rows
leave when they end or when their reader has gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog
import torch

from models_store.errors import ScalpelError, Unavailable
from models_store.generation import Finished, GenerationError, TextPiece
from workers.generator.text import TextStream
from workers.runtime.decode import Decoding, Request, Token
from workers.runtime.side_path import SidePath

_log = structlog.get_logger()

Line = TextPiece | Finished | GenerationError
Sink = Callable[[Line], None]
"""Takes a line of the answer; called from the engine's thread, must not block."""


@dataclass(eq=False)
class Choice:
    """One row: what is to be decoded and the text it has become."""

    index: int
    request: Request
    text: TextStream
    made: int = 0


@dataclass(eq=False)
class Job:
    """One request's choices, all on one base model."""

    side: SidePath
    choices: Sequence[Choice]
    sink: Sink
    gone: bool = False
    """Its reader has left, or was told of an error: nothing more is decoded for it."""
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.choices)


@dataclass(eq=False)
class _Batch:
    decoding: Decoding
    members: list[tuple[Job, Choice]]
    """By row."""


class Engine:
    """Decodes jobs; `submit` and `cancel` may be called from any thread."""

    def __init__(self, *, most_rows: int = 64, most_waiting: int = 512) -> None:
        self._most_rows = most_rows
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[Job, Choice]] = deque()
        self._batches: list[_Batch] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> int:
        """Rows that are decoded or wait to be."""
        with self._changed:
            return len(self._waiting) + sum(len(batch.members) for batch in self._batches)

    def submit(self, job: Job) -> None:
        """Take a job in; its lines go to its sink, the last of each choice is its end.

        Raises:
            Unavailable: too much is waiting already, or the engine is closing.
        """
        with self._changed:
            if self._closing:
                raise Unavailable("this generator is shutting down", code="overloaded")
            if len(self._waiting) + len(job.choices) > self._most_waiting:
                raise Unavailable(
                    f"{len(self._waiting)} completions are waiting already", code="overloaded"
                )
            self._waiting.extend((job, choice) for choice in job.choices)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Stop decoding a job within one step."""
        job.gone = True

    def close(self) -> None:
        """Stop at the next step; jobs that are not done are told so."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._batches or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
            self._admit()
            for batch in list(self._batches):
                self._advance(batch)
        unfinished = [*self._waiting, *(one for batch in self._batches for one in batch.members)]
        for job, _ in unfinished:
            _give_up(job, "overloaded", "this generator is shutting down")

    def _admit(self) -> None:
        """Start one batch a base model of what waits, as far as there is room."""
        with self._changed:
            room = self._most_rows - sum(len(batch.members) for batch in self._batches)
            taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        by_base: dict[int, list[tuple[Job, Choice]]] = {}
        for job, choice in taken:
            if not job.gone:
                by_base.setdefault(id(job.side), []).append((job, choice))
        for members in by_base.values():
            self._start(members)

    def _start(self, members: list[tuple[Job, Choice]]) -> None:
        side = members[0][0].side
        try:
            decoding = Decoding(side.base, side, [choice.request for _, choice in members])
        except Exception as error:
            self._fail(members, error)
            return
        with self._changed:
            self._batches.append(_Batch(decoding, members))

    def _advance(self, batch: _Batch) -> None:
        for row, (job, _) in enumerate(batch.members):
            if job.gone:
                batch.decoding.drop(row)
        try:
            tokens = [] if batch.decoding.done else batch.decoding.step()
        except Exception as error:
            self._fail(batch.members, error)
            tokens = []
            self._drop(batch)
        for token in tokens:
            job, choice = batch.members[token.row]
            if _take(job, choice, token):
                batch.decoding.drop(token.row)
        if batch.decoding.done:
            self._drop(batch)

    def _drop(self, batch: _Batch) -> None:
        with self._changed:
            if batch in self._batches:
                self._batches.remove(batch)

    def _fail(self, members: Sequence[tuple[Job, Choice]], error: Exception) -> None:
        """One batch failed; the engine and everybody else go on."""
        code, message = "generation_failed", "the generation failed; see the generator's log"
        if isinstance(error, ScalpelError):
            code, message = error.code, error.message
        elif isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
            code, message = "overloaded", "not enough memory for this batch: try again"
        _log.error("generation failed", code=code, exc_info=error)
        for job, _ in members:
            _give_up(job, code, message)


def _take(job: Job, choice: Choice, token: Token) -> bool:
    """Pass a token on as text; True when a stop string has just ended the choice."""
    if job.gone:
        return True
    piece = ""
    reason: Literal["stop", "length"] | None = token.finish_reason
    if token.id is not None:
        choice.made += 1
        piece = choice.text.push(token.id)
    stopped = choice.text.stopped
    if reason is not None or stopped:
        piece += choice.text.flush()
    if piece:
        job.sink(TextPiece(index=choice.index, text=piece))
    if reason is None and not stopped:
        return False
    job.left -= 1
    job.sink(
        Finished(
            index=choice.index,
            finish_reason="stop" if stopped else reason or "stop",
            prompt_tokens=len(choice.request.prompt),
            completion_tokens=choice.made,
        )
    )
    return stopped


def _give_up(job: Job, code: str, message: str) -> None:
    if not job.gone and job.left:
        job.gone = True
        job.sink(GenerationError(code=code, message=message))
