"""A behaviour from one sentence, over HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from models_store.settings import Settings
from tests.app.support.generator import FakeGenerator, Lines
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, running_api

SENTENCE = "stop hedging"


def ways(instruction: str) -> str:
    """Hedges when it is told to, and else does not."""
    question = instruction.rpartition("Question: ")[2]
    if "opposite" in instruction:
        return f"Perhaps it might be so, one could suppose, with regard to {question}"
    return f"It is this way and no other, because facts about {question}"


def hedging(request: dict[str, Any]) -> Lines:
    lines: Lines = []
    for index, prompt in enumerate(request["prompts"]):
        text = ways(prompt["messages"][0]["content"] if prompt["messages"] else prompt["text"])
        lines.append({"type": "delta", "index": index, "text": text})
        end = {"type": "finish", "index": index, "finish_reason": "stop"}
        lines.append({**end, "prompt_tokens": 50, "completion_tokens": 9})
    return lines


def judge(request: dict[str, Any]) -> Lines:
    """The probe is right but for the first two pairs."""
    pairs = len(request["undesired"])
    return [{"undesired": [-1.0] * 2 + [1.0] * (pairs - 2), "desired": [0.0] * pairs}]


def answer(request: dict[str, Any]) -> Lines:
    return judge(request) if "undesired" in request else hedging(request)


@pytest.fixture
def writing(worker: Worker, generator: FakeGenerator) -> FakeGenerator:
    generator.answer = answer
    return generator


def draft(api: Api, **changes: Any) -> httpx.Response:
    body = {"sentence": SENTENCE, "base_model": "pico", "count": 20, **changes}
    return api.http.post("/v1/behaviors/draft", json=body)


def test_a_draft_comes_back_with_samples_and_what_was_dropped(
    api: Api, writing: FakeGenerator
) -> None:
    response = draft(api, seed=3)

    assert response.status_code == 200, response.text
    made = response.json()
    assert (made["object"], made["sentence"], made["written_by"]) == ("draft", SENTENCE, "pico")
    assert (made["asked"], made["kept"]) == (20, 20)
    assert set(made["dropped"].values()) == {0}
    assert made["separability"]["words_auc"] == 1.0
    # The probe takes two pairs the wrong way around, but words do not: they stay.
    assert 0.8 < made["separability"]["probe_auc"] < 1.0
    assert made["separability"]["heldout_texts"] == 40
    for side in ("undesired", "desired"):
        assert len(made["samples"][side]) == 5
        assert all(
            ("Perhaps" in one["completion"]) == (side == "undesired")
            for one in made["samples"][side]
        )
    asked = [request for request in writing.requests if "prompts" in request]
    assert sum(len(request["prompts"]) for request in asked) == 40
    assert max(len(request["prompts"]) for request in asked) <= 24


def test_a_draft_is_accepted_by_sending_it_back(api: Api, writing: FakeGenerator) -> None:
    behavior = draft(api).json()["behavior"]
    assert behavior["question"] is None
    assert behavior["prompts"][0]["undesired_answer"] is None

    uploaded = api.http.post("/v1/behaviors", json=behavior)
    assert uploaded.status_code == 201, uploaded.text
    assert uploaded.json()["counts"]["undesired"] == 20
    edit = api.http.post("/v1/edits", json=edit_body(behavior=behavior))
    assert edit.status_code == 201, edit.text


def test_nothing_is_stored(api: Api, writing: FakeGenerator) -> None:
    def written() -> set[str]:
        return {info.path for info in api.store.objects.files("")}

    before = written()

    assert draft(api).status_code == 200
    assert written() == before


def test_pairs_that_both_judges_call_the_wrong_way_are_dropped(
    api: Api, writing: FakeGenerator
) -> None:
    def confused(request: dict[str, Any]) -> Lines:
        if "undesired" in request:
            # Wrong about exactly those pairs whose texts were swapped.
            texts = [item["completion"] for item in request["undesired"]]
            scores = [1.0 if "Perhaps" in text else -1.0 for text in texts]
            return [{"undesired": scores, "desired": [0.0] * len(texts)}]
        lines = hedging(request)
        first = request["prompts"][0]["messages"][0]["content"]
        if "opposite" in first:
            lines[0]["text"], lines[2]["text"] = lines[2]["text"], lines[0]["text"]
        return lines

    writing.answer = confused
    made = draft(api, count=48).json()

    # One pair in each request of 24 instructions.
    assert made["dropped"]["wrong_way"] == 4
    assert made["kept"] == 44
    texts = [item["completion"] for item in made["behavior"]["undesired"]]
    assert all("Perhaps" in text for text in texts)


def test_a_model_that_answers_alike_makes_no_behavior(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    made = draft(api).json()  # it says who it is, whatever it is told

    assert made["behavior"] is None
    assert (made["kept"], made["separability"]) == (0, None)
    assert made["dropped"]["too_short"] + made["dropped"]["near_identical"] == 20
    assert "Only 0 of 20" in made["note"]


def test_a_base_model_without_a_chat_format_goes_on_with_a_text(
    api: Api, worker: Worker, writing: FakeGenerator
) -> None:
    worker.register("plain", chat_template=False)

    made = draft(api, base_model="plain").json()

    assert made["behavior"]["chat"] is False
    prompt = writing.requests[0]["prompts"][0]
    assert prompt["text"].endswith("\nAnswer:")
    assert writing.requests[0]["sampling"]["stop"]


@pytest.mark.parametrize(
    ("changes", "pointer", "word"),
    [
        ({"sentence": ""}, "/sentence", "stop hedging"),
        ({"sentence": "a" * 301}, "/sentence", "300"),
        ({"sentence": 5}, "/sentence", "string"),
        ({"count": 15}, "/count", "16"),
        ({"count": 121}, "/count", "120"),
        ({"base_model": "gpt-9"}, "/base_model", "pico"),
        ({"surprise": 1}, "/surprise", ""),
    ],
)
def test_a_wrong_field_is_named_with_what_would_do(
    api: Api, worker: Worker, changes: dict[str, Any], pointer: str, word: str
) -> None:
    response = draft(api, **changes)

    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer
    assert word in response.json()["detail"]


def test_without_a_generator_it_is_told_so(api: Api, worker: Worker) -> None:
    response = draft(api)

    assert (response.status_code, response.json()["code"]) == (503, "no_generator")


@dataclass
class Endpoint:
    """A server with OpenAI's API."""

    url: str = ""
    status: int = 200
    body: bytes | None = None
    """In place of an answer."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextlib.contextmanager
def running_endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.requests.append({"path": self.path, **body})
            endpoint.keys.append(self.headers.get("Authorization"))
            message = {"role": "assistant", "content": ways(body["messages"][0]["content"])}
            with contextlib.suppress(OSError):  # the client has given up
                self.send_response(endpoint.status)
                self.end_headers()
                answer = json.dumps({"choices": [{"message": message}]}).encode()
                self.wfile.write(answer if endpoint.body is None else endpoint.body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running_endpoint() as running:
        yield running


@pytest.fixture
def with_endpoint(settings: Settings, endpoint: Endpoint) -> Iterator[Api]:
    named = {"draft_url": endpoint.url, "draft_model": "large", "draft_api_key": SecretStr("sk-1")}
    with running_api(settings.model_copy(update=named)) as api:
        Worker(api.store, api.services.live.client).register("pico")
        yield api


def test_the_operators_model_writes_where_there_is_one(
    with_endpoint: Api, endpoint: Endpoint
) -> None:
    made = draft(with_endpoint).json()

    assert (made["written_by"], made["kept"]) == ("large", 20)
    # No generator is there, so nothing can read hidden states.
    assert made["separability"]["probe_auc"] is None
    assert made["separability"]["words_auc"] == 1.0
    assert len(endpoint.requests) == 40
    assert {request["path"] for request in endpoint.requests} == {"/v1/chat/completions"}
    assert {request["model"] for request in endpoint.requests} == {"large"}
    assert set(endpoint.keys) == {"Bearer sk-1"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, (502, "generation_failed")), (429, (503, "overloaded")), (500, (503, "overloaded"))],
)
def test_an_endpoint_that_refuses_is_told_without_its_key(
    with_endpoint: Api, endpoint: Endpoint, status: int, expected: tuple[int, str]
) -> None:
    endpoint.status = status

    response = draft(with_endpoint)

    assert (response.status_code, response.json()["code"]) == expected
    assert str(status) in response.json()["detail"]
    assert "sk-1" not in response.text


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"choices": []}'])
def test_an_endpoint_that_gives_no_chat_completion_is_told(
    with_endpoint: Api, endpoint: Endpoint, body: bytes
) -> None:
    endpoint.body = body

    response = draft(with_endpoint)

    assert (response.status_code, response.json()["code"]) == (502, "generation_failed")
    assert "SCALPEL_DRAFT_URL" in response.json()["detail"]
    assert "choices[0].message.content" in response.json()["detail"]


def test_an_endpoint_that_is_away_is_told(settings: Settings) -> None:
    named = {"draft_url": "http://127.0.0.1:9/v1", "draft_model": "large"}
    with running_api(settings.model_copy(update=named)) as api:
        Worker(api.store, api.services.live.client).register("pico")
        response = draft(api)

    assert (response.status_code, response.json()["code"]) == (503, "overloaded")
    assert "SCALPEL_DRAFT_URL" in response.json()["detail"]


def test_an_endpoint_needs_a_model_and_its_key_is_not_shown() -> None:
    with pytest.raises(ValidationError, match="SCALPEL_DRAFT_MODEL"):
        Settings(draft_url="http://localhost/v1")
    settings = Settings(draft_url="http://x/v1", draft_model="m", draft_api_key=SecretStr("sk-1"))
    assert "sk-1" not in str(settings.model_dump(mode="json"))
