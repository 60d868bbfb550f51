"""The engine: one thread that runs everything, one step of each batch after the other.

Requests that wait together are decoded together, whichever variant each is for; one that comes
later starts a batch of its own at once, whose steps alternate with those of the older ones. Rows
leave when they end or when their reader has gone.

Work that is not decoding, such as reading texts, comes in short pieces that are done between steps.
While something is decoded, a piece waits until decoding has had as much time as the piece before
took: what streams is slowed down to half its speed at worst, and paused for one piece at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
class _Errand:
    """Work in pieces, and who waits for it."""

    pieces: Iterator[None]
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.ended.set()


@dataclass(eq=False)
class _Batch:
    decoding: Decoding
    members: list[tuple[Job, Choice]]
    """By row."""


class Engine:
    """Decodes jobs; `submit`, `cancel` and `run` may be called from any thread."""

    def __init__(
        self, *, most_rows: int = 64, most_waiting: int = 512, most_errands: int = 8
    ) -> None:
        self._most_rows = most_rows
        self._most_waiting = most_waiting
        self._most_errands = most_errands
        self._waiting: deque[tuple[Job, Choice]] = deque()
        self._batches: list[_Batch] = []
        self._errands: deque[_Errand] = deque()
        self._piece_seconds = 0.0
        """What the last piece of an errand took."""
        self._decoding_seconds = 0.0
        """What decoding has had since then."""
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> int:
        """Rows that are decoded or wait to be, and other work that waits for its next piece."""
        with self._changed:
            rows = sum(len(batch.members) for batch in self._batches)
            return len(self._waiting) + rows + len(self._errands)

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

    def run(self, pieces: Iterator[None], *, timeout: float) -> None:
        """Do work in this engine's thread, a piece at a time; returns when all is done.

        Args:
            pieces: each step of it is one piece, which nothing interrupts: a fraction of a second.
            timeout: seconds to wait at most, others' work included.

        Raises:
            Unavailable: it is not done in time, or the engine is closing.
            Exception: what a piece raises.
        """
        errand = _Errand(pieces)
        with self._changed:
            if self._closing:
                raise Unavailable("this generator is shutting down", code="overloaded")
            if len(self._errands) >= self._most_errands:
                raise Unavailable(
                    f"{len(self._errands)} requests are reading texts already", code="overloaded"
                )
            self._errands.append(errand)
            self._changed.notify()
        if not errand.ended.wait(timeout):
            with self._changed:
                if errand in self._errands:
                    self._errands.remove(errand)
            raise Unavailable(
                f"this generator was too busy to read the texts within {timeout:.0f} s",
                code="overloaded",
                retry_after=30,
            )
        if errand.error is not None:
            raise errand.error

    def close(self) -> None:
        """Stop at the next step; jobs that are not done are told so."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._batches or self._errands or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
            started = time.monotonic()
            self._admit()
            for batch in list(self._batches):
                self._advance(batch)
            self._decoding_seconds += time.monotonic() - started
            if not self._batches or self._decoding_seconds >= self._piece_seconds:
                self._do_piece()
        unfinished = [*self._waiting, *(one for batch in self._batches for one in batch.members)]
        for job, _ in unfinished:
            _give_up(job, "overloaded", "this generator is shutting down")
        for errand in self._errands:
            errand.end(Unavailable("this generator is shutting down", code="overloaded"))

    def _do_piece(self) -> None:
        """One piece of the errand whose turn it is; the others come before its next one."""
        with self._changed:
            errand = self._errands.popleft() if self._errands else None
            if errand is None:
                return
            self._errands.append(errand)
        started = time.monotonic()
        try:
            next(errand.pieces)
        except Exception as error:
            with self._changed:
                if errand in self._errands:
                    self._errands.remove(errand)
            errand.end(None if isinstance(error, StopIteration) else error)
        self._piece_seconds = time.monotonic() - started
        self._decoding_seconds = 0.0

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
