"""The engine: one thread that runs everything, step by step.

All rows of one base model are one batch, whichever variant each is for; they join it and leave it
between steps. Edits of routed experts cannot run beside the weights: rows of such a variant are a
batch of their own, before whose steps the variant is written into the weights.

Who waits is let in in turn: of the tenants that wait, the one with the fewest rows comes first. A
tenant may have at most as many waiting places as are left free, so however many tenants come, some
are free for the next one.

Work that is not decoding, such as reading texts, comes in short pieces that are done between steps.
While something is decoded, a piece waits until decoding has had as much time as the piece before
took: what streams is slowed down to half its speed at worst, and paused for one piece at a time.
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
from workers.generator.engine.choice import Choice
from workers.generator.protocol import Line
from workers.runtime.apply import WeightEditor
from workers.runtime.decoding.decode import Decoding, Token
from workers.runtime.side_path import SidePath
from workers.surgery.terms import Mixture, flatten

_log = structlog.get_logger()

Sink = Callable[[Line], None]
"""Takes a line of the answer; called from the engine's thread, must not block."""


@dataclass(eq=False)
class Job:
    """One request's choices, all on one base model."""

    side: SidePath
    choices: Sequence[Choice]
    sink: Sink
    tenant: str = ""
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
class _Lane:
    """The rows that are decoded together, and what must be in the weights meanwhile."""

    side: SidePath
    weights: Mixture
    decoding: Decoding
    members: dict[int, tuple[Job, Choice]] = field(default_factory=dict)
    """By the number that decoding gave the row."""


