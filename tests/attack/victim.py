"""What a flood does to another tenant, and to the memory of the API."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx
import numpy as np

from tests.attack.floods import MIB, Attack, flood
from tests.attack.scene import COMPLETION, Scene
from tests.support.local import local_client

_SPAWNED = multiprocessing.get_context("spawn")
P99_SECONDS = 0.25
COMPLETION_SECONDS = 2.0
GROWTH_BYTES = 300 * MIB
_PAUSE = 0.02
"""Between two reads of the tenant who works."""
_COMPLETIONS_PAUSE = 1.0


@dataclass
class Outcome:
    """Of one flood."""

    name: str
    reads: list[float] = field(default_factory=list)
    """Seconds of each GET of the victim."""
    completions: list[float] = field(default_factory=list)
    """Seconds of each of its completions of one token."""
    wrong: Counter[int] = field(default_factory=Counter)
    """Statuses of the victim's that are not 200."""
    statuses: Counter[int | str] = field(default_factory=Counter)
    """What the attacker was answered."""
    growth: int = 0
    """Bytes."""

    @property
    def p99(self) -> float:
        return float(np.quantile(self.reads, 0.99))

    @property
    def slowest_completion(self) -> float:
        return max(self.completions)

    @property
    def holds(self) -> bool:
        return (
            not self.wrong
            and self.p99 < P99_SECONDS
            and self.slowest_completion < COMPLETION_SECONDS
            and self.growth < GROWTH_BYTES
        )

    def __str__(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in self.statuses.most_common(4))
        return (
            f"{self.name:<17} p99 of {len(self.reads)} GETs {1000 * self.p99:4.0f} ms, slowest of "
            f"{len(self.completions)} completions {self.slowest_completion:.2f} s, growth "
            f"{self.growth / MIB:4.0f} MiB, wrong {dict(self.wrong)}; attacker: {answers}"
        )


def run(attack: Attack, scene: Scene, seconds: float) -> Outcome:
    """Attack for so long, from a process of its own, and work meanwhile."""
    outcome, before = Outcome(attack.name), scene.api.memory
    received, sent = _SPAWNED.Pipe(duplex=False)
    attacker = _SPAWNED.Process(
        target=flood, args=(attack.name, scene.api.url, scene.attacker, seconds, sent), daemon=True
    )
    attacker.start()
    received.recv()  # it begins
    over = time.monotonic() + seconds
    completing = threading.Thread(target=_complete, args=(scene, over, outcome))
    completing.start()
    with _client(scene) as http:
        while time.monotonic() < over:
            request = http.build_request("GET", f"/v1/edits/{scene.victim.edit}")
            outcome.reads.append(_timed(http, request, outcome.wrong))
            outcome.growth = max(outcome.growth, scene.api.memory - before)
            time.sleep(_PAUSE)
    completing.join()
    outcome.statuses = received.recv()
    attacker.join()
    return outcome


def _complete(scene: Scene, over: float, outcome: Outcome) -> None:
    with _client(scene) as http:
        while time.monotonic() < over:
            request = http.build_request("POST", "/v1/completions", json=COMPLETION)
            outcome.completions.append(_timed(http, request, outcome.wrong))
            time.sleep(_COMPLETIONS_PAUSE)


def _client(scene: Scene) -> httpx.Client:
    url, key = scene.api.url, scene.victim.key
    return local_client(url, headers=key)


def _timed(http: httpx.Client, request: httpx.Request, wrong: Counter[int]) -> float:
    """Seconds until the response is there."""
    began = time.monotonic()
    status = http.send(request).status_code
    taken = time.monotonic() - began
    if status != 200:
        wrong[status] += 1
    return taken
