"""Edits over HTTP: queued, listed, read, canceled, forgotten."""

from __future__ import annotations

import threading
import time

from tests.app.worker import Worker, edit_body
from tests.services import Api


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
    assert method["type"] == "bias"
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
        "limits": {"max_kl": 0.1},
        "seed": 0,
        "suffix": None,
        "on_top_of": None,
        "metadata": {"team": "support"},
        "started_at": None,
        "finished_at": None,
        "error": None,
        "points": [],
        "report_summary": None,
        "variant": None,
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
