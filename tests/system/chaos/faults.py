"""The faults, and reproducible schedules of them."""

from __future__ import annotations

import contextlib
import heapq
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import redis

from tests.system.chaos.s3_proxy import S3Proxy, Trouble
from tests.system.chaos.stack import EDITORS, LEASE_SECONDS, Stack

StoreKind = Literal["file", "s3"]
_TROUBLES: dict[str, Trouble] = {
    "s3 answers 500": "500",
    "s3 answers 503": "503",
    "s3 stores, then answers 500": "stored, then 500",
    "s3 closes connections": "cut",
}
COMMON = (
    "kill editor",
    "kill child",
    "kill api",
    "kill generator",
    "kill redis",
    "stop editor",
    "stop child",
    "stop api",
    "stop generator",
    "stop redis",
    "flush redis",
    "clients vanish",
)
KINDS: dict[StoreKind, tuple[str, ...]] = {
    "file": (*COMMON, "full disk"),
    "s3": (*COMMON, *_TROUBLES),
}
_CHILD_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Fault:
    """One entry of a schedule."""

    kind: str
    gap: float
    """Seconds after the one before."""
    seconds: float
    """How long it lasts; 0 for a kill or a flush."""
    pick: float
    """In [0, 1): which of several processes it hits."""


def schedule(seed: int, store: StoreKind, seconds: float, gap: float) -> list[Fault]:
    """Faults for `seconds`, `gap` apart on average; each round has every kind once."""
    rng = random.Random(f"{seed} {store}")
    faults: list[Fault] = []
    length = 0.0
    while length < seconds:
        for kind in rng.sample(KINDS[store], len(KINDS[store])):
            lasts = not kind.startswith(("kill", "flush", "clients"))
            longest = 2.5 * LEASE_SECONDS if kind in ("stop editor", "stop child") else 4.0
            faults.append(
                Fault(
                    kind,
                    gap=rng.uniform(0.2, 1.8) * gap,
                    seconds=rng.uniform(0.5, longest) if lasts else 0.0,
                    pick=rng.random(),
                )
            )
            length += faults[-1].gap
    return faults


@dataclass
class Done:
    """An injected fault."""

    kind: str
    at: float
    """Unix seconds."""
    until: float
    pid: int | None = None
    """Of the editor or child that was hit, if any."""


@dataclass
class Havoc:
    """Injects the faults of a schedule."""

    stack: Stack
    proxy: S3Proxy | None
    vanish: Callable[[], None]
    """Has clients drop their streams."""
    done: list[Done] = field(default_factory=list)
    missed: int = 0
    """Faults that found no process to hit."""
    _ends: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def run(self, faults: list[Fault], is_over: Callable[[], bool]) -> None:
        """Inject the faults one after the other, and end all of them in the end."""
        due = time.monotonic()
        try:
            for number, fault in enumerate(faults):
                due += fault.gap
                while time.monotonic() < due:
                    if is_over():
                        return
                    self._end_those_due()
                    time.sleep(0.05)
                self._begin(fault, number)
        finally:
            self._end_those_due(all_of_them=True)

    def _begin(self, fault: Fault, number: int) -> None:
        at = time.time()
        done = Done(fault.kind, at, at + fault.seconds)
        heal = self._hurt(fault, done)
        if heal is None:
            self.missed += 1
            return
        self.done.append(done)
        heapq.heappush(self._ends, (time.monotonic() + fault.seconds, number, heal))

    def _end_those_due(self, *, all_of_them: bool = False) -> None:
        while self._ends and (all_of_them or self._ends[0][0] <= time.monotonic()):
            heapq.heappop(self._ends)[2]()

    def _hurt(self, fault: Fault, done: Done) -> Callable[[], None] | None:
        """Inject a fault; returns how to end it, or None if there was no process to hit."""
        verb, _, whom = fault.kind.partition(" ")
        if fault.kind == "clients vanish":
            self.vanish()
            return lambda: None
        if fault.kind == "flush redis":
            return self._flush()
        if fault.kind == "full disk":
            self.stack.full = True
            return self._free_disk
        if fault.kind in _TROUBLES:
            assert self.proxy is not None
            self.proxy.trouble = _TROUBLES[fault.kind]
            return self._calm_s3
        pid = self._victim(whom, fault.pick)
        if pid is None:
            return None
        if whom in ("editor", "child"):
            done.pid = pid
        _signal(pid, signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
        return (lambda: None) if verb == "kill" else (lambda: _signal(pid, signal.SIGCONT))

    def _victim(self, whom: str, pick: float) -> int | None:
        if whom == "editor":
            return self.stack.pid(EDITORS[int(pick * len(EDITORS))])
        if whom != "child":
            return self.stack.pid(whom)
        limit = time.monotonic() + _CHILD_PATIENCE_SECONDS
        while time.monotonic() < limit:
            children = self.stack.children()
            if children:
                return children[int(pick * len(children))][0]
            time.sleep(0.02)
        return None

    def _flush(self) -> Callable[[], None] | None:
        try:
            with contextlib.closing(
                redis.Redis.from_url(self.stack.redis_url, socket_timeout=1.0, retry=None)
            ) as client:
                client.flushall()
        except redis.RedisError:
            return None  # it is away at the moment
        return lambda: None

    def _free_disk(self) -> None:
        self.stack.full = False

    def _calm_s3(self) -> None:
        assert self.proxy is not None
        self.proxy.trouble = None


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
