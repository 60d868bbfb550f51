"""Variants through a real vLLM server are the merged models."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch

from benchmarks.serving.vllm_server import MAX_LORAS
from models_store.errors import BaseModelUnavailable, InvalidRequest, Unavailable
from models_store.objects.store import ObjectStore, open_store
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.generation import (
    Finished,
    GenerationError,
    GenerationPrompt,
    GenerationRequest,
    Sampling,
    TextPiece,
)
from models_store.schemas.records import DeltaRef, Variant
from models_store.settings import Settings
from models_store.weights.delta import dump_delta
from tests.support.edits import random_edit
from tests.system.service import running_service
from workers.generator.shelf import Shelf
from workers.generator.vllm.adapters import PREFIX
from workers.generator.vllm.vllm import VllmEngine
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.deltas import to_delta
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture, Term, scaled

pytestmark = [pytest.mark.vllm, pytest.mark.smollm2, pytest.mark.timeout(1200)]

PROMPT = "The food at the new place was"
TOKENS = 8


@dataclass
class Bench:
    """SmolLM2 in fp32, some edits of it in a store, and settings for an engine."""

    base: LoadedModel
    store: ObjectStore
    data: Path
    edits: list[list[Term]]
    refs: list[DeltaRef]

    def settings(self, url: str, **changes: object) -> Settings:
        return Settings(
            data=self.data,
            engine="vllm",
            vllm_url=url,
            vllm_base_model=SMOLLM2.id,
            vllm_max_loras=MAX_LORAS,
            **changes,  # type: ignore[arg-type]
        )

    def variant(self, *strengths: float) -> Variant:
        terms = tuple(
            ref.model_copy(update={"strength": strength})
            for ref, strength in zip(self.refs, strengths, strict=False)
            if strength
        )
        fingerprint = self.base.fingerprint
        return Variant(name="v", base_model=SMOLLM2.id, base_fingerprint=fingerprint, terms=terms)

    def mixture(self, *strengths: float) -> Mixture:
        return [
            (edit, strength)
            for edit, strength in zip(self.edits, strengths, strict=False)
            if strength
        ]

    def request(self, *variants: Variant, **changes: object) -> GenerationRequest:
        prompts = tuple(GenerationPrompt(text=PROMPT, variant=i) for i in range(len(variants)))
        asked: dict[str, object] = {
            "base_model": SMOLLM2.id,
            "base_fingerprint": self.base.fingerprint,
            "source": SMOLLM2.source,
            "variants": variants,
            "prompts": prompts,
            "sampling": Sampling(max_tokens=TOKENS, temperature=0, logprobs=1),
            **changes,
        }
        return GenerationRequest(**asked)  # type: ignore[arg-type]

    def merged(self, strengths: Sequence[float], ids: Sequence[int]) -> list[float]:
        """Log-probabilities of these tokens after the prompt, of the merged model."""
        prompt = self.base.tokenizer(PROMPT, add_special_tokens=False)["input_ids"]
        with WeightEditor(self.base).applied(self.mixture(*strengths)), torch.inference_mode():
            logits = self.base.model(torch.tensor([[*prompt, *ids]])).logits[0]
        logprobs = torch.log_softmax(logits[len(prompt) - 1 : -1].double(), -1)
        found: list[float] = logprobs.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        return found


@pytest.fixture(scope="session")
def bench(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    settings = Settings()
    base = load_base(smollm2_folder, device="cpu", dtype="float32", cache=settings.cache)
    data = tmp_path_factory.mktemp("vllm-data")
    store = open_store(Settings(data=data))
    edits = [scaled(random_edit(base, seed=seed), 0.3) for seed in range(3)]
    refs = []
    for number, edit in enumerate(edits):
        delta = dump_delta(to_delta(edit, base.fingerprint, "x"))
        store.put(f"deltas/{number}", delta)
        digest = hashlib.sha256(delta).hexdigest()
        refs.append(
            DeltaRef(edit_id=f"edit_{number}", path=f"deltas/{number}", sha256=digest, strength=1.0)
        )
    return Bench(base, store, data, edits, refs)


Answer = dict[int, tuple[str, list[float], list[int]]]


def ask(bench: Bench, url: str, request: GenerationRequest, **changes: object) -> Answer:
    """Text, log-probabilities and token ids of each choice."""

    async def run() -> Answer:
        settings = bench.settings(url, **changes)
        found: Answer = {}
        ended = 0
        engine = VllmEngine(settings, Shelf(settings, bench.store))
        async with aclosing(engine), aclosing(await engine.begin(request)) as lines:
            said = [line async for line in lines]
        for line in said:
            assert not isinstance(line, GenerationError), line
            if isinstance(line, Finished):
                ended += 1
                assert line.prompt_tokens > 0
                assert line.completion_tokens == TOKENS
                continue
            text, logprobs, ids = found.setdefault(line.index, ("", [], []))
            for token in line.tokens:
                assert token.logprob is not None
                logprobs.append(token.logprob)
                raw = bytes(token.bytes).decode()
                ids += bench.base.tokenizer(raw, add_special_tokens=False)["input_ids"]
            found[line.index] = (text + line.text, logprobs, ids)
        assert ended == len(request.prompts)
        assert engine.busy == 0
        return found

    return asyncio.run(run())


MIXES = [(), (1.0,), (-0.7,), (0.0, 1.3), (0.5, 0.5), (1.0, -1.0, 0.4), (0.0, 0.0, 2.0)]


def test_variants_are_their_merged_models_and_no_others(bench: Bench, exact_server: str) -> None:
    # More variants than adapters fit: they are made, wait for each other, and are taken away.
    answers = ask(bench, exact_server, bench.request(*(bench.variant(*own) for own in MIXES)))

    for index, own in enumerate(MIXES):
        _, logprobs, ids = answers[index]
        right = np.abs(np.subtract(bench.merged(own, ids), logprobs)).max()
        assert right <= 1e-4
        for other in MIXES:
            if other != own:
                wrong = np.abs(np.subtract(bench.merged(other, ids), logprobs)).max()
                assert wrong >= 10 * right
    held = [one["id"] for one in httpx.get(f"{exact_server}/v1/models").json()["data"]]
    assert 1 <= sum(id.startswith(PREFIX) for id in held) <= MAX_LORAS


def test_what_an_earlier_generator_left_is_taken_away(bench: Bench, exact_server: str) -> None:
    ask(bench, exact_server, bench.request(bench.variant(1.0), bench.variant(0.3)))
    ask(bench, exact_server, bench.request(bench.variant(-0.2)))
    held = [one["id"] for one in httpx.get(f"{exact_server}/v1/models").json()["data"]]
    assert sum(id.startswith(PREFIX) for id in held) == 1


def test_seeds_and_choices_are_as_with_the_own_engine(bench: Bench, exact_server: str) -> None:
    sampling = Sampling(max_tokens=TOKENS, temperature=1.2, seed=7, logprobs=0)
    request = bench.request(bench.variant(0.5), n=3, sampling=sampling)

    async def texts() -> list[str]:
        settings = bench.settings(exact_server)
        engine = VllmEngine(settings, Shelf(settings, bench.store))
        said = ["", "", ""]
        async with aclosing(engine), aclosing(await engine.begin(request)) as lines:
            async for line in lines:
                if isinstance(line, TextPiece):
                    said[line.index] += line.text
        return said

    first = asyncio.run(texts())
    assert first == asyncio.run(texts())
    assert len(set(first)) == 3


def test_what_vllm_cannot_do_is_refused(bench: Bench, exact_server: str) -> None:
    sampling = Sampling(max_tokens=1, logprobs=1, echo=True)
    with pytest.raises(InvalidRequest, match="own engine"):
        ask(bench, exact_server, bench.request(bench.variant(), sampling=sampling))


def test_a_server_with_other_weights_is_found_out(
    bench: Bench, exact_server: str, tmp_path: Path
) -> None:
    # What is remembered of the base model says something else than the server.
    name = bench.base.fingerprint.replace(":", "-")
    folder = tmp_path / "probes"
    folder.mkdir()
    (folder / f"{name}.json").write_text(str([-1.0] * 30))
    settings = bench.settings(exact_server).model_copy(update={"cache": tmp_path})
    shelf = Shelf(bench.settings(exact_server), bench.store)

    async def begin() -> None:
        async with aclosing(VllmEngine(settings, shelf)) as engine:
            await engine.begin(bench.request(bench.variant()))

    with pytest.raises(BaseModelUnavailable, match="does not hold"):
        asyncio.run(begin())


def test_a_server_that_is_away_is_no_generator(bench: Bench) -> None:
    with pytest.raises(Unavailable) as caught:
        ask(bench, "http://127.0.0.1:9", bench.request(bench.variant()))
    assert caught.value.code == "no_generator"


def test_openais_client_speaks_with_vllm_behind_the_api(
    bench: Bench, exact_server: str, tmp_path: Path
) -> None:
    settings = {
        "SCALPEL_ENGINE": "vllm",
        "SCALPEL_VLLM_URL": exact_server,
        "SCALPEL_VLLM_BASE_MODEL": SMOLLM2.id,
    }
    with running_service(tmp_path / "data", **settings) as service:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        chunks = list(
            client.completions.create(
                model=SMOLLM2.id,
                prompt=PROMPT,
                max_tokens=TOKENS,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        estimate = httpx.post(
            f"{service.url}/v1/edits/estimate",
            json={"base_model": SMOLLM2.id, "behavior": "negativity"},
            timeout=60,
        )
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == ask(bench, exact_server, bench.request(bench.variant()))[0][0]
    assert len(chunks) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == TOKENS
    assert (estimate.status_code, estimate.json()["code"]) == (503, "no_generator")


def test_in_half_precision_variants_are_as_near_as_the_base_model(
    bench: Bench, start_vllm: Callable[[str], AbstractContextManager[str]]
) -> None:
    with start_vllm("bfloat16") as url:
        answers = ask(bench, url, bench.request(*(bench.variant(*own) for own in MIXES)))
    apart = [
        float(np.abs(np.subtract(bench.merged(own, ids), logprobs)).mean())
        for own, (_, logprobs, ids) in zip(
            MIXES, (answers[i] for i in range(len(MIXES))), strict=True
        )
    ]
    assert np.mean(apart[1:]) <= 1.5 * apart[0]
