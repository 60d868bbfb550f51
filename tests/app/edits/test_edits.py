"""Edits over HTTP: queued, listed, read, canceled, forgotten."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from models_store.live import keys as redis_keys
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


def test_a_queued_edit_is_answered_with_all_its_fields(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/edits", json=edit_body(metadata={"team": "support"}))
    assert answer.status_code == 201
    edit = answer.json()
    assert answer.headers["Location"] == f"/v1/edits/{edit['id']}"
    assert edit["id"].startswith("edit_")
    assert edit["behavior"].pop("sha256").startswith("sha256:")
    created_at = edit.pop("created_at")
    assert abs(created_at - time.time()) < 60
    method = edit.pop("method")
    assert method["type"] == "auto"
    assert edit == {
        "id": edit["id"],
        "object": "edit",
        "status": "queued",
        "stage": None,
        "progress": None,
        "attempt": 0,
        "queue_position": 1,
        "base_model": "pico",
        "behavior": {
            "id": None,
            "name": "tone",
            "counts": {"undesired": 20, "desired": 20, "prompts": 0},
        },
        "limits": {
            "max_kl": 0.1,
            "max_perplexity_ratio": 1.12,
            "max_domain": 0.3,
            "max_fluency": 0.25,
            "max_kl_p95": 0.5,
            "max_changed_choices": 0.25,
            "max_loops": 0.15,
            "max_repetition": 0.1,
            "max_harmless_refusals": 0.1,
        },
        "effort": "standard",
        "seed": 0,
        "suffix": None,
        "on_top_of": None,
        "measures": None,
        "suites": [],
        "reproduces": None,
        "metadata": {"team": "support"},
        "started_at": None,
        "finished_at": None,
        "error": None,
        "points": [],
        "report_summary": None,
        "outcome": None,
        "warnings": [],
        "variant": None,
        "model": None,
        "imported": None,
    }


def test_a_running_edit_shows_its_stage(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.claim(id)
    worker.tell_stage(id, "probe")
    worker.tell_stage(id, "probe", 0.4)
    edit = api.http.get(f"/v1/edits/{id}").json()
    assert (edit["status"], edit["stage"], edit["progress"]) == ("running", "probe", 0.4)
    assert edit["attempt"] == 1
    assert edit["started_at"] is not None
    assert edit["queue_position"] is None


def test_waiting_is_answered_when_the_edit_ends(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    threading.Timer(0.3, worker.succeed, [id]).start()
    edit = api.http.get(f"/v1/edits/{id}", params={"wait": 15}).json()
    assert edit["status"] == "succeeded"
    assert edit["variant"] == f"pico:{id}"
    assert edit["points"] == [{"index": 0, "selected": True}]
    assert edit["report_summary"] == {"verdict": "It works."}
    assert edit["progress"] == 1.0


def test_waiting_in_vain_is_answered_with_the_edit_as_it_is(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    answer = api.http.get(f"/v1/edits/{id}", params={"wait": 0.2})
    assert answer.status_code == 200
    assert answer.json()["status"] == "queued"


def test_listing_goes_page_by_page_newest_first(api: Api, worker: Worker) -> None:
    ids = [api.http.post("/v1/edits", json=edit_body(seed=n)).json()["id"] for n in range(5)]
    first = api.http.get("/v1/edits", params={"limit": 2}).json()
    assert [edit["id"] for edit in first["data"]] == [ids[4], ids[3]]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
    rest = api.http.get("/v1/edits", params={"limit": 3, "after": first["last_id"]}).json()
    assert [edit["id"] for edit in rest["data"]] == [ids[2], ids[1], ids[0]]
    assert rest["has_more"] is False
    ascending = api.http.get("/v1/edits", params={"order": "asc", "after": ids[2]}).json()
    assert [edit["id"] for edit in ascending["data"]] == ids[3:]
    assert [edit["queue_position"] for edit in ascending["data"]] == [4, 5]


def test_a_position_in_a_list_need_not_exist(api: Api, worker: Worker) -> None:
    ids = [api.http.post("/v1/edits", json=edit_body()).json()["id"] for _ in range(3)]
    assert api.http.delete(f"/v1/edits/{ids[1]}").status_code == 200
    page = api.http.get("/v1/edits", params={"after": ids[1]}).json()
    assert [edit["id"] for edit in page["data"]] == [ids[0]]
    empty = api.http.get("/v1/edits", params={"after": "edit_" + "0" * 26}).json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_lists_are_filtered(api: Api, worker: Worker) -> None:
    worker.register("other")
    red = api.http.post("/v1/edits", json=edit_body(metadata={"team": "red"})).json()["id"]
    blue = api.http.post(
        "/v1/edits", json=edit_body(metadata={"team": "blue"}, base_model="other")
    ).json()["id"]
    worker.succeed(blue)
    for params, expected in (
        ({"metadata[team]": "red"}, [red]),
        ({"metadata[team]": "red", "metadata[x]": "y"}, []),
        ({"status": "succeeded"}, [blue]),
        ({"status": "queued"}, [red]),
        ({"base_model": "other"}, [blue]),
    ):
        found = api.http.get("/v1/edits", params=params).json()["data"]
        assert [edit["id"] for edit in found] == expected, params
    (listed,) = api.http.get("/v1/edits", params={"status": "succeeded"}).json()["data"]
    assert listed["points"] == []
    assert listed["report_summary"] == {"verdict": "It works."}


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"order": "up"},
        {"after": "x"},
        {"status": "?"},
    ],
)
def test_a_query_that_means_nothing_is_a_bad_request(api: Api, params: dict[str, Any]) -> None:
    answer = api.http.get("/v1/edits", params=params)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"
    assert next(iter(params)) in answer.json()["detail"]


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon"])
def test_waiting_has_bounds(api: Api, worker: Worker, wait: str) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    assert api.http.get(f"/v1/edits/{id}", params={"wait": wait}).status_code == 400


def test_canceling_ends_queued_and_running_edits(api: Api, worker: Worker) -> None:
    for claimed in (False, True):
        id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
        if claimed:
            worker.claim(id)
        for _ in range(2):  # canceling again is fine
            answer = api.http.post(f"/v1/edits/{id}/cancel")
            assert answer.status_code == 200
            assert answer.json()["status"] == "canceled"
            assert answer.json()["finished_at"] is not None
        assert api.store.work.result_of(Place("edit", "default", id)) is not None


def test_an_edit_that_has_ended_cannot_be_canceled(api: Api, worker: Worker) -> None:
    for end in (worker.succeed, worker.fail):
        id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
        end(id)
        answer = api.http.post(f"/v1/edits/{id}/cancel")
        assert answer.status_code == 409
        assert answer.json()["code"] == "edit_already_finished"


def test_a_deleted_edit_is_gone_with_its_files(api: Api, worker: Worker) -> None:
    for end in (worker.succeed, worker.fail, worker.claim, None):
        id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
        if end is not None:
            end(id)
        answer = api.http.delete(f"/v1/edits/{id}")
        assert answer.status_code == 200
        assert answer.json() == {"id": id, "object": "edit", "deleted": True}
        for path in ("", "/report", "/delta", "/events"):
            assert api.http.get(f"/v1/edits/{id}{path}").status_code == 404
        assert api.http.post(f"/v1/edits/{id}/cancel").status_code == 404
        assert api.http.delete(f"/v1/edits/{id}").status_code == 404
        left = api.store.objects.files(Place("edit", "default", id).folder)
        names = {info.path.rpartition("/")[2] for info in left}
        assert names == {"deleted.json", "summary.json"}


def test_an_edit_behind_an_alias_is_in_use(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.succeed(id)
    api.http.put("/v1/aliases/bot", json={"variant": f"pico:{id}@0.5"})
    answer = api.http.delete(f"/v1/edits/{id}")
    assert answer.status_code == 409
    assert answer.json()["code"] == "in_use"
    assert "bot" in answer.json()["detail"]
    assert api.http.delete("/v1/aliases/bot").status_code == 200
    assert api.http.delete(f"/v1/edits/{id}").status_code == 200


def test_a_failed_edit_tells_of_its_attempts(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.claim(id)
    worker.lose(id)
    assert api.http.get(f"/v1/edits/{id}").json()["status"] == "running"
    worker.claim(id)
    worker.fail(id, "out_of_memory")
    edit = api.http.get(f"/v1/edits/{id}").json()
    assert edit["status"] == "failed"
    assert edit["attempt"] == 2
    assert (edit["error"]["code"], edit["error"]["message"]) == ("out_of_memory", "it went wrong")
    assert [(one["n"], one["outcome"]) for one in edit["error"]["attempts"]] == [
        (1, "lost"),
        (2, "failed"),
    ]
    assert edit["variant"] is None


@pytest.mark.parametrize("id", ["edit_" + "0" * 26, "nonsense", "edit_..", "%2e%2e%2fopen"])
def test_ids_that_nobody_has_are_not_found(api: Api, id: str) -> None:
    for answer in (
        api.http.get(f"/v1/edits/{id}"),
        api.http.get(f"/v1/edits/{id}?wait=1"),
        api.http.get(f"/v1/edits/{id}/delta"),
        api.http.post(f"/v1/edits/{id}/cancel"),
        api.http.delete(f"/v1/edits/{id}"),
    ):
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"


def test_posting_wakes_the_keeper(api: Api, worker: Worker) -> None:
    client = api.services.live.client
    client.delete(redis_keys.WAKE)
    api.http.post("/v1/edits", json=edit_body())
    assert client.llen(redis_keys.WAKE) == 1
