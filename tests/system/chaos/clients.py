"""Clients of the campaign, which submit, poll and stream."""

from __future__ import annotations

import contextlib
import json
import queue
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable

import httpx

from models_store.schemas.records import FINAL
from tests.support.local import local_client
from tests.system.faults.edits import edit_body

_SUBMITTERS, _POLLERS, _FOLLOWERS = 3, 2, 3
_PAUSE_SECONDS = 0.3
_ORDER = {"queued": 0, "running": 1}


class Seen:
    """What the clients observed, by edit."""

    def __init__(self) -> None:
        self.statuses: dict[str, set[str]] = defaultdict(set)
        """Final ones."""
        self.digests: dict[str, set[str]] = defaultdict(set)
        self.steps_back: list[str] = []
        self.wrong_responses: Counter[str] = Counter()
        """Responses that no fault excuses."""
        self._newest: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def status(self, observer: str, id: str, status: str) -> None:
        with self._lock:
            if status in FINAL:
                self.statuses[id].add(status)
            step = _ORDER.get(status, 2)
            if step < self._newest.get((observer, id), 0):
                self.steps_back.append(f"{id} {status}")
            self._newest[observer, id] = step

    def digest(self, id: str, etag: str) -> None:
        with self._lock:
            self.digests[id].add(etag)

    def event(self, id: str, before: int, now: int) -> None:
        if now <= before:
            with self._lock:
                self.steps_back.append(f"{id} event {now} after {before}")

    def wrong(self, what: str, response: httpx.Response) -> None:
        with self._lock:
            self.wrong_responses[f"{what}: {response.status_code} {response.text[:200]}"] += 1


