"""The engine: one thread that decodes all requests, step by step.

All rows of a base model are one batch, whatever their variants; rows join and leave it between
steps. Edits of routed experts cannot be applied beside the weights: the rows of such a variant are
a separate batch, before whose steps the variant is written into the weights.

Of the waiting tenants, the one with the fewest rows is next. A tenant may fill at most half of the
waiting places that others leave, so there are always some for the next tenant.

Other work, such as reading texts, is done in short pieces between steps. While rows are decoded, a
piece waits until decoding has had as much time as the last piece took: streams are slowed down to
half their speed at worst, and paused for one piece at a time.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import structlog
import torch

from models_store.errors import ScalpelError, Unavailable
from models_store.schemas.generation import Finished, GenerationError
from workers.generator.engine.choice import ChoiceDecoder, Piece
from workers.runtime.decoding.decode import Decoding, Token
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.side_path import SidePath
from workers.surgery.terms import Mixture, flatten

_log = structlog.get_logger()

Sink = Callable[[Piece | Finished | GenerationError], None]
"""Receives a line of the response; called from the engine's thread, must not block."""


@dataclass(eq=False)
class Job:
    """One request's choices, all on one base model."""

    side: SidePath
    choices: Sequence[ChoiceDecoder]
    sink: Sink
    tenant: str = ""
    closed: bool = False
    """It was canceled or ended with an error: nothing more is decoded for it."""
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.choices)


@dataclass(eq=False)
class _Task:
    """Work in pieces, for which a caller waits."""

    pieces: Iterator[None]
    ended: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.ended.set()


@dataclass(eq=False)
class _Batch:
    """Rows that are decoded together, and the edits that must be in the weights meanwhile."""

    side: SidePath
    weights: Mixture
    decoding: Decoding
    members: dict[int, tuple[Job, ChoiceDecoder]] = field(default_factory=dict)
    """By the number that `decoding` gave the row."""


