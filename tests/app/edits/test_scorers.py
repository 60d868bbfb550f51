"""Scorers that the operator brings, and fields that scorers read, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from models_store.errors import InvalidRequest
from models_store.schemas.scorers import SCORERS
from models_store.settings import Settings
from tests.app.support.worker import Worker, texts
from tests.support.services import Api

FILE = """
[[scorer]]
name = "theirs"
type = "http"
url = "http://127.0.0.1:1/score"
threshold = 0.5
licence = "MIT"
trained_on = "other texts"
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    file = tmp_path / "scorers.toml"
    file.write_text(FILE, encoding="utf-8")
    return settings.model_copy(update={"scorers": file})


@pytest.fixture
def upload(api: Api) -> Callable[..., Any]:
    def send(**changes: Any) -> Any:
        body = {"name": "tone", "undesired": texts("bad"), "desired": texts("good"), **changes}
        return api.http.post("/v1/behaviors", json=body)

    return send


def test_behaviours_may_name_the_operators_scorers(upload: Any) -> None:
    answer = upload(scorers=["theirs", "yes-no"], question="Is it rude?")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["scorers"], answer.json()["question"]) == (
        ["theirs", "yes-no"],
        "Is it rude?",
    )


def test_edits_may_name_them_too(api: Api, worker: Worker) -> None:
    behavior = {"name": "tone", "undesired": texts("bad"), "desired": texts("good")}
    sent = {"base_model": "pico", "behavior": {**behavior, "scorers": ["theirs"]}}
    assert api.http.post("/v1/edits", json=sent).status_code == 201


def test_an_unknown_scorer_is_answered_with_all_that_there_are(upload: Any) -> None:
    answer = upload(scorers=["oracle"])
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/scorers/0"
    assert all(name in error["detail"] for name in (*SCORERS, "theirs"))


def test_prompts_keep_their_undesired_answer(api: Api, upload: Any) -> None:
    prompts = [{"text": "Do you agree?", "undesired_answer": "No"}]
    made = upload(prompts=prompts, scorers=["answer-match"]).json()
    kept = api.http.get(f"/v1/behaviors/{made['id']}").json()["prompts"]
    assert kept == [{"template": None, "split": None, **prompts[0]}]


@pytest.mark.parametrize(
    ("prompts", "pointer"),
    [
        ([], "/prompts"),
        (["Is it so?"], "/prompts/0/undesired_answer"),
        ([{"text": "a", "undesired_answer": "No"}, "b"], "/prompts/1/undesired_answer"),
    ],
)
def test_answers_cannot_be_matched_where_a_prompt_names_none(
    upload: Any, prompts: list[Any], pointer: str
) -> None:
    answer = upload(prompts=prompts, scorers=["answer-match"])
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert "undesired_answer" in answer.json()["detail"]


def test_an_api_does_not_start_with_a_broken_file(settings: Settings) -> None:
    assert settings.scorers is not None
    settings.scorers.write_text(FILE.replace("threshold = 0.5\n", ""), encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"scorers\.toml: scorer\.0\.threshold: Field requ"):
        create_app(settings)


def by_scorer(**changes: Any) -> dict[str, Any]:
    prompts = [f"Question {number} of the survey is" for number in range(64)]
    return {"name": "tone", "scorer": "theirs", "prompts": prompts, **changes}


def test_a_scorer_of_the_operator_may_stand_in_place_of_texts(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/behaviors", json=by_scorer())
    assert answer.status_code == 201, answer.text
    assert answer.json()["scorer"] == "theirs"
    assert answer.json()["counts"] == {"undesired": 0, "desired": 0, "prompts": 64}
    shown = api.http.get(f"/v1/behaviors/{answer.json()['id']}").json()
    assert (shown["scorer"], shown["undesired"], len(shown["prompts"])) == ("theirs", [], 64)
    for behavior in (by_scorer(), answer.json()["id"]):
        for method in ({"type": "auto"}, {"type": "natural_bias", "layers": [1]}):
            sent = {"base_model": "pico", "behavior": behavior, "method": method}
            made = api.http.post("/v1/edits", json=sent)
            assert made.status_code == 201, made.text


@pytest.mark.parametrize(
    ("changes", "pointer", "code", "said"),
    [
        ({"scorer": "oracle"}, "/scorer", "unknown_scorer", "theirs"),
        ({"scorer": "tfidf"}, "/scorer", "scorer_learns", "learns from the behaviour's texts"),
        ({"scorer": "length"}, "/scorer", "scorer_learns", "name one of"),
        ({"scorers": ["theirs"]}, "/scorers", "no_other_scorer", "name another beside it"),
        ({"prompts": ["one"]}, "/prompts", "too_few_prompts", "at least 64"),
        ({"undesired": ["a"]}, "/scorer", "scorer_and_texts", "give either"),
        ({"scorer": None}, "/undesired", "too_few_texts", "give a scorer and prompts"),
    ],
)
def test_what_is_wrong_with_it_is_said(
    api: Api, worker: Worker, changes: dict[str, Any], pointer: str, code: str, said: str
) -> None:
    behavior = by_scorer(**changes)
    sent = {"base_model": "pico", "behavior": behavior}
    for answer, prefix in (
        (api.http.post("/v1/behaviors", json=behavior), ""),
        (api.http.post("/v1/edits", json=sent), "/behavior"),
        (api.http.post("/v1/edits/estimate", json=sent), "/behavior"),
    ):
        assert answer.status_code == 422
        error = answer.json()["errors"][0]
        assert (error["pointer"], error["code"]) == (prefix + pointer, code)
        assert said in error["detail"]
