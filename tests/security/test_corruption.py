"""Whatever happens to the bytes of a store, nobody is given anything else than what was written:
the same answer as before, or an error that says so.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.repair import QUARANTINE, find_damaged, quarantine
from app.loops.keeper.sweep import sweep
from models_store.objects.store import ObjectStore
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body
from tests.security.target import Crew, Names
from tests.support.services import Api, RedisServer, api_settings, running_api

pytestmark = pytest.mark.slow

Damage = Callable[[bytes, bytes, random.Random], bytes]
_FULL = ("text/html", "text/markdown")


def _flip(data: bytes, sibling: bytes, at: random.Random) -> bytes:
    place = at.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << at.randrange(8))]) + data[place + 1 :]


def _cut(data: bytes, sibling: bytes, at: random.Random) -> bytes:
    return data[: at.randrange(1, len(data))]


DAMAGES: dict[str, Damage] = {
    "flip": _flip,
    "cut": _cut,
    "empty": lambda data, sibling, at: b"",
    "sibling": lambda data, sibling, at: sibling,
}


@dataclass(frozen=True)
class Question:
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_list(self) -> bool:
        return self.path.count("/") == 2


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    etag: str | None

    @property
    def refused(self) -> bool:
        """Whether it is an error, and of those that say what is wrong."""
        return self.status in (404, 500) and (
            self.status == 404 or b'"corrupt_artifact"' in self.body
        )


def questions(names: Names) -> list[Question]:
    """Every call that reads, of things that are there."""
    edit, other, _, _ = names.edits
    (export,) = names.exports
    delta = f"/v1/edits/{edit}/delta"
    asked = [
        *(f"/v1/edits/{id}" for id in names.edits),
        *(f"/v1/edits/{id}/events" for id in names.edits),
        *(f"/v1/edits/{id}/report" for id in (edit, other)),
        delta,
        f"{delta}?point=1",
        f"/v1/edits/{other}/delta",
        f"/v1/exports/{export}",
        *(f"/v1/exports/{export}/files/{name}" for name in names.files),
        f"/v1/exports/{export}/archive",
        *(f"/v1/behaviors/{id}" for id in names.behaviors),
        *(f"/v1/aliases/{name}" for name in names.aliases),
        *(f"/v1/models/{name}" for name in names.variants),
        "/v1/base_models/pico",
        *(f"/v1/{kind}" for kind in ("edits", "exports", "behaviors", "aliases", "models")),
        "/v1/base_models",
    ]
    return [
        *map(Question, asked),
        *(Question(f"/v1/edits/{edit}/report", (("Accept", kind),)) for kind in _FULL),
        Question(f"/v1/edits/{edit}/events", (("Accept", "text/event-stream"),)),
        Question(delta, (("Range", "bytes=8-40"),)),
        Question(delta, (("If-None-Match", '"another"'),)),
    ]


def ask(http: httpx.Client, question: Question) -> Answer:
    answer = http.get(question.path, headers=dict(question.headers))
    return Answer(answer.status_code, answer.content, answer.headers.get("ETag"))


@dataclass(frozen=True)
class Shop:
    """The API over a filled store."""

    api: Api
    names: Names

    @property
    def objects(self) -> ObjectStore:
        return self.api.store.objects

    def answers(self, asked: list[Question]) -> dict[Question, Answer]:
        """What a process says that has just begun, and remembers nothing."""
        self.api.services._store = None
        return {question: ask(self.api.http, question) for question in asked}


@pytest.fixture
def shop(tmp_path: Path, redis_server: RedisServer) -> Iterator[Shop]:
    settings = api_settings(
        tmp_path,
        redis_server,
        internal_token="a shared secret",
        limit_requests_per_second=1e6,  # a fast machine asks more than 200 of one tenant
    )
    with running_api(settings) as api:
        crew = Crew(Worker(api.store, api.services.live.client))
        names = crew.fill(api.http)
        crew.end_all()
        assert crew.errors == []
        yield Shop(api, names)


def sibling_of(path: str, contents: dict[str, bytes]) -> bytes:
    """The bytes of another object of the same name, or of any other."""
    name = path.rpartition("/")[2]
    others = [other for other in contents if other != path and contents[other] != contents[path]]
    alike = [other for other in others if other.rpartition("/")[2] == name]
    return contents[(alike or others)[0]]


def items(body: Any) -> dict[str, Any]:
    data = body["data"]
    return {str(one.get("id") or one.get("name")): one for one in data}


def is_part_of(found: Answer, clean: Answer) -> bool:
    """Whether a list has nothing that it did not have, and has lost something at most."""
    if found.status != 200:
        return False
    then, now = items(json.loads(clean.body)), items(json.loads(found.body))
    return all(then.get(name) == one for name, one in now.items())


@pytest.mark.parametrize(
    "damages",
    [pytest.param((damage,), id=damage, marks=pytest.mark.long) for damage in DAMAGES]
    + [pytest.param(tuple(DAMAGES), id="in turn")],
)
def test_a_damaged_object_is_found_and_never_served(damages: tuple[str, ...], shop: Shop) -> None:
    objects, asked = shop.objects, questions(shop.names)
    clean = shop.answers(asked)
    assert {answer.status for answer in clean.values()} == {200, 206}
    contents = {
        info.path: objects.read(info.path)
        for info in objects.files("")
        if info.size and not info.path.startswith(("audit/", "audit_heads/", "probe/"))
    }
    at = random.Random(damages[0])
    noticed = 0
    for (path, data), damage in zip(contents.items(), itertools.cycle(damages), strict=False):
        objects.put(path, DAMAGES[damage](data, sibling_of(path, contents), at))
        try:
            found = shop.answers(asked)
        finally:
            objects.put(path, data)
        for question, answer in found.items():
            same = answer == clean[question]
            fewer = question.is_list and is_part_of(answer, clean[question])
            assert same or answer.refused or fewer, (path, question, answer, clean[question])
            noticed += not same
    assert noticed > len(contents) / 2
    assert shop.answers(asked) == clean


def test_the_rest_of_a_list_is_shown(shop: Shop) -> None:
    objects, names = shop.objects, shop.names
    broken = names.edits[0]
    (path,) = [
        info.path for info in objects.files("edits") if info.path.endswith(f"{broken}/request.json")
    ]
    objects.put(path, b"{")
    objects.delete(Place("edit", "default", broken).summary)
    shop.api.services._store = None  # a process that has just begun
    listed = [one["id"] for one in shop.api.http.get("/v1/edits").json()["data"]]
    models = shop.api.http.get("/v1/models")
    answer = shop.api.http.get(f"/v1/edits/{broken}")
    assert models.status_code == 200
    assert broken not in models.text
    assert set(names.edits[1:]) <= set(listed)
    assert broken not in listed
    assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_artifact")


def submitted(shop: Shop, key: str, *, ended: bool) -> tuple[str, dict[str, Any], dict[str, str]]:
    """An edit, its body and its headers."""
    body, headers = edit_body(seed=len(key)), {"Idempotency-Key": key}
    edit = shop.api.http.post("/v1/edits", json=body, headers=headers).json()["id"]
    worker = Worker(shop.api.store, shop.api.services.live.client)
    if ended:
        worker.succeed(edit)
    else:
        worker.claim(edit)
    return edit, body, headers


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_what_is_damaged_is_deleted_holds_nothing_and_stops_nobody(shop: Shop, ended: bool) -> None:
    http, objects = shop.api.http, shop.objects
    at, stays = random.Random(1), shop.names.edits[0]
    records = ["request.json", "attempts/1/claim.json"]
    records += ["attempts/1/end.json", "result.json"] if ended else []
    for name, damage in itertools.product(records, ("flip", "cut", "empty")):
        edit, body, headers = submitted(shop, f"{damage} {name}", ended=ended)
        place = Place("edit", "default", edit)
        path = f"{place.folder}/{name}"
        objects.put(path, DAMAGES[damage](objects.read(path), b"", at))
        objects.delete(place.summary)
        shop.api.services._store = None  # a process that has just begun
        assert [found.path for found in find_damaged(objects)] == [path]
        swept = sweep(shop.api.store.work, lambda: False, now=time.time() + 3 * 24 * 3600)
        assert swept["unreadable"] <= 1
        assert http.get("/v1/edits").status_code == http.get("/v1/models").status_code == 200
        assert http.get(f"/v1/edits/{stays}").status_code == 200
        again = http.post("/v1/edits", json=body, headers=headers)
        assert (again.status_code, again.json()["code"]) == (409, "idempotency_key_damaged")
        canceled = http.post(f"/v1/edits/{edit}/cancel")
        assert (canceled.status_code, canceled.json()["code"]) == (409, "edit_damaged")
        assert not objects.exists(place.marker), "it counts no longer as open"
        assert http.delete(f"/v1/edits/{edit}").status_code == 200
        assert http.get(f"/v1/edits/{edit}").status_code == 404


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
@pytest.mark.parametrize(
    "name",
    ["request.json", "attempts/1/claim.json", "attempts/1/end.json", "result.json", "summary.json"],
)
def test_what_one_damaged_record_held_is_in_others(shop: Shop, damage: str, name: str) -> None:
    http, objects = shop.api.http, shop.objects
    edit, body, headers = submitted(shop, "one", ended=True)
    before = http.get(f"/v1/edits/{edit}").json()
    place = Place("edit", "default", edit)
    path = f"{place.folder}/{name}"
    objects.put(path, DAMAGES[damage](objects.read(path), b"", random.Random(1)))
    shop.api.services._store = None  # a process that has just begun
    assert http.get(f"/v1/edits/{edit}").json() == before
    assert edit in [one["id"] for one in http.get("/v1/edits").json()["data"]]
    assert http.post("/v1/edits", json=body, headers=headers).json()["id"] == edit
    assert [found.path for found in find_damaged(objects)] == [path]
    assert http.delete(f"/v1/edits/{edit}").status_code == 200
    assert http.get(f"/v1/edits/{edit}").status_code == 404


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_key_is_no_error_of_the_server(shop: Shop, damage: str) -> None:
    objects, http = shop.objects, shop.api.http
    _, body, headers = submitted(shop, "a key", ended=True)
    digest = hashlib.sha256(b"a key").hexdigest()
    path = f"idempotency/default/{digest}.json"
    objects.put(path, DAMAGES[damage](objects.read(path), b"", random.Random(2)))
    again = http.post("/v1/edits", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_key_damaged")
    assert [found.path for found in find_damaged(objects)] == [path]


def test_repair_puts_damage_aside_and_the_edit_is_completed_again(shop: Shop) -> None:
    objects, http = shop.objects, shop.api.http
    edit, _, _ = submitted(shop, "one", ended=True)
    before = http.get(f"/v1/edits/{edit}").json()
    path = f"{Place('edit', 'default', edit).folder}/result.json"
    objects.put(path, b"")
    (damaged,) = find_damaged(objects)
    summary = Place("edit", "default", edit).summary
    assert quarantine(objects, damaged) == [path, summary]
    assert objects.read(f"{QUARANTINE}/{path}") == b""
    assert list(find_damaged(objects)) == []
    shop.api.services._store = None
    work = shop.api.store.work
    work.settle(work.read("edit", "default", edit))
    after = http.get(f"/v1/edits/{edit}").json()
    assert after["status"] == "succeeded"
    assert after == {**before, "finished_at": after["finished_at"]}


def test_repair_puts_all_of_an_edit_aside_that_has_lost_its_request(shop: Shop) -> None:
    objects, edit = shop.objects, shop.names.edits[0]
    folder = Place("edit", "default", edit).folder
    there = objects.paths(folder)
    objects.put(f"{folder}/request.json", b"{}")
    (damaged,) = find_damaged(objects)
    assert quarantine(objects, damaged) == there
    assert objects.paths(folder) == []
    assert len(objects.paths(f"{QUARANTINE}/{folder}")) == len(there) > 4


def test_repair_of_the_marker_takes_the_store_from_nobody(shop: Shop) -> None:
    objects = shop.objects
    objects.put("scalpel-store.json", b"{")
    (damaged,) = find_damaged(objects)
    assert quarantine(objects, damaged) == ["scalpel-store.json"]
    assert list(find_damaged(objects)) == []
    assert shop.api.http.get("/v1/edits").status_code == 200
