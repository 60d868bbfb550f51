"""Receipts of variants that are there already."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.accounts.stored_bytes import StoredBytes
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body, texts
from tests.support.services import Api


def made(api: Api, worker: Worker, **options: Any) -> str:
    id = str(api.http.post("/v1/edits", json=edit_body(**options)).json()["id"])
    worker.succeed(id)
    return id


def refusal(api: Api, **body: Any) -> tuple[int, str, str]:
    response = api.http.post("/v1/receipts", json=body)
    found = response.json()
    pointers = [error["pointer"] for error in found.get("errors", ())]
    return response.status_code, found["code"], ",".join(pointers)


def test_several_edits_are_queued_to_be_measured_together(api: Api, worker: Worker) -> None:
    one, two = made(api, worker, seed=1), made(api, worker, seed=7, suffix="kinder")
    variant = f"pico:{one}+kinder@0.5"
    response = api.http.post("/v1/receipts", json={"variant": variant, "suffix": "both"})
    assert response.status_code == 201, response.text
    queued = response.json()
    assert response.headers["Location"] == f"/v1/edits/{queued['id']}"
    assert (queued["status"], queued["measures"]) == ("queued", f"pico:{one}+{two}@0.5")
    assert queued["method"]["type"] == "given"
    assert queued["seed"] == 7, "that of the last edit, whose behaviour it has"
    last = api.http.get(f"/v1/edits/{two}").json()
    assert queued["behavior"] == last["behavior"]
    assert last["measures"] is None
    store = api.store.work
    first, second = (Place("edit", "default", id) for id in (two, queued["id"]))
    assert store.read_artifact(second.texts) == store.read_artifact(first.texts)
    worker.succeed(queued["id"])
    assert api.http.get(f"/v1/edits/{queued['id']}").json()["variant"] == f"pico:{queued['id']}"
    assert api.http.get("/v1/models/pico:both").status_code == 200


def test_a_behavior_of_the_request_is_taken_in_place_of_that_of_the_edit(
    api: Api, worker: Worker
) -> None:
    edit = made(api, worker, seed=7)
    behavior = {"name": "tone", "undesired": texts("rude"), "desired": texts("polite")}
    body = {"variant": f"pico:{edit}", "behavior": behavior, "preserve": ["stay as you are"]}
    queued = api.http.post("/v1/receipts", json=body).json()
    assert (queued["behavior"]["name"], queued["seed"]) == ("tone", 0)


def test_a_repeat_with_the_same_key_measures_once(api: Api, worker: Worker) -> None:
    body = {"variant": f"pico:{made(api, worker)}"}
    headers = {"Idempotency-Key": "once"}
    first, again = (api.http.post("/v1/receipts", json=body, headers=headers) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"


def test_it_is_not_made_again_without_what_it_measures(api: Api, worker: Worker) -> None:
    edit = made(api, worker)
    id = api.http.post("/v1/receipts", json={"variant": f"pico:{edit}"}).json()["id"]
    worker.succeed(id)
    assert api.http.post(f"/v1/edits/{id}/reproduce").status_code == 201
    api.http.delete(f"/v1/edits/{edit}").raise_for_status()
    refused = api.http.post(f"/v1/edits/{id}/reproduce")
    assert (refused.status_code, refused.json()["code"]) == (409, "parents_missing")
    assert edit in refused.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"variant": "pico"}, (422, "invalid_request", "/variant")),
        ({"variant": "pico:nobody"}, (422, "invalid_request", "/variant")),
        ({"variant": "pico:EDIT@9"}, (400, "invalid_variant", "")),
        ({"behavior": "nobody"}, (422, "invalid_request", "/behavior")),
        ({"suites": ["nobody"]}, (422, "invalid_request", "/suites/0")),
        ({"limits": {"max_kl": -1}}, (422, "invalid_request", "/limits/max_kl")),
        ({"method": {"type": "bias"}}, (422, "invalid_request", "/method")),
    ],
)
def test_what_is_wrong_is_named(
    api: Api, worker: Worker, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    edit = made(api, worker)
    body = {"variant": f"pico:{edit}", **changes}
    body["variant"] = body["variant"].replace("EDIT", edit)
    assert refusal(api, **body) == expected


def test_an_edit_that_has_not_ended_cannot_be_measured(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    assert refusal(api, variant=f"pico:{id}")[:2] == (409, "edit_not_finished")


def test_a_behavior_that_an_edit_was_made_for_is_measured_by_that_edits_seed(
    api: Api, worker: Worker
) -> None:
    one, two = made(api, worker, seed=7, behavior="toxicity"), made(api, worker, seed=8)
    body = {"variant": f"pico:{one}+{two}", "behavior": "toxicity"}
    assert api.http.post("/v1/receipts", json=body).json()["seed"] == 7
    assert api.http.post("/v1/receipts", json={**body, "seed": 3}).json()["seed"] == 3


def test_an_import_is_measured_by_a_behavior_that_is_named(api: Api, worker: Worker) -> None:
    body = {
        "base_model": "pico",
        "source": {"type": "hub", "repo": "somebody/adapter", "revision": "0" * 40},
    }
    id = api.http.post("/v1/imports", json=body).json()["id"]
    worker.succeed(id)
    assert refusal(api, variant=f"pico:{id}") == (422, "invalid_request", "/behavior")
    measured = api.http.post("/v1/receipts", json={"variant": f"pico:{id}", "behavior": "toxicity"})
    assert measured.status_code == 201, measured.text


def test_a_measurement_that_the_policy_held_back_is_made_again(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/receipts", json={"variant": f"pico:{made(api, worker)}"}).json()["id"]
    worker.hold_back(id, {"report": b"{}"})
    assert api.http.post(f"/v1/edits/{id}/reproduce").status_code == 201


def test_the_delta_of_a_measurement_counts_before_it_is_there(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.succeed(id, delta=bytes(5_000_000))
    usage = StoredBytes(api.store.objects, "default")
    before = usage.count(whole=True)
    queued = api.http.post("/v1/receipts", json={"variant": f"pico:{id}"}).json()["id"]
    assert usage.count(whole=False) > before + 5_000_000
    worker.succeed(queued, delta=bytes(5_000_000))
    assert before + 5_000_000 < usage.count(whole=True) < before + 6_000_000
