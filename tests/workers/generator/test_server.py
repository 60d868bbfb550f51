"""The generator's internal port, with a real store, a pico model and a real edit of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from models_store.objects.store import ObjectStore, open_store
from models_store.schemas.catalogue import FolderSource
from models_store.schemas.records import DeltaRef, Variant
from models_store.settings import Settings
from models_store.weights.delta import dump_delta
from tests.support.edits import random_edit
from workers.generator.engine.builtin import BuiltIn
from workers.generator.engine.engine import Engine
from workers.generator.server import create_server
from workers.generator.shelf import Shelf
from workers.runtime.edits.deltas import to_delta
from workers.runtime.loading import LoadedModel

TOKEN = "internal"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(Settings(data=tmp_path))


@pytest.fixture
def server(tmp_path: Path, store: ObjectStore) -> Iterator[TestClient]:
    settings = Settings(data=tmp_path, cache=tmp_path / "cache", dtype="float32")
    engine = Engine()
    with TestClient(
        create_server(own := BuiltIn(Shelf(settings, store), engine), own, TOKEN)
    ) as client:
        yield client
    engine.close()


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1:8091", 200),
        ("http://localhost", 200),
        ("http://[::1]:8091", 200),
        ("http://evil.example", 401),
        ("http://127.0.0.1.evil.example", 401),
        ("http://192.168.0.7", 401),
    ],
)
def test_without_a_token_only_loopback_names_are_answered_to(
    tmp_path: Path, store: ObjectStore, url: str, status: int
) -> None:
    engine = Engine()
    own = BuiltIn(Shelf(Settings(data=tmp_path, cache=tmp_path / "cache"), store), engine)
    with TestClient(create_server(own, None, ""), base_url=url) as client:
        assert client.get("/internal/health").status_code == status
    engine.close()


@pytest.fixture
def edit(pico: LoadedModel, store: ObjectStore) -> DeltaRef:
    """A delta in the store that changes a lot."""
    terms = random_edit(pico, seed=3)
    data = dump_delta(to_delta(terms, pico.fingerprint, "bias"))
    store.put("edits/default/x/delta.safetensors", data)
    return DeltaRef(
        edit_id="edit_x",
        path="edits/default/x/delta.safetensors",
        sha256=hashlib.sha256(data).hexdigest(),
        strength=1.0,
    )


def request(base: LoadedModel, *terms: DeltaRef, **changes: Any) -> dict[str, Any]:
    variant = Variant(
        name="pico", base_model="pico", base_fingerprint=base.fingerprint, terms=terms
    )
    body = {
        "base_model": "pico",
        "base_fingerprint": base.fingerprint,
        "source": FolderSource(path=base.folder).model_dump(mode="json"),
        "variants": [variant.model_dump(mode="json")],
        "prompts": [{"text": "the food is"}],
        "sampling": {"max_tokens": 8, "temperature": 0},
    }
    return {**body, **changes}


def lines(client: TestClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/internal/generate", json=body, headers=HEADERS)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def text_of(made: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(
        line["text"] for line in made if line["type"] == "delta" and line["index"] == index
    )


def refusal(client: TestClient, body: dict[str, Any], headers: Any = HEADERS) -> tuple[int, str]:
    answer = client.post("/internal/generate", json=body, headers=headers)
    return answer.status_code, answer.json()["code"]


def test_it_answers_with_text_and_the_count_of_tokens(
    server: TestClient, pico: LoadedModel
) -> None:
    made = lines(server, request(pico))

    assert text_of(made)
    assert made[-1]["type"] == "finish"
    assert made[-1]["prompt_tokens"] == len(pico.tokenizer("the food is")["input_ids"])
    assert made[-1]["completion_tokens"] <= 8


def test_an_edit_is_fetched_and_changes_the_text(
    server: TestClient, pico: LoadedModel, edit: DeltaRef
) -> None:
    base, edited = lines(server, request(pico)), lines(server, request(pico, edit))
    none = edit.model_copy(update={"strength": 0.0})

    assert text_of(edited) != text_of(base)
    assert text_of(lines(server, request(pico, none))) == text_of(base)


def test_two_variants_of_one_request_each_get_their_own(
    server: TestClient, pico: LoadedModel, edit: DeltaRef
) -> None:
    alone = [text_of(lines(server, request(pico, *terms))) for terms in ((), (edit,))]
    both = request(
        pico,
        variants=request(pico)["variants"] + request(pico, edit)["variants"],
        prompts=[{"text": "the food is", "variant": 0}, {"text": "the food is", "variant": 1}],
    )

    made = lines(server, both)

    assert [text_of(made, 0), text_of(made, 1)] == alone


def test_a_seed_repeats_and_choices_differ(server: TestClient, pico: LoadedModel) -> None:
    body = request(pico, n=3, sampling={"max_tokens": 8, "temperature": 1, "seed": 7})

    first, again = lines(server, body), lines(server, body)

    texts = [text_of(first, index) for index in range(3)]
    assert texts == [text_of(again, index) for index in range(3)]
    assert len(set(texts)) == 3


def test_a_stranger_is_turned_away(server: TestClient, pico: LoadedModel) -> None:
    assert refusal(server, request(pico), {}) == (401, "unauthorized")
    assert refusal(server, request(pico), {"Authorization": "Bearer x"}) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"prompts": [{"tokens": [1, 99999]}]}, "invalid_request"),
        ({"prompts": [{"tokens": []}]}, "invalid_request"),
        ({"prompts": [{"text": ""}]}, "invalid_request"),
        ({"prompts": [{"text": "a", "variant": 1}]}, "invalid_request"),
        ({"prompts": [{"tokens": [5] * 510}]}, "context_length_exceeded"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused(
    server: TestClient, pico: LoadedModel, changes: dict[str, Any], code: str
) -> None:
    assert refusal(server, request(pico, **changes)) == (400, code)


def test_other_weights_than_the_pinned_ones_are_refused(
    server: TestClient, pico: LoadedModel
) -> None:
    body = request(pico, base_fingerprint="sha256:" + "0" * 64)

    assert refusal(server, body) == (503, "base_model_unavailable")


def test_a_delta_that_was_changed_is_never_served(
    server: TestClient, pico: LoadedModel, edit: DeltaRef, store: ObjectStore
) -> None:
    data = bytearray(store.read(edit.path))
    data[-1] ^= 1
    store.put(edit.path, bytes(data))

    assert refusal(server, request(pico, edit)) == (500, "corrupt_artifact")


def test_a_delta_of_other_weights_is_never_served(
    server: TestClient, pico: LoadedModel, store: ObjectStore
) -> None:
    terms = random_edit(pico, seed=1)
    data = dump_delta(to_delta(terms, "sha256:other", "bias"))
    store.put("edits/default/y/delta.safetensors", data)
    ref = DeltaRef(
        edit_id="edit_y",
        path="edits/default/y/delta.safetensors",
        sha256=hashlib.sha256(data).hexdigest(),
        strength=1.0,
    )

    assert refusal(server, request(pico, ref)) == (500, "corrupt_artifact")


def test_health_names_what_is_loaded(server: TestClient, pico: LoadedModel) -> None:
    before = server.get("/internal/health", headers=HEADERS).json()
    lines(server, request(pico))

    assert before == {"status": "ok", "base_models": [], "busy": 0}
    assert server.get("/internal/health", headers=HEADERS).json()["base_models"] == ["pico"]