class Engine:
    """Decodes jobs; `submit`, `cancel` and `run` may be called from any thread."""

    def __init__(
        self,
        *,
        most_rows: int = 64,
        most_waiting: int = 1024,
        most_errands: int = 8,
        kv_bytes: int | None = None,
    ) -> None:
        """
        Args:
            most_rows: that are decoded at the same time.
            most_waiting: choices that wait to be decoded, half of them of one tenant; more are
                refused.
            most_errands: pieces of other work that wait, likewise.
            kv_bytes: memory for the keys and values of a batch; None: any.
        """
        self._most_rows = most_rows
        self._most_waiting = most_waiting
        self._most_errands = most_errands
        self._kv_bytes = kv_bytes
        self._waiting: dict[str, deque[tuple[Job, Choice]]] = {}
        """By tenant; in the order in which they were served last."""
        self._lanes: dict[tuple[object, ...], _Lane] = {}
        self._editors: WeakKeyDictionary[SidePath, WeightEditor] = WeakKeyDictionary()
        """Of base models whose weights hold, or held, a variant."""
        self._written: WeakKeyDictionary[SidePath, tuple[object, ...]] = WeakKeyDictionary()
        """The key of the variant that is in the weights now."""
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
            return self._number_waiting + self._number_decoded + len(self._errands)

    @property
    def _number_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def _number_decoded(self) -> int:
        return sum(len(lane.members) for lane in self._lanes.values())

    def submit(self, job: Job) -> None:
        """Take a job in; its lines go to its sink, the last of each choice is its end.

        Raises:
            Unavailable: too much is waiting already, or the engine is closing.
        """
        with self._changed:
            if self._closing:
                raise Unavailable("this generator is shutting down", code="overloaded")
            waiting = self._number_waiting
            own = len(self._waiting.get(job.tenant, ()))
            free = self._most_waiting - waiting - len(job.choices)
            if own + len(job.choices) > free:
                raise Unavailable(
                    f"{waiting} completions are waiting already, {own} of them this tenant's",
                    code="overloaded",
                )
            queue = self._waiting.setdefault(job.tenant, deque())
            queue.extend((job, choice) for choice in job.choices)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Stop decoding a job within one step."""
        job.gone = True
        with self._changed:
            queue = self._waiting.pop(job.tenant, deque())
            left = deque(one for one in queue if one[0] is not job)
            if left:
                self._waiting[job.tenant] = left

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
                while not (self._waiting or self._lanes or self._errands or self._closing):
                    self._changed.wait()
                if self._closing:
                    break
            started = time.monotonic()
            try:
                self._admit()
                for key, lane in list(self._lanes.items()):
                    self._advance(key, lane)
            except Exception as error:
                self._give_up_all(error)
            self._decoding_seconds += time.monotonic() - started
            if not self._lanes or self._decoding_seconds >= self._piece_seconds:
                self._do_piece()
        held = [lane.members.values() for lane in self._lanes.values()]
        for job, _ in itertools.chain(*self._waiting.values(), *held):
            _give_up(job, "overloaded", "this generator is shutting down")
        for errand in self._errands:
            errand.end(Unavailable("this generator is shutting down", code="overloaded"))

    def _give_up_all(self, error: Exception) -> None:
        """What should not happen: those that are decoded are told, the engine goes on."""
        with self._changed:
            lanes, self._lanes = self._lanes, {}
        _fail([one for lane in lanes.values() for one in lane.members.values()], error)

    def _do_piece(self) -> None:
        """One piece of the errand whose turn it is; the others come before its next one."""
        with self._changed:
            errand = self._errands.popleft() if self._errands else None
            if errand is None:
                return
            self._errands.append(errand)
        started = time.monotonic()
        self._restore()
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
        """Let in what waits, as far as there is room."""
        while True:
            with self._changed:
                taken = self._next() if self._number_decoded < self._most_rows else None
            if taken is None:
                return
            self._let_in(*taken)

    def _next(self) -> tuple[Job, Choice] | None:
        """Who is served next: of the tenants that wait, the one with the fewest rows."""
        if not self._waiting:
            return None
        rows = Counter(
            job.tenant for lane in self._lanes.values() for job, _ in lane.members.values()
        )
        tenant = min(self._waiting, key=lambda tenant: rows[tenant])
        queue = self._waiting.pop(tenant)
        taken = queue.popleft()
        if queue:
            self._waiting[tenant] = queue
        return taken

    def _let_in(self, job: Job, choice: Choice) -> None:
        if job.gone:
            return
        key = _lane_key(job.side, choice.weights)
        lane = self._lanes.get(key)
        try:
            if lane is None:
                base = job.side.base
                most = self._kv_bytes and self._kv_bytes // base.kv_bytes_per_token
                lane = _Lane(job.side, choice.weights, Decoding(base, job.side, kv_tokens=most))
            (number,) = lane.decoding.add([choice.request])
        except Exception as error:
            _fail([(job, choice)], error)
            return
        with self._changed:
            lane.members[number] = (job, choice)
            self._lanes[key] = lane

    def _advance(self, key: tuple[object, ...], lane: _Lane) -> None:
        for number, (job, _) in list(lane.members.items()):
            if job.gone:
                lane.decoding.drop(number)
                self._leave(lane, number)
        try:
            self._write(key, lane)
            tokens = [] if lane.decoding.done else lane.decoding.step()
        except Exception as error:
            _fail(list(lane.members.values()), error)
            with self._changed:
                del self._lanes[key]
            return
        for token in tokens:
            job, choice = lane.members[token.row]
            try:
                ended = _take(job, choice, token)
            except Exception as error:
                _fail([(job, choice)], error)
                ended = True
            if ended:
                lane.decoding.drop(token.row)
                self._leave(lane, token.row)
        if not lane.members:
            with self._changed:
                del self._lanes[key]

    def _leave(self, lane: _Lane, number: int) -> None:
        with self._changed:
            del lane.members[number]

    def _write(self, key: tuple[object, ...], lane: _Lane) -> None:
        """Let the weights be those that the rows of the lane need."""
        if self._written.get(lane.side, _lane_key(lane.side, ())) == key:
            return
        editor = self._editors.setdefault(lane.side, WeightEditor(lane.side.base))
        self._written[lane.side] = ("unknown",)  # until it is done
        editor.apply_(lane.weights)
        self._written[lane.side] = key

    def _restore(self) -> None:
        """Let all weights be those of the base models, for work that is not decoding."""
        for editor in self._editors.values():
            editor.restore_()
        self._written.clear()


def _lane_key(side: SidePath, weights: Mixture) -> tuple[object, ...]:
    return (id(side), *((term.digest, strength) for term, strength in flatten(weights)))


def _fail(members: Sequence[tuple[Job, Choice]], error: Exception) -> None:
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
    """Pass a token on as text; True when the choice has ended."""
    if job.gone:
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
    if not job.gone and job.left:
        job.gone = True
        job.sink(GenerationError(code=code, message=message))
