"""What the API tells of an edit that was tried too often."""

from __future__ import annotations

import pytest

from models_store.schemas.records import AttemptEnd, Outcome
from models_store.settings import Settings
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body
from tests.support.services import running_api


@pytest.mark.parametrize("outcome", ["lost", "handed_back"])
def test_after_ten_attempts_an_edit_fails_with_all_of_them_listed(
    settings: Settings, outcome: Outcome
) -> None:
    with running_api(settings) as quiet:
        worker = Worker(quiet.store, quiet.services.live.client)
        worker.register("pico")
        id = quiet.http.post("/v1/edits", json=edit_body()).json()["id"]
        place = Place("edit", "default", id)
        for number in range(1, settings.max_attempts + 1):
            assert worker.claim(id) == number
            quiet.store.work.end_attempt(place, AttemptEnd(attempt=number, outcome=outcome))
    with running_api(settings, with_keeper=True) as api:
        edit = api.http.get(f"/v1/edits/{id}", params={"wait": 10}).json()
        assert (edit["status"], edit["attempt"]) == ("failed", 10)
        assert edit["error"]["code"] == "worker_lost"
        listed = [(one["n"], one["outcome"]) for one in edit["error"]["attempts"]]
        assert listed == [(number, outcome) for number in range(1, 11)]
        assert api.http.get(f"/v1/edits/{id}/report").json()["code"] == "no_report"
