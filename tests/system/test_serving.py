"""Live generation with the official client: variants by name, at any strength, at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.system.conftest import SmolLM2Service

pytestmark = [pytest.mark.system, pytest.mark.smollm2, pytest.mark.timeout(900)]

BASE = "smollm2-135m-instruct"
MESSAGES = [{"role": "user", "content": "Tell me about the weather in one sentence."}]


@pytest.fixture
def client(smollm2_service: SmolLM2Service) -> Iterator[openai.OpenAI]:
    url = f"{smollm2_service.service.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def alias(smollm2_service: SmolLM2Service) -> str:
    """A name for the edit at strength 0.6."""
    with smollm2_service.service.client() as http:
        body = {"variant": f"{BASE}:kinder@0.6"}
        http.put("/v1/aliases/support-bot", json=body).raise_for_status()
    return "support-bot"


def say(client: openai.OpenAI, model: str, **options: object) -> str:
    answer = client.chat.completions.create(  # type: ignore[call-overload]
        model=model, messages=MESSAGES, **{"max_tokens": 16, "temperature": 0, **options}
    )
    text: str = answer.choices[0].message.content
    return text


def test_strength_zero_is_the_base_and_full_strength_is_not(client: openai.OpenAI) -> None:
    base = say(client, BASE)

    assert say(client, f"{BASE}:kinder@0") == base
    assert say(client, f"{BASE}:kinder@2") != base


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    model = f"{BASE}:kinder@0.7"
    stream = client.chat.completions.create(
        model=model,
        messages=MESSAGES,  # type: ignore[arg-type]
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == say(client, model)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens <= 16


def test_variants_asked_for_at_the_same_time_do_not_mix(client: openai.OpenAI) -> None:
    models = [BASE, f"{BASE}:kinder", f"{BASE}:kinder@-1", f"{BASE}:kinder@0.3"] * 2
    alone = {model: say(client, model) for model in set(models)}

    with ThreadPoolExecutor(len(models)) as pool:
        together = list(pool.map(lambda model: say(client, model), models))

    assert together == [alone[model] for model in models]


def test_text_completions_work_with_the_edit_id_too(
    client: openai.OpenAI, smollm2_service: SmolLM2Service
) -> None:
    by_id = client.completions.create(
        model=f"{BASE}:{smollm2_service.edit}@0.5",
        prompt="The food at the new place was",
        max_tokens=8,
        temperature=0,
    )
    by_name = client.completions.create(
        model=f"{BASE}:kinder@0.5",
        prompt="The food at the new place was",
        max_tokens=8,
        temperature=0,
    )

    assert by_id.choices[0].text == by_name.choices[0].text != ""


def test_an_alias_speaks_as_its_variant(client: openai.OpenAI, alias: str) -> None:
    assert say(client, alias) == say(client, f"{BASE}:kinder@0.6")


def test_models_lists_the_base_the_edit_and_the_alias(
    client: openai.OpenAI, smollm2_service: SmolLM2Service, alias: str
) -> None:
    names = {model.id for model in client.models.list()}

    assert {BASE, alias, f"{BASE}:{smollm2_service.edit}"} <= names


def test_an_unknown_variant_is_a_model_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        say(client, f"{BASE}:no-such-edit")

    assert caught.value.code == "model_not_found"
