"""Several variants answer one prompt in one stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.app.support.generator import FakeGenerator
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
    worker.succeed(id)
    return id


def watched(api: Api, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    answer = api.http.post("/v1/compare", json={"prompt": "Hello", **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = [event.split("\n") for event in answer.text.split("\n\n") if event]
    return [
        (kind.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for kind, data in events
    ]


def test_a_model_answers_at_several_strengths_in_one_request(
    api: Api, edit: str, generator: FakeGenerator
) -> None:
    events = watched(api, model="pico:kinder@0.5", strengths=[0, 1, -2], seed=3, temperature=0.7)

    names = ["pico", f"pico:{edit}@0.5", f"pico:{edit}@-1"]
    assert events[0][0] == "comparison.created"
    assert [output["variant"] for output in events[0][1]["outputs"]] == names
    texts = ["", "", ""]
    for kind, data in events:
        if kind == "comparison.delta":
            texts[data["index"]] += data["text"]
    assert texts == [f"I am {name}" for name in names]
    assert [data for kind, data in events if kind == "comparison.finished"] == [
        {"index": index, "finish_reason": "stop"} for index in range(3)
    ]
    assert events[-1][0] == "comparison.completed"
    assert events[-1][1]["usage"]["completion_tokens"] == 21
    (asked,) = generator.requests
    assert [prompt["variant"] for prompt in asked["prompts"]] == [0, 1, 2]
    assert asked["sampling"]["seed"] == 3


def test_any_variants_of_a_base_model_can_be_watched(
    api: Api, edit: str, generator: FakeGenerator
) -> None:
    api.http.put("/v1/aliases/bot", json={"variant": "pico:kinder@2"})
    events = watched(
        api,
        variants=["pico", "bot"],
        prompt=None,
        messages=[{"role": "user", "content": "Hello"}],
    )
    assert [one["variant"] for one in events[0][1]["outputs"]] == ["pico", f"pico:{edit}@2"]
    assert generator.requests[0]["prompts"][1]["messages"][0]["content"] == "Hello"


def test_an_error_in_the_middle_is_the_last_event(
    api: Api, edit: str, generator: FakeGenerator
) -> None:
    generator.answer = lambda _: [{"type": "delta", "index": 0, "text": "Well"}]
    kind, data = watched(api, model="pico:kinder")[-1]
    assert (kind, data["code"]) == ("error", "generation_failed")


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"model": "pico:kinder", "strengths": [1, 3]}, 422, "/strengths/1"),
        ({"model": "pico:none"}, 422, "/model"),
        ({}, 422, "/model"),
        ({"model": "pico", "variants": ["pico"]}, 422, "/variants"),
        ({"variants": ["pico", "other"]}, 422, "/variants/1"),
        ({"model": "pico", "prompt": None}, 422, "/prompt"),
        ({"model": "pico", "messages": [{"role": "user", "content": "a"}]}, 422, "/messages"),
        (
            {"model": "plain", "prompt": None, "messages": [{"role": "user", "content": "a"}]},
            400,
            "/messages",
        ),
    ],
)
def test_what_cannot_be_compared_is_pointed_to(
    api: Api,
    worker: Worker,
    edit: str,
    generator: FakeGenerator,
    changes: dict[str, Any],
    status: int,
    pointer: str,
) -> None:
    worker.register("plain", chat_template=False)
    worker.register("other")
    api.http.put("/v1/aliases/strong", json={"variant": "pico:kinder@2"})
    if changes.get("strengths"):
        changes = {**changes, "model": "strong"}
    answer = api.http.post("/v1/compare", json={"prompt": "Hello", **changes})
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert generator.requests == []
