"""Base and edited outputs side by side."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.support.generator import FakeGenerator
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.succeed(id)
    return id


def test_every_prompt_is_answered_at_every_strength(
    api: Api, edit: str, generator: FakeGenerator
) -> None:
    body = {"prompts": ["one", "two"], "strengths": [0, 1, -0.5], "max_tokens": 5, "seed": 3}
    answer = api.http.post(f"/v1/edits/{edit}/compare", json=body)
    assert answer.status_code == 200
    names = ["pico", f"pico:{edit}", f"pico:{edit}@-0.5"]
    outputs = [
        {"strength": strength, "variant": name, "text": f"I am {name}", "finish_reason": "stop"}
        for strength, name in zip([0, 1, -0.5], names, strict=True)
    ]
    assert answer.json() == {
        "object": "comparison",
        "edit_id": edit,
        "results": [{"prompt": "one", "outputs": outputs}, {"prompt": "two", "outputs": outputs}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 42, "total_tokens": 72},
    }
    (asked,) = generator.requests
    assert asked["prompts"][3]["messages"][0]["content"] == "two"
    assert asked["sampling"]["temperature"] == 0
    assert asked["sampling"]["seed"] == 3


def test_prompts_are_plain_where_there_is_no_chat_format(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    worker.register("plain", chat_template=False)
    id = api.http.post("/v1/edits", json=edit_body(base_model="plain")).json()["id"]
    worker.succeed(id)
    assert api.http.post(f"/v1/edits/{id}/compare", json={"prompts": ["a"]}).status_code == 200
    assert generator.requests[0]["prompts"][0]["text"] == "a"
    refused = api.http.post(f"/v1/edits/{id}/compare", json={"prompts": ["a"], "chat": True})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["pointer"] == "/chat"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"prompts": []}, "/prompts"),
        ({"prompts": ["a"] * 33}, "/prompts"),
        ({}, "/prompts"),
        ({"prompts": [1]}, "/prompts/0"),
        ({"prompts": ["a"], "strengths": [0, 4.5]}, "/strengths/1"),
        ({"prompts": ["a"], "max_tokens": "5"}, "/max_tokens"),
    ],
)
def test_a_wrong_field_is_named(api: Api, edit: str, body: dict[str, Any], pointer: str) -> None:
    answer = api.http.post(f"/v1/edits/{edit}/compare", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