class Clients:
    """All clients, in threads, from `start` to `stop`."""

    def __init__(self, url: str, seed: int, edits: int, pace: float) -> None:
        self.seen = Seen()
        self.acknowledged: dict[str, str] = {}
        """The id in the 201 response, by key."""
        self.remade: list[str] = []
        """Keys that got another id the second time."""
        self.vanished = 0
        self._url, self._seed, self._pace = url, seed, pace
        self.keys = [f"chaos-{seed}-{number}" for number in range(edits)]
        self._waiting: queue.Queue[int] = queue.Queue()
        for number in range(edits):
            self._waiting.put(number)
        self._to_follow: queue.Queue[str] = queue.Queue()
        self._started = time.monotonic()
        self._stopped = threading.Event()
        self._leave = 0
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        roles: list[tuple[Callable[[int], None], int]] = [
            (self._submit, _SUBMITTERS),
            (self._poll, _POLLERS),
            (self._follow, _FOLLOWERS),
            (self._complete, 1),
        ]
        for role, count in roles:
            for number in range(count):
                thread = threading.Thread(target=self._guarded, args=(role, number), daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(30)

    def vanish(self) -> None:
        """Have all clients drop their streams."""
        self._leave += 1

    @property
    def all_submitted(self) -> bool:
        return len(self.acknowledged) == len(self.keys)

    def all_final(self) -> bool:
        """Whether the clients know the end of every edit; the store is checked later."""
        seen = self.seen.statuses
        return self.all_submitted and all(id in seen for id in self.acknowledged.values())

    def _guarded(self, role: Callable[[int], None], number: int) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(httpx.HTTPError):  # such as a connection that was cut
                role(number)
                return
            self._stopped.wait(_PAUSE_SECONDS)

    def _http(self, seconds: float = 20.0) -> httpx.Client:
        return local_client(self._url, seconds)

    def _submit(self, _: int) -> None:
        with self._http() as http:
            while not self._stopped.is_set():
                try:
                    number = self._waiting.get_nowait()
                except queue.Empty:
                    return
                due = self._started + number * self._pace
                self._stopped.wait(max(0.0, due - time.monotonic()))
                id = self._posted(http, number)
                if id is not None:
                    self._to_follow.put(id)
                    if number % 5 == 0 and self._posted(http, number) not in (id, None):
                        self.remade.append(self.keys[number])

    def _posted(self, http: httpx.Client, number: int) -> str | None:
        """Send the edit until it is acknowledged."""
        body = {**edit_body(), "seed": number, "suffix": f"s{number}" if number % 3 == 0 else None}
        while not self._stopped.is_set():
            with contextlib.suppress(httpx.HTTPError):
                response = http.post(
                    "/v1/edits", json=body, headers={"Idempotency-Key": self.keys[number]}
                )
                if response.status_code == 201:
                    id = str(response.json()["id"])
                    self.acknowledged.setdefault(self.keys[number], id)
                    return id
                self._excused("POST", response)
            self._stopped.wait(_PAUSE_SECONDS)
        return None

    def _poll(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        with self._http() as http:
            while not self._stopped.is_set():
                ids = list(self.acknowledged.values())
                open_ = [id for id in ids if id not in self.seen.statuses]
                for id in [*rng.sample(open_, min(4, len(open_))), *ids[:1], *ids[-1:]]:
                    self._look(http, f"poller {number}", id, wait=rng.choice((0, 0, 2)))
                    self._stopped.wait(0.2)
                self._stopped.wait(0.5)

    def _look(self, http: httpx.Client, observer: str, id: str, wait: int) -> None:
        with contextlib.suppress(httpx.HTTPError):
            response = http.get(f"/v1/edits/{id}", params={"wait": wait})
            if response.status_code != 200:
                self._excused("GET", response)
                return
            status = response.json()["status"]
            self.seen.status(observer, id, status)
            if status == "succeeded":
                self.look_at_delta(http, id)

    def look_at_delta(self, http: httpx.Client, id: str) -> None:
        delta = http.get(f"/v1/edits/{id}/delta")
        if delta.status_code == 200:
            self.seen.digest(id, delta.headers["ETag"])
        else:
            self._excused("GET delta", delta)

    def _follow(self, _: int) -> None:
        with self._http(10.0) as http:
            while not self._stopped.is_set():
                try:
                    id = self._to_follow.get(timeout=0.2)
                except queue.Empty:
                    continue
                self._follow_edit(http, id)

    def _follow_edit(self, http: httpx.Client, id: str) -> None:
        """Read the edit's stream to its end, resuming it where it broke off."""
        last, ended = 0, False
        while not self._stopped.is_set():
            headers = {
                "Accept": "text/event-stream",
                **({"Last-Event-ID": str(last)} if last else {}),
            }
            leave = self._leave
            with (
                contextlib.suppress(httpx.HTTPError),
                http.stream("GET", f"/v1/edits/{id}/events", headers=headers) as response,
            ):
                if response.status_code == 204:
                    if not ended:
                        self.seen.steps_back.append(f"{id} ended unseen")
                    return
                if response.status_code != 200:
                    response.read()
                    self._excused("GET events", response)
                for line in response.iter_lines() if response.status_code == 200 else ():
                    if self._leave != leave or self._stopped.is_set():
                        self.vanished += 1
                        break
                    if not line.startswith("data: "):
                        continue
                    event = json.loads(line.removeprefix("data: "))
                    if event["id"] is not None:
                        self.seen.event(id, last, event["id"])
                        last = event["id"]
                    status = event["type"].removeprefix("edit.")
                    if status in FINAL:
                        self.seen.status(f"events of {id}", id, status)
                        ended = True
            self._stopped.wait(_PAUSE_SECONDS)

    def _complete(self, _: int) -> None:
        """A client of long completions, which drops them on `vanish`."""
        body = {"model": "pico", "prompt": "the food", "max_tokens": 150, "stream": True}
        while not self._stopped.is_set():
            leave = self._leave
            with (
                contextlib.suppress(httpx.HTTPError),
                self._http() as http,
                http.stream("POST", "/v1/completions", json=body) as response,
            ):
                if response.status_code != 200:
                    response.read()
                    if response.status_code != 502:
                        self._excused("POST completions", response)
                for _line in response.iter_lines() if response.status_code == 200 else ():
                    if self._leave != leave:
                        self.vanished += 1
                        break
            self._stopped.wait(1.0)

    def _excused(self, what: str, response: httpx.Response) -> None:
        """Count an unsuccessful response, unless a fault or a limit explains it."""
        if response.status_code == 503 and "Retry-After" in response.headers:
            return
        if response.status_code != 429:
            self.seen.wrong(what, response)
