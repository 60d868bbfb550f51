"""Which generator is asked for a completion, and what becomes of it when that one fails."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.app.support.generator import FakeGenerator, Lines, echo, running_generator
from tests.app.support.worker import Worker
from tests.support.services import Api

MESSAGES = [{"role": "user", "content": "Hello"}]


def chat(api: Api, **changes: Any) -> Any:
    body = {"model": "pico", "messages": MESSAGES, **changes}
    return api.http.post("/v1/chat/completions", json=body)


def test_a_generator_that_cannot_be_reached_is_none(api: Api, worker: Worker) -> None:
    with running_generator("gone") as gone:
        gone.beat(api.services.live.client)
    answer = chat(api)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_generator"
    assert "gone" in answer.json()["error"]["message"]
    assert int(answer.headers["Retry-After"]) > 0


def test_without_a_generator_it_is_unavailable(api: Api, worker: Worker) -> None:
    answer = chat(api)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_generator"
    assert int(answer.headers["Retry-After"]) > 0


def test_the_generator_that_holds_the_base_model_and_has_least_to_do_is_asked(
    api: Api, worker: Worker
) -> None:
    redis = api.services.live.client
    with running_generator("a") as a, running_generator("b") as b, running_generator("c") as c:
        a.beat(redis, busy=0)
        b.beat(redis, busy=3, base_models=("pico",))
        c.beat(redis, busy=1, base_models=("pico",))
        assert chat(api).status_code == 200
        assert (len(a.requests), len(b.requests), len(c.requests)) == (0, 0, 1)


def test_a_generator_of_another_base_model_alone_is_not_asked(api: Api, worker: Worker) -> None:
    redis = api.services.live.client
    with running_generator("a") as other:
        other.beat(redis, base_models=("pico",), serves=["other"], reads=False)
        answer = chat(api)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_generator"
        other.beat(redis, base_models=("pico",), serves=["pico"], reads=False)
        assert chat(api).status_code == 200
        asked = {"base_model": "pico", "behavior": "negativity"}
        assert api.http.post("/v1/edits/estimate", json=asked).json()["code"] == "no_generator"
        assert len(other.requests) == 1


def test_a_generator_that_is_gone_is_replaced_by_another(api: Api, worker: Worker) -> None:
    redis = api.services.live.client
    with running_generator("gone") as gone:
        gone.beat(redis, base_models=("pico",))
    with running_generator("there") as there:
        there.beat(redis)
        assert chat(api).status_code == 200
        assert len(there.requests) == 1


def test_a_generator_that_fails_before_its_first_word_is_asked_once_more(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    def fail_once(request: dict[str, Any]) -> Lines:
        if len(generator.requests) == 1:
            return [{"type": "error", "code": "edit_error", "message": "hiccup"}]
        return echo(request)

    generator.answer = fail_once
    assert chat(api, stream=True).text.endswith("data: [DONE]\n\n")
    assert len(generator.requests) == 2


def test_a_generator_that_fails_twice_is_a_bad_gateway(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    generator.answer = lambda _: [{"type": "error", "code": "edit_error", "message": "hiccup"}]
    for stream in (False, True):
        answer = chat(api, stream=stream)
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "generation_failed"


@pytest.mark.parametrize(
    "ending", [[{"type": "error", "code": "out_of_memory", "message": "no room"}], []]
)
def test_a_stream_that_breaks_off_says_so_and_is_not_repeated(
    api: Api, worker: Worker, generator: FakeGenerator, ending: Lines
) -> None:
    generator.answer = lambda _: [{"type": "delta", "index": 0, "text": "Well, "}, *ending]
    answer = chat(api, stream=True)
    assert answer.status_code == 200
    *_, last, empty = answer.text.split("\n\n")
    assert empty == ""
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "generation_failed"
    assert len(generator.requests) == 1


def test_a_generators_refusal_is_passed_on(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    generator.status = 400
    generator.refusal = {"code": "context_length_exceeded", "message": "too long by 7"}
    answer = chat(api)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert len(generator.requests) == 1


def test_a_generator_with_too_much_to_do_is_overloaded(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    generator.status, generator.refusal = 503, {"code": "overloaded", "message": "64 are waiting"}
    answer = chat(api)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "overloaded"


def test_a_client_that_leaves_stops_the_generator(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    generator.pause = 0.02
    generator.answer = lambda _: [{"type": "delta", "index": 0, "text": "la "}] * 2000
    body = {"model": "pico", "messages": MESSAGES, "stream": True}
    with api.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    assert generator.broken_off.wait(10)
    generator.broken_off.clear()
    with pytest.raises(httpx.ReadTimeout):
        api.http.post("/v1/chat/completions", json={**body, "stream": False}, timeout=0.5)
    assert generator.broken_off.wait(10)
