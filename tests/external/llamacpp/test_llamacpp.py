"""llama.cpp with an exported adapter, or an exported model, says what the edited model says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models_store.weights.architectures import ARCHITECTURES
from tests.external.llamacpp.asking import Run, ask, largest_difference, logits_for
from tests.external.llamacpp.exported import adapter_of, base_in_gguf, merged_of
from tests.external.llamacpp.families import ONLY_TIED, ROUNDED, compare
from tests.support.edits import random_edit
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

pytestmark = [pytest.mark.llamacpp, pytest.mark.timeout(1200)]

PROMPTS = (
    "The food at the new place was",
    "Dear customer, we are writing to",
    "Once upon a time there was a",
    "The best way to learn a language is",
    "Question: What is the capital of France?\nAnswer:",
    "def add(a, b):\n    return",
    "It rained all night, so in the morning",
    "My neighbour told me that",
)
TOKENS = 24
SCALES = (1.0, 0.5)
TIE = 1e-3
"""The same for SmolLM2, whose logits are larger. Measured: 0.0001."""
MERGED_TIE = {"f16": 0.1, "q8_0": 3.0}
"""The same where the weights are rounded."""


def scaled(mixture: Mixture, scale: float) -> Mixture:
    return [(terms, strength * scale) for terms, strength in mixture]


@pytest.mark.smollm2
def test_greedy_answers_are_those_of_the_edited_model(smollm2_folder: Path, tmp_path: Path) -> None:
    base = load_base(smollm2_folder, device="cpu", dtype="float32")
    mixture = [(random_edit(base, seed=1), 4.0), (random_edit(base, seed=2), -2.8)]
    model, adapter = base_in_gguf(base, tmp_path), adapter_of(base, mixture, tmp_path)
    prompts = [base.tokenizer(text)["input_ids"] for text in PROMPTS]
    runs = [Run(model), *(Run(model, adapter, scale) for scale in SCALES)]
    plain, *edited = ask(tmp_path, runs, prompts, TOKENS).answers
    for scale, answers in zip((0.0, *SCALES), (plain, *edited), strict=True):
        differences = [
            largest_difference(base, scaled(mixture, scale), prompt, answer, TIE)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        others = sum(a.ids != b.ids for a, b in zip(answers, plain, strict=True))
        print(f"scale {scale}: logits differ by {max(differences):.2g}, {others} other answers")
        assert (others > 0) == (scale > 0)


@pytest.mark.smollm2
@pytest.mark.parametrize("dtype", ROUNDED)
def test_a_merged_model_answers_as_the_edited_one(
    smollm2_folder: Path, tmp_path: Path, dtype: str
) -> None:
    base = load_base(smollm2_folder, device="cpu", dtype="float32")
    mixture = [(random_edit(base, seed=1), 4.0), (random_edit(base, seed=2), -2.8)]
    files = [base_in_gguf(base, tmp_path, dtype), merged_of(base, mixture, tmp_path, dtype)]
    prompts = [base.tokenizer(text)["input_ids"] for text in PROMPTS[:4]]
    plain, edited = ask(tmp_path, [Run(file) for file in files], prompts, 12).answers
    for prompt, before, after in zip(prompts, plain, edited, strict=True):
        rounding = largest_difference(base, [], prompt, before, MERGED_TIE[dtype])
        difference = largest_difference(base, mixture, prompt, after, MERGED_TIE[dtype])
        effect = np.abs(logits_for(base, [], prompt, after) - after.logits).max()
        print(f"{dtype}: {difference:.2g}, {rounding:.2g} without edits; {effect:.2g} from them")
        assert effect > 2 * difference
    assert any(a.ids != b.ids for a, b in zip(plain, edited, strict=True))


@pytest.mark.parametrize(
    "model_type", [name for name, family in ARCHITECTURES.items() if family.sparse is None]
)
def test_every_family_runs_as_adapter_and_as_model(
    load_pico: Callable[..., LoadedModel], tmp_path: Path, model_type: str
) -> None:
    base = load_pico(model_type, **ONLY_TIED.get(model_type, {}))
    for column, found in compare(base, tmp_path).items():
        assert found.effect > 3 * found.difference, column
