"""What people are told of a wrong request: what is wrong, all of it, and what was meant."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.cli.openapi import openapi_document
from models_store.ids import IN_WORDS
from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.work.base_models import registration
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


@pytest.fixture
def kinder(api: Api, worker: Worker) -> str:
    """An edit that can be served."""
    id = str(api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"])
    worker.claim(id)
    worker.succeed(id)
    return id


def details(api: Api, path: str, body: Any, method: str = "POST") -> dict[str, tuple[str, str]]:
    """Code and detail by pointer."""
    answer = api.http.request(method, path, json=body)
    assert answer.status_code == 422, answer.text
    return {one["pointer"]: (one["code"], one["detail"]) for one in answer.json()["errors"]}


BEHAVIOR = edit_body()["behavior"]


@pytest.mark.parametrize(
    ("path", "body", "pointer", "meant"),
    [
        ("/v1/edits", {"behaviour": "negativity", "base_model": "pico"}, "/behaviour", "behavior"),
        ("/v1/edits", {"model": "pico", "behavior": "negativity"}, "/model", "base_model"),
        ("/v1/edits", edit_body(limits={"max_k": 1}), "/limits/max_k", "max_kl"),
        ("/v1/edits", edit_body(method={"type": "bias", "layer": [1]}), "/method/layer", "layers"),
        (
            "/v1/edits",
            edit_body(method={"type": "model_surgery", "fractions": 1}),
            "/method/fractions",
            "fraction",
        ),
        ("/v1/edits", edit_body(behavior={**BEHAVIOR, "chats": True}), "/behavior/chats", "chat"),
        (
            "/v1/edits",
            edit_body(behavior={**BEHAVIOR, "prompts": [{"text": "a", "spilt": "test"}]}),
            "/behavior/prompts/0/spilt",
            "split",
        ),
        (
            "/v1/edits",
            edit_body(preserve=[{"prompt": "a", "completion": "b", "pair": "c"}]),
            "/preserve/0/pair",
            "pair_id",
        ),
        ("/v1/exports", {"model": "pico:kinder", "format": "peft"}, "/model", "variant"),
        (
            "/v1/compare",
            {"model": "pico", "prompt": "a", "max_token": 1},
            "/max_token",
            "max_tokens",
        ),
        ("/v1/behaviors", {**BEHAVIOR, "prompt": []}, "/prompt", "prompts"),
        ("/v1/webhooks", {"url": "https://example.com/", "event": []}, "/event", "events"),
    ],
)
def test_a_field_that_there_is_not_names_the_one_that_was_meant(
    api: Api, worker: Worker, path: str, body: Any, pointer: str, meant: str
) -> None:
    code, detail = details(api, path, body)[pointer]
    assert code == "extra_forbidden"
    assert detail.endswith(f": there is no such field; did you mean {meant}?")


def test_a_field_that_is_like_no_other_is_to_be_left_out(api: Api, worker: Worker) -> None:
    _, detail = details(api, "/v1/edits", edit_body(zzz=1))["/zzz"]
    assert detail == "zzz: there is no such field: leave it out"


def test_the_detail_names_every_wrong_field(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/edits", json=edit_body(seed=-1, effort="fast")).json()
    assert answer["detail"] == (
        "effort: must be 'quick', 'standard' or 'thorough'; "
        "seed: must be greater than or equal to 0"
    )
    many = edit_body(**{f"field{number}x": 1 for number in range(5)})
    assert api.http.post("/v1/edits", json=many).json()["detail"].endswith("; and 2 more")


def test_patterns_are_told_in_words(api: Api, worker: Worker) -> None:
    _, detail = details(api, "/v1/edits", edit_body(suffix="My_Edit"))["/suffix"]
    assert detail == "suffix: must be 1 to 40 of a-z, 0-9 and '-', the first a letter or digit"
    answer = api.http.get("/v1/edits?after=xyz")
    assert answer.status_code == 400
    assert "must be an id, such as edit_01" in answer.json()["detail"]


def test_every_pattern_of_a_request_has_words() -> None:
    found = {
        pattern.encode().decode("unicode_escape")
        for pattern in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', openapi_document())
    }
    assert found
    assert found <= IN_WORDS.keys()


def test_a_list_is_not_too_short_because_an_item_is_wrong(api: Api, kinder: str) -> None:
    path = f"/v1/edits/{kinder}/compare"
    assert list(details(api, path, {"prompts": ["a"], "strengths": [5]})) == ["/strengths/0"]
    assert list(details(api, path, {"prompts": ["a"], "strengths": []})) == ["/strengths"]


def test_types_are_those_of_json(api: Api, kinder: str) -> None:
    path = f"/v1/edits/{kinder}/compare"
    expected = ("list_type", "prompts: must be a list")
    assert details(api, path, {"prompts": "a"})["/prompts"] == expected
    limits = details(api, "/v1/edits", edit_body(limits=5))["/limits"]
    assert limits == ("object_type", "limits: must be an object")


def test_a_method_may_be_named_alone(api: Api, worker: Worker) -> None:
    for name in ("bias", "model_surgery", "auto"):
        named, written = (
            api.http.post("/v1/edits", json=edit_body(method=method)).json()["method"]
            for method in (name, {"type": name})
        )
        assert named == written
    _, detail = details(api, "/v1/edits", edit_body(method={"type": "biass"}))["/method"]
    assert detail.startswith("method: type is 'biass', which is none of 'model_surgery', 'bias'")
    _, detail = details(api, "/v1/edits", edit_body(method="biass"))["/method"]
    assert detail.startswith("method: must be 'model_surgery', 'bias'")


def test_a_base_model_that_waits_for_an_editor_is_not_said_to_take_seconds(
    api: Api, worker: Worker
) -> None:
    spec = BaseModelSpec(id="unready", source=FolderSource(path=Path("/weights")))
    work = api.store.bases.register(registration(spec, 3600))
    said = api.http.post("/v1/edits", json=edit_body(base_model="unready")).json()["detail"]
    assert "it waits for an editor" in said
    assert "/readyz" in said
    assert "seconds" not in said
    worker.claim(work.id, "base_model", "_")
    said = api.http.post("/v1/edits", json=edit_body(base_model="unready")).json()["detail"]
    assert "try again in a few seconds" in said


def test_a_call_of_openais_that_is_not_here_is_told_to_its_clients(api: Api) -> None:
    for method, path in (("GET", "/v1/nothing"), ("POST", "/v1/embeddings/x")):
        answer = api.http.request(method, path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
        found = answer.json()
        assert (found["code"], found["detail"]) == ("not_found", f"there is no path {path}")
        assert found["error"] == {
            "message": f"there is no path {path}",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    assert "error" not in api.http.get("/nothing").json()
    assert "error" not in api.http.get("/v1/edits/edit_" + "0" * 26).json()


def test_wrong_values_on_openais_paths_are_400(api: Api, worker: Worker) -> None:
    body = {"model": "pico", "mesages": [], "temperature": 9}
    answer = api.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "temperature")
    assert "did you mean messages?" in error["message"]


def test_edits_are_found_by_suffix_and_behavior(api: Api, worker: Worker, kinder: str) -> None:
    def found(query: str) -> list[str]:
        page = api.http.get(f"/v1/edits?{query}")
        assert page.status_code == 200, page.text
        return [edit["id"] for edit in page.json()["data"]]

    worker.register("other")
    refusal, again = (
        str(api.http.post("/v1/edits", json=edit_body(**changes)).json()["id"])
        for changes in (
            {"behavior": "refusal", "suffix": "bold"},
            {"base_model": "other", "suffix": "kinder"},
        )
    )
    assert found("suffix=kinder") == [again, kinder]
    assert found("suffix=kinder&base_model=pico") == [kinder]
    assert found("suffix=kinder&order=asc&limit=1") == [kinder]
    assert found(f"suffix=kinder&after={again}") == [kinder]
    assert found(f"suffix=kinder&order=asc&after={kinder}") == [again]
    assert found("behavior=refusal") == [refusal]
    assert found("behavior=tone") == [again, kinder]
    assert found("behavior=refusal&suffix=kinder") == []
    assert found("suffix=My_Edit") == []
    assert found("suffix=kinder&base_model=../pico") == []
    worker.fail(again)
    third = api.http.post("/v1/edits", json=edit_body(base_model="other", suffix="kinder")).json()
    assert found("suffix=kinder") == [third["id"], again, kinder]
    assert found("suffix=kinder&status=failed") == [again]
