"""Standard suites as a request names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.main import create_app
from models_store.errors import InvalidRequest
from models_store.schemas.records import EditSettings
from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """The server has data for one suite."""
    file = tmp_path / "suites.toml"
    file.write_text('[toxicity]\ndata = "prompts.jsonl"\n')
    return settings.model_copy(update={"suites": file})


def test_a_suite_that_cannot_be_run_is_refused_with_what_is_configured(
    api: Api, worker: Worker
) -> None:
    for name, code in (("mmlu", "unknown_suite"), ("refusal", "suite_not_configured")):
        answer = api.http.post("/v1/edits", json=edit_body(suites=["toxicity", name]))
        assert answer.status_code == 422
        error = answer.json()["errors"][0]
        assert (error["pointer"], error["code"]) == ("/suites/1", code)
        assert "configured here: toxicity" in error["detail"]


def test_a_configured_suite_goes_into_the_record(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/edits", json=edit_body(suites=["toxicity"]))
    assert answer.status_code == 201, answer.text
    recorded = api.store.work.read("edit", "default", answer.json()["id"]).request.settings
    assert isinstance(recorded, EditSettings)
    assert recorded.suites == ("toxicity",)


def test_an_edit_whose_suite_has_no_data_any_more_is_not_made_again(
    api: Api, worker: Worker
) -> None:
    id = api.http.post("/v1/edits", json=edit_body(suites=["toxicity"])).json()["id"]
    worker.succeed(id)
    assert api.http.post(f"/v1/edits/{id}/reproduce").status_code == 201
    api.store.submission._suites = ()

    answer = api.http.post(f"/v1/edits/{id}/reproduce")

    assert (answer.status_code, answer.json()["errors"]) == (422, [])
    assert f"{id} ran the suite toxicity, which has no data" in answer.json()["detail"]


def test_a_wrong_file_of_suites_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "suites.toml").write_text("[toxicity]\n")
    with pytest.raises(InvalidRequest, match=r"suites\.toml: toxicity\.data"):
        create_app(settings)
