"""llama.cpp with an exported adapter says what the edited model says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from models_store.schemas.records import Variant
from models_store.weights.architectures import KEY, QUERY, QUERY_KEY_VALUE, VALUE
from tests.external.llamacpp.bases import write_base
from tests.support.edits import random_edit
from workers.editor.formats import gguf as format
from workers.editor.formats.protocol import content
from workers.runtime.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

pytestmark = [pytest.mark.llamacpp, pytest.mark.timeout(1200)]

PYTHON = "SCALPEL_LLAMACPP_PYTHON"
ENGINE = Path(__file__).with_name("engine.py")
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
TIE = 1e-3
"""The same for SmolLM2, whose logits are larger. Measured: 0.0001."""


@dataclass(frozen=True)
class Answer:
    """What llama.cpp said to a prompt, and what it chose from."""

    ids: list[int]
    logits: np.ndarray
    """`[tokens, vocabulary]`."""


def ask(
    folder: Path,
    model: Path,
    adapters: Sequence[tuple[Path, float] | None],
    prompts: Sequence[list[int]],
    tokens: int,
) -> list[list[Answer]]:
    """Answers by adapter and prompt."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"no llama.cpp: {PYTHON} names no interpreter with it; run make test-llamacpp")
    job = {
        "model": str(model),
        "adapters": [one and [str(one[0]), one[1]] for one in adapters],
        "prompts": prompts,
        "tokens": tokens,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [python, str(ENGINE), str(folder / "job.json"), str(folder / "out.npz")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with np.load(folder / "out.npz") as found:
        return [
            [
                Answer(found[f"ids_{i}_{j}"].tolist(), found[f"logits_{i}_{j}"])
                for j in range(len(prompts))
            ]
            for i in range(len(adapters))
        ]


def adapter_of(base: LoadedModel, mixture: Mixture, folder: Path) -> Path:
    variant = Variant(name="v", base_model="base", base_fingerprint=base.fingerprint)
    path = folder / format.NAME
    path.write_bytes(content(format.files(base, mixture, variant, folder)[format.NAME]))
    return path


@torch.no_grad()
def logits_for(
    base: LoadedModel, mixture: Mixture, prompt: list[int], answer: Answer
) -> np.ndarray:
    """The logits that Scalpel's model has at each token of the answer, `[tokens, vocabulary]`."""
    ids = torch.tensor([prompt + answer.ids[:-1]])
    with EditedModel(base, mixture).active():
        hidden = base.decoder(input_ids=ids).last_hidden_state
    logits: np.ndarray = base.logits(hidden)[0, len(prompt) - 1 :].numpy()
    return logits


def largest_difference(
    base: LoadedModel, mixture: Mixture, prompt: list[int], answer: Answer, allowed: float
) -> float:
    """Of the logits, over an answer of llama.cpp.

    Each of its tokens must be the one that Scalpel's model would say there, or tie with it.
    """
    ours = logits_for(base, mixture, prompt, answer)
    for chosen, row in zip(answer.ids, ours, strict=True):
        assert row.max() - row[chosen] <= allowed
    difference = float(np.abs(ours - answer.logits).max())
    assert difference <= allowed
    return difference


def scaled(mixture: Mixture, scale: float) -> Mixture:
    return [(terms, strength * scale) for terms, strength in mixture]


@pytest.mark.smollm2
def test_greedy_answers_are_those_of_the_edited_model(smollm2_folder: Path, tmp_path: Path) -> None:
    base = load_base(smollm2_folder, device="cpu", dtype="float32")
    mixture = [(random_edit(base, seed=1), 4.0), (random_edit(base, seed=2), -2.8)]
    model, adapter = write_base(base, tmp_path / "base.gguf"), adapter_of(base, mixture, tmp_path)
    prompts = [base.tokenizer(text)["input_ids"] for text in PROMPTS]
    adapters = [None, *((adapter, scale) for scale in SCALES)]
    plain, *edited = ask(tmp_path, model, adapters, prompts, TOKENS)
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
def test_every_family_runs_with_its_adapter(
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
    model, adapter = write_base(base, tmp_path / "base.gguf"), adapter_of(base, mixture, tmp_path)
    prompts = [base.tokenizer(text)["input_ids"] for text in PROMPTS[:2]]
    plain, edited = ask(tmp_path, model, [None, (adapter, 1.0)], prompts, 8)
    allowed = GELU if model_type.startswith("gemma") else EXACT
    for prompt, before, after in zip(prompts, plain, edited, strict=True):
        largest_difference(base, [], prompt, before, allowed)
        largest_difference(base, mixture, prompt, after, allowed)
        effect = np.abs(logits_for(base, [], prompt, after) - after.logits).max()
        assert effect > 50 * allowed