class Engine:
    """Decodes jobs; `submit`, `cancel` and `run` may be called from any thread."""

    def __init__(
        self,
        *,
        most_rows: int = 64,
        most_waiting: int = 1024,
        most_tasks: int = 8,
        kv_bytes: int | None = None,
    ) -> None:
        """
        Args:
            most_rows: rows that are decoded at a time.
            most_waiting: choices that may wait, at most half of them of one tenant; more are
                refused.
            most_tasks: other tasks that may wait; more are refused.
            kv_bytes: memory for the keys and values of a batch; None: unlimited.
        """
        self._most_rows = most_rows
        self._most_waiting = most_waiting
        self._most_tasks = most_tasks
        self._kv_bytes = kv_bytes
        self._waiting: dict[str, deque[tuple[Job, ChoiceDecoder]]] = {}
        """By tenant, the least recently served first."""
        self._batches: dict[tuple[object, ...], _Batch] = {}
        self._editors: WeakKeyDictionary[SidePath, WeightEditor] = WeakKeyDictionary()
        """Of base models into whose weights a variant was written."""
        self._written: WeakKeyDictionary[SidePath, tuple[object, ...]] = WeakKeyDictionary()
        """The key of the batch whose variant is in the weights now."""
        self._tasks: deque[_Task] = deque()
        self._last_piece_seconds = 0.0
        """Duration of the last piece of a task."""
        self._decoding_seconds = 0.0
        """Time that decoding has had since then."""
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> int:
        """Rows that are decoded or wait, and other tasks."""
        with self._changed:
            return self._number_waiting + self._number_decoded + len(self._tasks)

    @property
    def _number_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def _number_decoded(self) -> int:
        return sum(len(batch.members) for batch in self._batches.values())

    def submit(self, job: Job) -> None:
        """Enqueue a job; its lines go to its sink, the last line of each choice is `Finished`.

        Raises:
            Unavailable: too much is waiting already, or the engine is closing.
        """
        with self._changed:
            if self._closing:
                raise Unavailable("this generator is shutting down", code="overloaded")
            waiting = self._number_waiting
            of_tenant = len(self._waiting.get(job.tenant, ()))
            free = self._most_waiting - waiting - len(job.choices)
            if of_tenant + len(job.choices) > free:
                raise Unavailable(
                    f"{waiting} completions are waiting already, {of_tenant} of them this tenant's",
                    code="overloaded",
                )
            queue = self._waiting.setdefault(job.tenant, deque())
            queue.extend((job, choice) for choice in job.choices)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Stop decoding a job within one step."""
        job.closed = True
        with self._changed:
            queue = self._waiting.pop(job.tenant, deque())
            left = deque(item for item in queue if item[0] is not job)
            if left:
                self._waiting[job.tenant] = left

    def run(self, pieces: Iterator[None], *, timeout: float) -> None:
        """Run other work in the engine's thread, a piece at a time; returns when all is done.

        Args:
            pieces: each step is a piece and should take a fraction of a second.
            timeout: seconds to wait at most, the waiting for other work included.

        Raises:
            Unavailable: it is not done in time, or the engine is closing.
            Exception: whatever a piece raises.
        """
        task = _Task(pieces)
        with self._changed:
            if self._closing:
                raise Unavailable("this generator is shutting down", code="overloaded")
            if len(self._tasks) >= self._most_tasks:
                raise Unavailable(
                    f"{len(self._tasks)} requests are reading texts already", code="overloaded"
                )
            self._tasks.append(task)
            self._changed.notify()
        if not task.ended.wait(timeout):
            with self._changed:
                if task in self._tasks:
                    self._tasks.remove(task)
            raise Unavailable(
                f"this generator was too busy to read the texts within {timeout:.0f} s",
                code="overloaded",
                retry_after=30,
            )
        if task.error is not None:
            raise task.error

    def close(self) -> None:
        """Stop at the next step; unfinished jobs end with an error."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._batches or self._tasks or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
            started = time.monotonic()
            try:
                self._admit()
                for key, batch in list(self._batches.items()):
                    self._advance(key, batch)
            except Exception as error:
                self._give_up_all(error)
            self._decoding_seconds += time.monotonic() - started
            if not self._batches or self._decoding_seconds >= self._last_piece_seconds:
                self._do_piece()
        held = [batch.members.values() for batch in self._batches.values()]
        for job, _ in itertools.chain(*self._waiting.values(), *held):
            _give_up(job, "overloaded", "this generator is shutting down")
        for task in self._tasks:
            task.end(Unavailable("this generator is shutting down", code="overloaded"))

    def _give_up_all(self, error: Exception) -> None:
        """An unexpected error: all rows that are decoded end with it, the engine goes on."""
        with self._changed:
            batches, self._batches = self._batches, {}
        _fail([row for batch in batches.values() for row in batch.members.values()], error)

    def _do_piece(self) -> None:
        """Run one piece of the next task; tasks take turns."""
        with self._changed:
            task = self._tasks.popleft() if self._tasks else None
            if task is None:
                return
            self._tasks.append(task)
        started = time.monotonic()
        self._restore()
        try:
            next(task.pieces)
        except Exception as error:
            with self._changed:
                if task in self._tasks:
                    self._tasks.remove(task)
            task.end(None if isinstance(error, StopIteration) else error)
        self._last_piece_seconds = time.monotonic() - started
        self._decoding_seconds = 0.0

    def _admit(self) -> None:
        """Move waiting choices into batches while there is room."""
        while True:
            with self._changed:
                taken = self._next() if self._number_decoded < self._most_rows else None
            if taken is None:
                return
            self._add(*taken)

    def _next(self) -> tuple[Job, ChoiceDecoder] | None:
        """The next choice: of the waiting tenant with the fewest rows."""
        if not self._waiting:
            return None
        rows = Counter(
            job.tenant for batch in self._batches.values() for job, _ in batch.members.values()
        )
        tenant = min(self._waiting, key=lambda tenant: rows[tenant])
        queue = self._waiting.pop(tenant)
        taken = queue.popleft()
        if queue:
            self._waiting[tenant] = queue
        return taken

    def _add(self, job: Job, choice: ChoiceDecoder) -> None:
        if job.closed:
            return
        key = _batch_key(job.side, choice.weights)
        batch = self._batches.get(key)
        try:
            if batch is None:
                base = job.side.base
                most = self._kv_bytes and self._kv_bytes // base.kv_bytes_per_token
                batch = _Batch(job.side, choice.weights, Decoding(base, job.side, kv_tokens=most))
            (number,) = batch.decoding.add([choice.request])
        except Exception as error:
            _fail([(job, choice)], error)
            return
        with self._changed:
            batch.members[number] = (job, choice)
            self._batches[key] = batch

    def _advance(self, key: tuple[object, ...], batch: _Batch) -> None:
        for number, (job, _) in list(batch.members.items()):
            if job.closed:
                batch.decoding.drop(number)
                self._remove(batch, number)
        try:
            self._write(key, batch)
            tokens = [] if batch.decoding.done else batch.decoding.step()
        except Exception as error:
            _fail(list(batch.members.values()), error)
            with self._changed:
                del self._batches[key]
            return
        for token in tokens:
            job, choice = batch.members[token.row]
            try:
                ended = _take(job, choice, token)
            except Exception as error:
                _fail([(job, choice)], error)
                ended = True
            if ended:
                batch.decoding.drop(token.row)
                self._remove(batch, token.row)
        if not batch.members:
            with self._changed:
                del self._batches[key]

    def _remove(self, batch: _Batch, number: int) -> None:
        with self._changed:
            del batch.members[number]

    def _write(self, key: tuple[object, ...], batch: _Batch) -> None:
        """Write the variant of the batch into the weights, unless it is there."""
        if self._written.get(batch.side, _batch_key(batch.side, ())) == key:
            return
        editor = self._editors.setdefault(batch.side, WeightEditor(batch.side.base))
        self._written[batch.side] = ("unknown",)  # until it is done
        editor.apply_(batch.weights)
        self._written[batch.side] = key

    def _restore(self) -> None:
        """Restore the weights of all base models, for work that is not decoding."""
        for editor in self._editors.values():
            editor.restore_()
        self._written.clear()


def _batch_key(side: SidePath, weights: Mixture) -> tuple[object, ...]:
    return (id(side), *((term.digest, strength) for term, strength in flatten(weights)))


def _fail(members: Sequence[tuple[Job, ChoiceDecoder]], error: Exception) -> None:
    """End the jobs of these rows with an error; the engine and other jobs go on."""
    code, message = "generation_failed", "the generation failed; see the generator's log"
    if isinstance(error, ScalpelError):
        code, message = error.code, error.message
    elif isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        code, message = "overloaded", "not enough memory for this batch: try again"
    _log.error("generation failed", code=code, exc_info=error)
    for job, _ in members:
        _give_up(job, code, message)


def _take(job: Job, choice: ChoiceDecoder, token: Token) -> bool:
    """Send a token's text to the sink; True when the choice has ended."""
    if job.closed:
        return True
    piece = choice.take(token)
    if piece is not None:
        job.sink(piece)
    if choice.finish_reason is None:
        return False
    job.left -= 1
    job.sink(
        Finished(
            index=choice.index,
            finish_reason=choice.finish_reason,
            prompt_tokens=len(choice.request.prompt),
            completion_tokens=choice.made,
        )
    )
    return True


def _give_up(job: Job, code: str, message: str) -> None:
    if not job.closed and job.left:
        job.closed = True
        job.sink(GenerationError(code=code, message=message))
