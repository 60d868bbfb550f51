"""llama.cpp with an exported adapter, or an exported model, says what the edited model says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models_store.weights.architectures import KEY, QUERY, QUERY_KEY_VALUE, VALUE
from tests.external.llamacpp.asking import Run, ask, largest_difference, logits_for
from tests.external.llamacpp.exported import adapter_of, base_in_gguf, merged_of
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
EXACT = 1e-5
"""Difference of logits that two programs in fp32 may have on a pico model."""
GELU = 4e-3
"""The same for Gemma: llama.cpp looks its activation up in a table in fp16. Measured: 0.002, and
0.000008 where Scalpel's model rounds that activation to fp16 too."""
ROUNDED = {"f16": 2e-2, "q8_0": 0.4}
"""The same where the weights are rounded, and what they are multiplied with too."""
TIE = 1e-3
"""The same for SmolLM2, whose logits are larger. Measured: 0.0001."""


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


@pytest.mark.parametrize(
    "model_type",
    [
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "olmo",
        "olmo2",
        "olmo3",
        "smollm3",
        "phi3",
    ],
)
def test_every_family_runs_as_adapter_and_as_model(
    load_pico: Callable[..., LoadedModel], tmp_path: Path, model_type: str
) -> None:
    # llama.cpp has no head of its own for Gemma and Gemma 2.
    tied = {"tie_word_embeddings": True} if model_type in ("gemma", "gemma2") else {}
    base = load_pico(model_type, **tied)
    attention = random_edit(base, seed=3, modules=(QUERY, KEY, VALUE, QUERY_KEY_VALUE))
    mixture = [
        (random_edit(base, seed=1), 0.5),
        (random_edit(base, seed=2), -0.3),
        (attention, 0.3),
    ]
    model, adapter = base_in_gguf(base, tmp_path), adapter_of(base, mixture, tmp_path)
    merged = [merged_of(base, mixture, tmp_path, dtype) for dtype in ("f32", *ROUNDED)]
    runs = [Run(model), Run(model, adapter), *map(Run, merged)]
    prompts = [base.tokenizer(text)["input_ids"] for text in PROMPTS[:2]]
    plain, *edited = ask(tmp_path, runs, prompts, 8).answers
    exact = GELU if model_type.startswith("gemma") else EXACT
    for prompt, before in zip(prompts, plain, strict=True):
        largest_difference(base, [], prompt, before, exact)
    for allowed, answers in zip((exact, exact, *ROUNDED.values()), edited, strict=True):
        for prompt, after in zip(prompts, answers, strict=True):
            difference = largest_difference(base, mixture, prompt, after, allowed)
            effect = np.abs(logits_for(base, [], prompt, after) - after.logits).max()
            print(f"{allowed}: {difference:.2g}, {effect:.2g}")
            assert effect > 3 * difference
