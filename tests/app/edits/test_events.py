"""The events of an edit: as a list, and as a stream that can be taken up again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.support.local import local_client
from tests.support.services import Api, running_api

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    return id


def finished(api: Api, worker: Worker) -> str:
    """An edit whose first attempt was lost in `extract` and whose second succeeded."""
    id: str = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.claim(id)
    worker.tell_stage(id, "extract", attempt=1)
    worker.lose(id)
    worker.claim(id)
    for stage in ("extract", "probe"):
        worker.tell_stage(id, stage, attempt=2)
        worker.tell_stage(id, stage, 0.5, attempt=2)
    worker.succeed(id)
    return id


DURABLE = [
    (1, "edit.created"),
    (16, "edit.started"),
    (30, "edit.attempt_ended"),
    (32, "edit.started"),
    (46, "edit.attempt_ended"),
    (47, "edit.succeeded"),
]
WITH_STAGES = sorted([*DURABLE, (17, "edit.stage"), (33, "edit.stage"), (34, "edit.stage")])


def stream(
    api: Api, id: str, last: int | None = None, *, seen: Callable[[int], Any] = lambda _: None
) -> list[dict[str, str]]:
    """The fields of each event until the server closes; `seen` is called after each."""
    events: list[dict[str, str]] = []
    headers = STREAM | ({"Last-Event-ID": str(last)} if last is not None else {})
    with api.http.stream("GET", f"/v1/edits/{id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                events.append(fields)
                seen(len(events))
            if not line:
                fields = {}
    return events


def listed(api: Api, id: str, **params: Any) -> list[tuple[int, str]]:
    page = api.http.get(f"/v1/edits/{id}/events", params=params).json()
    return [(event["id"], event["type"]) for event in page["data"]]


def ids(events: list[dict[str, str]]) -> list[tuple[int, str]]:
    return [(int(event["id"]), event["event"]) for event in events if "id" in event]


def test_the_list_has_durable_events_and_stages_newest_first(api: Api, worker: Worker) -> None:
    id = finished(api, worker)
    assert listed(api, id) == WITH_STAGES[::-1]
    assert listed(api, id, order="asc") == WITH_STAGES
    assert listed(api, id, order="asc", after=17, limit=2) == WITH_STAGES[3:5]
    page = api.http.get(f"/v1/edits/{id}/events", params={"limit": 2}).json()
    assert (page["first_id"], page["last_id"], page["has_more"]) == (47, 46, True)
    (first,) = api.http.get(
        f"/v1/edits/{id}/events", params={"order": "asc", "after": 16, "limit": 1}
    ).json()["data"]
    assert first.pop("created_at") > 0
    assert first == {
        "id": 17,
        "object": "event",
        "type": "edit.stage",
        "edit_id": id,
        "data": {"attempt": 1, "stage": "extract", "progress": 0.0},
    }


def test_without_redis_the_durable_events_are_the_same(
    api: Api, worker: Worker, settings: Settings
) -> None:
    id = finished(api, worker)
    api.services.live.client.flushall()
    assert listed(api, id, order="asc") == DURABLE
    deaf = settings.model_copy(update={"redis_url": "unix:///nowhere.sock"})
    with running_api(deaf) as other:
        assert listed(other, id, order="asc") == DURABLE
        assert ids(stream(other, id)) == DURABLE


def test_a_stream_of_a_finished_edit_is_complete_and_closed(api: Api, worker: Worker) -> None:
    id = finished(api, worker)
    events = stream(api, id)
    assert ids(events) == WITH_STAGES
    for event in events:
        data = json.loads(event["data"])
        assert data["type"] == event["event"]
        assert str(data["id"]) == event["id"]
        assert data["edit_id"] == id
    final = json.loads(events[-1]["data"])["data"]
    assert final == {
        "attempt": 2,
        "status": "succeeded",
        "error": None,
        "variant": f"pico:{id}",
    }


@pytest.mark.parametrize("last", [0, 1, 16, 20, 33, 46])
def test_a_stream_goes_on_after_the_last_event_that_was_seen(
    api: Api, worker: Worker, last: int
) -> None:
    id = finished(api, worker)
    assert ids(stream(api, id, last)) == [event for event in WITH_STAGES if event[0] > last]


def test_after_the_final_event_there_is_no_content(api: Api, worker: Worker) -> None:
    id = finished(api, worker)
    for last in ("47", "99"):
        headers = {**STREAM, "Last-Event-ID": last}
        answer = api.http.get(f"/v1/edits/{id}/events", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_position_that_is_no_number_is_a_bad_request(api: Api, edit: str) -> None:
    headers = {**STREAM, "Last-Event-ID": "x"}
    assert api.http.get(f"/v1/edits/{edit}/events", headers=headers).status_code == 400
    assert api.http.get(f"/v1/edits/{edit}/events", params={"after": "x"}).status_code == 400


def test_a_stream_tells_what_happens_while_it_happens(api: Api, worker: Worker, edit: str) -> None:
    def next_step(number: int) -> None:
        if number == 1:
            worker.claim(edit)
            worker.tell_stage(edit, "extract")
        elif number == 3:
            worker.tell_stage(edit, "extract", 0.5)
        elif number == 4:
            worker.tell_stage(edit, "probe")
        elif number == 5:
            worker.succeed(edit)

    events = stream(api, edit, seen=next_step)
    assert [event["event"] for event in events] == [
        "edit.created",
        "edit.started",
        "edit.stage",
        "edit.progress",
        "edit.stage",
        "edit.attempt_ended",
        "edit.succeeded",
    ]
    assert "id" not in events[3]
    assert json.loads(events[3]["data"])["id"] is None
    assert json.loads(events[3]["data"])["data"]["progress"] == 0.5


def test_a_canceled_edit_ends_its_stream(api: Api, worker: Worker, edit: str) -> None:
    worker.claim(edit)

    def cancel(number: int) -> None:
        if number == 2:
            api.http.post(f"/v1/edits/{edit}/cancel")

    events = stream(api, edit, seen=cancel)
    assert ids(events) == [(1, "edit.created"), (16, "edit.started"), (31, "edit.canceled")]
    # Whether the worker still ends its attempt afterwards makes no difference to any reader.
    worker.lose(edit)
    assert listed(api, edit, order="asc") == ids(events)


def test_a_queued_edit_that_is_canceled_has_a_final_event_too(api: Api, edit: str) -> None:
    api.http.post(f"/v1/edits/{edit}/cancel")
    assert listed(api, edit, order="asc") == [(1, "edit.created"), (15, "edit.canceled")]


def test_a_deleted_edit_ends_its_stream(api: Api, worker: Worker, edit: str) -> None:
    stream(api, edit, seen=lambda _: api.http.delete(f"/v1/edits/{edit}"))
    assert api.http.get(f"/v1/edits/{edit}/events", headers=STREAM).status_code == 404


def test_a_server_about_to_stop_ends_its_streams_and_waits(settings: Settings) -> None:
    ends: list[Any] = []
    with running_api(settings) as api:
        worker = Worker(api.store, api.services.live.client)
        worker.register("pico")
        id = api.http.post("/v1/edits", json=edit_body()).json()["id"]

        def listen() -> None:
            with local_client(api.url, 20) as http:
                url = f"/v1/edits/{id}/events"
                with http.stream("GET", url, headers=STREAM) as answer:
                    ends.extend(answer.iter_lines())

        def wait() -> None:
            with local_client(api.url, 20) as http:
                ends.append(http.get(f"/v1/edits/{id}?wait=15").json()["status"])

        threads = [threading.Thread(target=listen), threading.Thread(target=wait)]
        for thread in threads:
            thread.start()
        while api.in_flight < len(threads):
            time.sleep(0.01)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert "retry: 2000" in ends
    assert "queued" in ends


def test_another_type_is_not_acceptable(api: Api, edit: str) -> None:
    answer = api.http.get(f"/v1/edits/{edit}/events", headers={"Accept": "text/html"})
    assert answer.status_code == 406
    assert answer.json()["code"] == "not_acceptable"
