"""Completions: OpenAI's client, variants, streams, and generators that fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from app.completions.requests import MOST_BYTES_A_TOKEN
from tests.app.support.generator import FakeGenerator, Lines, echo
from tests.app.support.worker import Worker, edit_body
from tests.models_store.make import FACTS
from tests.support.services import Api

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    """An edit that has succeeded, with the suffix `kinder`."""
    id: str = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
    worker.succeed(id)
    return id


def chat(api: Api, **changes: Any) -> Any:
    body = {"model": "pico", "messages": MESSAGES, **changes}
    return api.http.post("/v1/chat/completions", json=body)


def test_openais_client_gets_a_whole_answer(
    client: openai.OpenAI, edit: str, generator: FakeGenerator
) -> None:
    answer = client.chat.completions.create(
        model="pico:kinder@0.6", messages=MESSAGES, max_tokens=9, temperature=0, stop=["\n"]
    )
    assert answer.model == "pico:kinder@0.6"
    assert answer.choices[0].message.content == f"I am pico:{edit}@0.6"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    (asked,) = generator.requests
    assert asked["sampling"]["stop"] == ["\n"]
    assert asked["sampling"]["max_tokens"] == 9
    (term,) = asked["variants"][0]["terms"]
    assert (term["edit_id"], term["strength"]) == (edit, 0.6)
    assert term["path"].endswith("/attempts/1/delta")
    assert generator.tokens == ["Bearer a shared secret"]


def test_openais_client_gets_a_stream_with_its_usage(
    client: openai.OpenAI, edit: str, generator: FakeGenerator
) -> None:
    chunks = list(
        client.chat.completions.create(
            model=f"pico:{edit}",
            messages=MESSAGES,
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk.choices:
            text[choice.index] += choice.delta.content or ""
    assert text == {0: f"I am pico:{edit}", 1: f"I am pico:{edit}"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 5
    assert chunks[-1].usage.completion_tokens == 14


@pytest.mark.parametrize("stream", [False, True])
def test_what_unicode_calls_a_line_break_ends_no_line(
    client: openai.OpenAI, worker: Worker, generator: FakeGenerator, stream: bool
) -> None:
    said = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\r\nh"
    generator.answer = lambda request: [
        {**line, "text": said} if line["type"] == "delta" else line for line in echo(request)
    ]
    answer = client.completions.create(model="pico", prompt="one", stream=stream)
    pieces = answer if isinstance(answer, openai.Stream) else [answer]
    assert "".join(piece.choices[0].text for piece in pieces) == said * 2


def test_a_stream_ends_with_done(api: Api, worker: Worker, generator: FakeGenerator) -> None:
    answer = chat(api, stream=True)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all("usage" not in json.loads(event[6:]) for event in events[:-2])


def test_texts_and_tokens_are_completed(
    client: openai.OpenAI, worker: Worker, generator: FakeGenerator
) -> None:
    answer = client.completions.create(model="pico", prompt=["one", "two"], max_tokens=3)
    assert [choice.text for choice in answer.choices] == ["I am pico"] * 2
    assert [prompt["text"] for prompt in generator.requests[0]["prompts"]] == ["one", "two"]
    client.completions.create(model="pico", prompt=[[1, 2], [3]])
    assert [prompt["tokens"] for prompt in generator.requests[1]["prompts"]] == [[1, 2], [3]]
    assert generator.requests[1]["sampling"]["max_tokens"] == 16
    pieces = list(client.completions.create(model="pico", prompt="one", stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == "I am pico"


def test_an_unknown_model_is_not_found_the_way_openai_says_it(
    client: openai.OpenAI, worker: Worker, generator: FakeGenerator
) -> None:
    for model in ("gpt-9", "pico:nobody", "pico:edit_" + "0" * 26):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=model, messages=MESSAGES)
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
        assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "model", ["pico:", "pico:kinder@5", "pico:kinder@-4.1", "pico:kinder+kinder@2", "Pico!"]
)
def test_a_name_that_means_nothing_is_a_bad_request(
    client: openai.OpenAI, edit: str, generator: FakeGenerator, model: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES)
    assert caught.value.code == "invalid_variant"


def test_one_edit_under_two_names_is_there_twice(
    client: openai.OpenAI, edit: str, generator: FakeGenerator
) -> None:
    with pytest.raises(openai.BadRequestError, match="twice"):
        client.chat.completions.create(model=f"pico:kinder+{edit}@0.5", messages=MESSAGES)


def test_an_edit_that_is_not_done_is_a_conflict(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    answer = chat(api, model=f"pico:{id}")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "edit_not_finished"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frequency_penalty", 2.5),
        ("presence_penalty", -3),
        ("logprobs", 3),
        ("top_logprobs", 21),
        ("top_logprobs", 2),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("modalities", ["audio"]),
        ("reasoning_effort", "high"),
        ("no_such_field", 1),
        ("temperature", 3),
        ("temperature", "1"),
        ("n", 0),
        ("max_tokens", 0),
        ("stop", ["a", "b", "c", "d", "e"]),
    ],
)
def test_what_would_change_the_answer_and_is_not_supported_is_refused_by_name(
    api: Api, worker: Worker, generator: FakeGenerator, field: str, value: Any
) -> None:
    answer = chat(api, **{field: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
    assert field in answer.json()["error"]["message"]
    assert generator.requests == []


def test_long_stop_strings_and_prompts_are_refused_before_anybody_reads_them(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    for stop, field in (("a" * 257, "stop"), (["a", "a" * 1_000_000], "stop")):
        answer = api.http.post(
            "/v1/completions", json={"model": "pico", "prompt": "a", "stop": stop}
        )
        assert answer.status_code == 400
        assert field in answer.json()["error"]["message"]
        assert "256 characters" in answer.json()["error"]["message"]
    compared = {"model": "pico", "prompt": "a", "strengths": [1], "stop": ["a" * 257]}
    assert api.http.post("/v1/compare", json=compared).status_code == 422
    most = MOST_BYTES_A_TOKEN * FACTS["context_length"]
    message = [{"role": "user", "content": "é" * (most // 2 + 1)}]
    for path, body in (
        ("/v1/completions", {"prompt": "a" * (most + 1)}),
        ("/v1/completions", {"prompt": ["a", "a" * (most + 1)]}),
        ("/v1/chat/completions", {"messages": message}),
        ("/v1/compare", {"prompt": "a" * (most + 1), "strengths": [1]}),
    ):
        answer = api.http.post(path, json={"model": "pico", **body})
        assert "context_length_exceeded" in answer.text, answer.text
        assert f"{most:,} bytes at most" in answer.text
    assert generator.requests == []
    fits = {"model": "pico", "prompt": "a" * most}
    assert api.http.post("/v1/completions", json=fits).status_code == 200


def test_a_scored_prompt_counts_as_often_as_it_is_returned(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    reserved: list[int] = []
    rates = api.services.rates
    own = rates.reserve_tokens
    rates.reserve_tokens = lambda tenant, most: (reserved.append(most), own(tenant, most))[1]  # type: ignore[method-assign, assignment]
    body = {"model": "pico", "prompt": ["a" * 100, "b" * 50], "n": 3, "max_tokens": 10}
    for more in ({}, {"echo": True}, {"logprobs": 1}, {"echo": True, "logprobs": 1}):
        assert api.http.post("/v1/completions", json={**body, **more}).status_code == 200
    assert reserved == [60, 60, 60, 60 + 3 * 150]


def test_a_bad_bias_is_pointed_to(api: Api, worker: Worker, generator: FakeGenerator) -> None:
    for bias in ({"x": 1}, {"5": 101}):
        answer = chat(api, logit_bias=bias)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"].startswith("logit_bias")


def scored(token: str, logprob: float | None, *top: tuple[str, float]) -> dict[str, Any]:
    def likely(text: str, value: float | None) -> dict[str, Any]:
        return {"token": text, "bytes": list(text.encode()), "logprob": value}

    return {**likely(token, logprob), "top": [likely(*one) for one in top]}


def with_scores(request: dict[str, Any]) -> Lines:
    first = [scored("I", None), scored(" am", -1.0, (" was", -0.5), (" am", -1.0))]
    rest = [scored(" here", -3.0, (" it", -0.1))]
    end = {"finish_reason": "length", "prompt_tokens": 2, "completion_tokens": 1}
    return [
        {"type": "delta", "index": 0, "text": "I am", "tokens": first},
        {"type": "delta", "index": 0, "text": " here", "tokens": rest},
        {"type": "finish", "index": 0, **end},
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_openais_client_gets_logprobs_of_a_chat(
    client: openai.OpenAI, worker: Worker, generator: FakeGenerator, stream: bool
) -> None:
    generator.answer = with_scores
    answer = client.chat.completions.create(
        model="pico", messages=MESSAGES, logprobs=True, top_logprobs=2, stream=stream
    )
    answers = list(answer) if stream else [answer]
    content = [
        token
        for one in answers
        for choice in one.choices
        if choice.logprobs
        for token in choice.logprobs.content or ()
    ]
    assert generator.requests[0]["sampling"]["logprobs"] == 2
    assert [token.token for token in content] == ["I", " am", " here"]
    assert [token.logprob for token in content] == [None, -1.0, -3.0]
    assert bytes(content[1].bytes or ()) == b" am"
    assert [one.token for one in content[1].top_logprobs] == [" was", " am"]


@pytest.mark.parametrize("stream", [False, True])
def test_completions_have_logprobs_in_their_old_form(
    client: openai.OpenAI, worker: Worker, generator: FakeGenerator, stream: bool
) -> None:
    generator.answer = with_scores
    answer = client.completions.create(
        model="pico", prompt=[[1, 2]], echo=True, logprobs=1, max_tokens=1, stream=stream
    )
    told = [one.choices[0].logprobs for one in (answer if stream else [answer])]
    found = [one for one in told if one is not None]
    assert generator.requests[0]["sampling"]["echo"] is True
    assert [token for one in found for token in one.tokens or ()] == ["I", " am", " here"]
    assert [value for one in found for value in one.token_logprobs or ()] == [None, -1.0, -3.0]
    assert [place for one in found for place in one.text_offset or ()] == [0, 1, 4]
    assert [top for one in found for top in one.top_logprobs or ()] == [
        None,
        {" was": -0.5, " am": -1.0},
        {" it": -0.1, " here": -3.0},
    ]


def test_what_means_nothing_is_accepted(api: Api, worker: Worker, generator: FakeGenerator) -> None:
    answer = chat(
        api,
        frequency_penalty=0,
        presence_penalty=0.0,
        logit_bias={},
        logprobs=False,
        top_logprobs=None,
        response_format={"type": "text"},
        tools=[],
        tool_choice="auto",
        parallel_tool_calls=True,
        user="someone",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        stream=False,
        stop=None,
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be "}]},
            {"role": "assistant", "content": "Hm", "refusal": None, "annotations": []},
            *MESSAGES,
        ],
    )
    assert answer.status_code == 200
    (prompt,) = generator.requests[0]["prompts"]
    assert prompt["messages"][0] == {"role": "system", "content": "Be ", "name": None}


def test_a_wrong_message_is_pointed_to(api: Api, worker: Worker) -> None:
    answer = chat(api, messages=[*MESSAGES, {"role": "tool", "content": "x"}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[1].role"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("stop", ["a", "b", "c", "d", "e"], "at most 4 items"),
        ("prompt", [], "at least 1 item"),
        ("prompt", [3, -1], "greater than or equal to 0"),
    ],
)
def test_of_several_types_the_one_that_was_meant_is_explained(
    api: Api, worker: Worker, field: str, value: Any, reason: str
) -> None:
    body = {"model": "pico", "prompt": "Once", field: value}
    answer = api.http.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_a_part_of_a_message_that_is_no_text_is_pointed_to(api: Api, worker: Worker) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    answer = chat(api, messages=[{"role": "user", "content": [part]}])
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[0].type"


def test_what_a_generator_finds_wrong_with_a_prompt_is_an_invalid_request(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    generator.status = 400
    generator.refusal = {"code": "invalid_request", "message": "the text '' has no tokens"}
    answer = chat(api)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


def test_conversations_need_a_chat_template(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    worker.register("plain", chat_template=False)
    answer = chat(api, model="plain")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_chat_template"
    assert answer.json()["error"]["param"] == "messages"
    assert "/v1/completions" in answer.json()["error"]["message"]
