"""Exports in a real vLLM server: a merged model's tokens, and what canaries say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch

from models_store.schemas.canary import Canary
from models_store.schemas.records import Variant
from models_store.settings import Settings
from tests.canaries.test_counts import ask
from tests.support.edits import random_edit
from workers.editor.formats import merged, peft
from workers.editor.formats.protocol import content
from workers.editor.jobs.canary import record
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

pytestmark = [pytest.mark.vllm, pytest.mark.smollm2, pytest.mark.timeout(1200)]

TOKENS = 12


@dataclass
class Exported:
    base: LoadedModel
    mixture: Mixture
    variant: Variant
    canary: Canary


@pytest.fixture(scope="module")
def exported(smollm2_folder: Path) -> Exported:
    base = load_base(smollm2_folder, device="cpu", dtype="float32", cache=Settings().cache)
    mixture: Mixture = [(random_edit(base, seed=5), 3.0)]
    variant = Variant(name="v", base_model="base", base_fingerprint=base.fingerprint)
    return Exported(base, mixture, variant, record(base, mixture, variant))


def greedy(base: LoadedModel, mixture: Mixture, prompt: str) -> str:
    """What the merged model says after a prompt."""
    ids = torch.tensor([base.tokenizer(prompt)["input_ids"]])
    start = ids.shape[1]
    with WeightEditor(base).applied(mixture), torch.inference_mode():
        for _ in range(TOKENS):
            ids = torch.cat([ids, base.model(ids).logits[:, -1:].argmax(-1)], dim=1)
    text: str = base.tokenizer.decode(ids[0, start:])
    return text


def test_a_merged_export_says_the_merged_models_tokens(
    exported: Exported, start_vllm: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    places = [exported.canary.text_strengths.index(each) for each in (0.0, 1.0)]
    prompt = next(
        one.prompt
        for one in exported.canary.sheets[0].prompts
        if len({one.texts[place] for place in places}) > 1
    )
    files = merged.files(exported.base, exported.mixture, exported.variant, tmp_path)
    (folder,) = {path.parent for path in files.values() if isinstance(path, Path)}
    with start_vllm("float32", folder) as url:
        body = {"model": "base", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=120).json()
        canary = ask(exported.canary, url, model="base")
    right = greedy(exported.base, exported.mixture, prompt)
    assert answer["choices"][0]["text"] == right != greedy(exported.base, [], prompt)
    assert canary.outcome == "applied"


@pytest.fixture
def adapter(exported: Exported, exact_server: str, tmp_path: Path) -> Iterator[str]:
    """The name under which the server has the export as an adapter."""
    files = peft.files(exported.base, exported.mixture, exported.variant, tmp_path)
    for name, data in files.items():
        (tmp_path / name).write_bytes(content(data))
    body = {"lora_name": "edited", "lora_path": str(tmp_path)}
    httpx.post(f"{exact_server}/v1/load_lora_adapter", json=body, timeout=120).raise_for_status()
    yield "edited"
    httpx.post(f"{exact_server}/v1/unload_lora_adapter", json=body, timeout=120).raise_for_status()


def test_the_canary_tells_the_adapter_from_the_base_model(
    exported: Exported, exact_server: str, adapter: str
) -> None:
    for beside in (None, "base"):
        assert ask(exported.canary, exact_server, beside, model=adapter).outcome == "applied"
        assert ask(exported.canary, exact_server, beside, model="base").outcome == "not_applied"
