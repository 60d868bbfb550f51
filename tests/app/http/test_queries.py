"""Queries are read as strictly as bodies."""

from __future__ import annotations

import pytest

from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


@pytest.mark.parametrize(
    ("path", "query", "known"),
    [
        ("/v1/edits", "stauts=failed", "status"),
        ("/v1/edits", "metadata=red", "metadata[key]"),
        ("/v1/edits", "metadata[team=red", "metadata[key]"),
        ("/v1/edits", "limit[1]=2", "limit"),
        ("/v1/exports", "metadata[team]=red", "base_model"),
        ("/v1/base_models", "wait=5", "limit"),
        ("/v1/aliases/x", "version=1", "none"),
        ("/readyz", "required=all", "require"),
    ],
)
def test_a_parameter_that_a_call_has_not_is_refused(
    api: Api, path: str, query: str, known: str
) -> None:
    answer = api.http.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert query.partition("=")[0] in answer.json()["detail"]
    assert known in answer.json()["detail"]


def test_nothing_is_made_by_a_call_with_such_a_query(api: Api, worker: Worker) -> None:
    assert api.http.post("/v1/edits?dry_run=true", json=edit_body()).status_code == 400
    assert api.http.get("/v1/edits").json()["data"] == []


def test_openais_paths_ignore_what_clients_add(api: Api, worker: Worker) -> None:
    assert api.http.get("/v1/models?api-version=1").status_code == 200
