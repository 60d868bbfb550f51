"""An edit made again from the record of it."""

from __future__ import annotations

import pytest

from models_store.schemas.records import EditSettings
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api

ASKED = {
    "seed": 7,
    "suffix": "kinder",
    "metadata": {"team": "docs"},
    "effort": "quick",
    "limits": {"max_kl": 0.05},
    "method": {"type": "bias", "layers": [1]},
    "preserve": ["stay as you are"],
}


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body(**ASKED)).json()["id"]
    worker.succeed(id)
    return id


def test_it_asks_for_the_same_again_without_the_suffix(api: Api, edit: str) -> None:
    answer = api.http.post(f"/v1/edits/{edit}/reproduce")

    assert answer.status_code == 201, answer.text
    made, model = answer.json(), api.http.get(f"/v1/edits/{edit}").json()
    assert made["id"] != edit
    assert answer.headers["Location"] == f"/v1/edits/{made['id']}"
    assert (made["status"], made["reproduces"], made["suffix"]) == ("queued", edit, None)
    assert (model["reproduces"], model["suffix"]) == (None, "kinder")
    for field in ("base_model", "behavior", "method", "limits", "effort", "seed", "metadata"):
        assert made[field] == model[field], field


def test_it_takes_the_very_texts_and_the_pinned_weights(api: Api, edit: str) -> None:
    made = api.http.post(f"/v1/edits/{edit}/reproduce").json()["id"]

    work = api.store.work
    first, second = (Place("edit", "default", id) for id in (edit, made))
    assert work.read_artifact(second.texts) == work.read_artifact(first.texts)
    requests = [work.read("edit", "default", id).request for id in (edit, made)]
    assert requests[0].base_fingerprint == requests[1].base_fingerprint
    assert requests[1].body == {
        name: value for name, value in requests[0].body.items() if name != "suffix"
    }
    settings = [request.settings for request in requests]
    assert all(isinstance(one, EditSettings) for one in settings)
    assert settings[1].model_copy(update={"suffix": "kinder", "reproduces": None}) == settings[0]


def test_an_edit_on_top_of_another_is_made_again_on_top_of_it(
    api: Api, worker: Worker, edit: str
) -> None:
    body = edit_body(on_top_of=f"pico:{edit}@0.5")
    above = api.http.post("/v1/edits", json=body).json()["id"]
    worker.succeed(above)

    made = api.http.post(f"/v1/edits/{above}/reproduce").json()
    assert made["on_top_of"] == f"pico:{edit}@0.5"

    assert api.http.delete(f"/v1/edits/{edit}").status_code == 200
    refused = api.http.post(f"/v1/edits/{above}/reproduce")
    assert (refused.status_code, refused.json()["code"]) == (409, "parents_missing")
    assert edit in refused.json()["detail"]


def test_only_an_edit_with_a_report_can_be_made_again(api: Api, worker: Worker) -> None:
    ids = [api.http.post("/v1/edits", json=edit_body()).json()["id"] for _ in range(3)]
    worker.claim(ids[1])
    worker.fail(ids[2])
    expected = [(409, "edit_not_finished"), (409, "edit_not_finished"), (404, "no_report")]

    for id, (status, code) in zip(ids, expected, strict=True):
        answer = api.http.post(f"/v1/edits/{id}/reproduce")
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    for id in ("edit_" + "0" * 26, "nothing"):
        answer = api.http.post(f"/v1/edits/{id}/reproduce")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_other_weights_under_the_same_id_are_refused(api: Api, worker: Worker, edit: str) -> None:
    api.store.bases.remove("pico")
    worker.register("pico", fingerprint="sha256:" + "cd" * 32)

    answer = api.http.post(f"/v1/edits/{edit}/reproduce")

    assert (answer.status_code, answer.json()["code"]) == (409, "base_model_changed")


def test_a_repeated_request_makes_one_edit(api: Api, worker: Worker, edit: str) -> None:
    headers = {"Idempotency-Key": "again"}
    answers = [api.http.post(f"/v1/edits/{edit}/reproduce", headers=headers) for _ in range(2)]

    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert "Idempotent-Replayed" not in answers[0].headers
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    other = api.http.post("/v1/edits", json=edit_body(), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
