"""By the number of editors, one or two on a core each: seconds for each small edit of many."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx

from benchmarks.claims import RatioClaim
from benchmarks.scaling.points import Point, PointFile
from tests.system.chaos.stack import EDITORS, Stack, running_stack
from tests.system.faults.edits import edit_body

SERIES = "an edit of a pico model"
ROUNDS = 3
EDITS = 6
"""A round."""


def claims(file: PointFile) -> list[RatioClaim]:
    """Medians over rounds."""
    times = {
        count: [point.seconds for point in file.points if point.size == count] for count in (1, 2)
    }
    if not all(times.values()):
        return []
    ratio = median(times[1]) / median(times[2])
    return [RatioClaim("edits a second of two editors against one", ratio, 1.5, "higher")]


def measure(file: PointFile) -> Iterator[Point]:
    """The points of the rounds that the file does not have, of two and of one editor in turn."""
    rounds = ROUNDS - sum(point.size == 1 for point in file.points)
    if rounds <= 0:
        return
    with (
        tempfile.TemporaryDirectory(prefix="scalpel-scaling-") as name,
        running_stack(Path(name), {}) as stack,
        stack.client(120) as http,
    ):
        _run(http, 2)  # warms up
        for _ in range(rounds):
            for editors in (2, 1):
                _set_editors(stack, http, editors)
                yield Point(SERIES, editors, _run(http, EDITS) / EDITS)


def _set_editors(stack: Stack, http: httpx.Client, count: int) -> None:
    """Let so many editors run, and wait until the API knows of no other number."""
    second = EDITORS[1]
    if count == 2:
        stack.held.discard(second)
    else:
        stack.held.add(second)
        if (pid := stack.pid(second)) is not None:
            os.killpg(pid, signal.SIGTERM)
    while http.get("/readyz?require=all").json()["parts"]["editors"]["count"] != count:
        time.sleep(0.1)


def _run(http: httpx.Client, count: int) -> float:
    """Seconds from the first submission until so many edits have ended."""
    started = time.perf_counter()
    made = []
    for seed in range(count):
        body = {**edit_body(), "effort": "quick", "seed": seed}
        made.append(http.post("/v1/edits", json=body).raise_for_status().json()["id"])
    for id in made:
        while True:
            edit = http.get(f"/v1/edits/{id}?wait=60").raise_for_status().json()
            if edit["finished_at"] is not None:
                assert edit["status"] == "succeeded", edit
                break
    return time.perf_counter() - started
