"""The catalogue over HTTP, and how it is filled at start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from models_store.errors import InvalidRequest
from models_store.schemas.catalogue import SMOLLM2
from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.models_store.make import FINGERPRINT
from tests.support.services import Api, running_api

SOURCE = {"type": "folder", "path": "/weights/new"}


def test_a_registration_is_work_with_a_status(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/base_models", json={"id": "new", "source": SOURCE, "chat": False})
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/base_models/new"
    model = answer.json()
    assert (model["id"], model["status"], model["object"]) == ("new", "queued", "base_model")
    assert model["source"] == SOURCE
    assert (model["fingerprint"], model["layers"], model["chat"]) == (None, None, False)
    held = api.store.bases.find("new")
    assert held is not None
    worker.end_registration(held.work.id)
    model = api.http.get("/v1/base_models/new", params={"wait": 5}).json()
    assert (model["status"], model["fingerprint"]) == ("succeeded", FINGERPRINT)
    assert (model["layers"], model["architecture"]) == (2, "llama")
    assert "new" in [one["id"] for one in api.http.get("/v1/models").json()["data"]]


def test_a_failed_registration_says_why_and_can_be_repeated(api: Api, worker: Worker) -> None:
    body = {"id": "new", "source": SOURCE}
    api.http.post("/v1/base_models", json=body)
    held = api.store.bases.find("new")
    assert held is not None
    worker.fail(held.work.id, "base_model_unavailable", "base_model")
    model = api.http.get("/v1/base_models/new").json()
    assert (model["status"], model["error"]["message"]) == ("failed", "it went wrong")
    refused = api.http.post("/v1/edits", json=edit_body(base_model="new"))
    assert refused.status_code == 422
    assert "it went wrong" in refused.json()["detail"]
    assert api.http.post("/v1/base_models", json=body).status_code == 201
    assert api.http.get("/v1/base_models/new").json()["status"] == "queued"


def test_an_id_is_registered_once(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/base_models", json={"id": "pico", "source": SOURCE})
    assert (answer.status_code, answer.json()["code"]) == (409, "base_model_exists")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": "New!", "source": SOURCE}, "/id"),
        ({"id": "new"}, "/source"),
        ({"id": "new", "source": {"type": "folder", "path": "weights"}}, "/source/path"),
        (
            {"id": "new", "source": {"type": "hub", "repo": "a/b", "revision": "main"}},
            "/source/revision",
        ),
        ({"id": "new", "source": {"type": "floppy"}}, "/source"),
        ({"id": "new", "source": SOURCE, "pool": "a b"}, "/pool"),
        ({"id": "new", "source": SOURCE, "trust_remote_code": True}, "/trust_remote_code"),
    ],
)
def test_a_wrong_field_is_pointed_to(api: Api, body: dict[str, Any], pointer: str) -> None:
    answer = api.http.post("/v1/base_models", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_base_models_are_listed_by_id(api: Api, worker: Worker) -> None:
    worker.register("alpha")
    page = api.http.get("/v1/base_models", params={"order": "asc", "limit": 1}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (["alpha"], True)
    rest = api.http.get("/v1/base_models", params={"order": "asc", "after": "alpha"}).json()
    assert [one["id"] for one in rest["data"]] == ["pico"]


def test_a_base_model_in_use_is_not_removed(api: Api, worker: Worker) -> None:
    api.http.put("/v1/aliases/bot", json={"variant": "pico"})
    answer = api.http.delete("/v1/base_models/pico")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    api.http.delete("/v1/aliases/bot")
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    answer = api.http.delete("/v1/base_models/pico")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert id in answer.json()["detail"]
    worker.succeed(id)
    assert api.http.delete("/v1/base_models/pico").json()["deleted"] is True
    assert api.http.get("/v1/base_models/pico").status_code == 404
    assert api.http.delete("/v1/base_models/pico").status_code == 404
    assert api.http.get(f"/v1/edits/{id}").status_code == 200
    assert api.http.get("/v1/models").json()["data"] == []
    worker.register("pico", fingerprint="sha256:" + "cd" * 32)
    answer = api.http.put("/v1/aliases/bot", json={"variant": f"pico:{id}"})
    assert (answer.status_code, answer.json()["code"]) == (409, "base_model_changed")


def test_removing_a_base_model_cancels_its_registration(api: Api, worker: Worker) -> None:
    api.http.post("/v1/base_models", json={"id": "new", "source": SOURCE})
    held = api.store.bases.find("new")
    assert held is not None
    assert api.http.delete("/v1/base_models/new").status_code == 200
    assert api.store.work.read("base_model", "_", held.work.id).status == "canceled"


def catalogued(api: Api, *ids: str) -> bool:
    """Whether the catalogue comes to have these models; it is filled in the background."""
    for _ in range(200):
        if [base.id for base in api.store.bases.all()] == sorted(ids):
            return True
        time.sleep(0.02)
    return False


def test_an_operators_list_and_the_default_model_are_registered_once(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[[base_model]]\nid = "mine"\nsource = { type = "folder", path = "w" }\n')
    listed = settings.model_copy(update={"base_models": file, "default_base_model": True})
    with running_api(listed) as api:
        assert catalogued(api, "mine", SMOLLM2.id)
        held = {base.id: base.work.id for base in api.store.bases.all()}
        assert len(list(api.store.work.open_work())) == 2
    with running_api(listed) as api:
        assert catalogued(api, "mine", SMOLLM2.id)
        time.sleep(0.3)
        assert {base.id: base.work.id for base in api.store.bases.all()} == held
    changed = '[[base_model]]\nid = "mine"\npool = "gpu"\nsource = {type = "folder", path = "w"}\n'
    file.write_text(changed)
    with running_api(listed) as api:
        for _ in range(200):
            found = api.store.bases.find("mine")
            if found is not None and found.spec.pool == "gpu":
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the change was not registered")


def test_a_broken_list_of_base_models_keeps_the_api_from_starting(
    settings: Settings, tmp_path: Path
) -> None:
    broken = settings.model_copy(update={"base_models": tmp_path / "absent.toml"})
    with pytest.raises(InvalidRequest, match="SCALPEL_BASE_MODELS"), running_api(broken):
        pass
