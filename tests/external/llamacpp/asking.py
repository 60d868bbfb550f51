"""Ask llama.cpp, in a process of the interpreter that has it, and compare with Scalpel's model."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

_PYTHON = "SCALPEL_LLAMACPP_PYTHON"
_ENGINE = Path(__file__).with_name("engine.py")


@dataclass(frozen=True)
class Run:
    """A model in GGUF, alone or with an adapter."""

    model: Path
    adapter: Path | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Answer:
    """What llama.cpp said to a prompt, and what it chose from."""

    ids: list[int]
    logits: np.ndarray
    """`[tokens, vocabulary]`."""


@dataclass(frozen=True)
class Found:
    answers: list[list[Answer]]
    """By run and prompt."""
    tokens: list[list[int]]
    """By text."""


def ask(
    folder: Path,
    runs: Sequence[Run],
    prompts: Sequence[list[int]],
    tokens: int,
    texts: Sequence[str] = (),
) -> Found:
    """Greedy answers, and the texts as the first run's model reads them."""
    python = os.environ.get(_PYTHON)
    if not python:
        pytest.skip(f"no llama.cpp: {_PYTHON} names no interpreter with it; run make test-llamacpp")
    job = {
        "runs": [[str(run.model), run.adapter and str(run.adapter), run.scale] for run in runs],
        "prompts": prompts,
        "tokens": tokens,
        "texts": texts,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [python, str(_ENGINE), str(folder / "job.json"), str(folder / "out.npz")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with np.load(folder / "out.npz") as found:
        return Found(
            [
                [
                    Answer(found[f"ids_{i}_{j}"].tolist(), found[f"logits_{i}_{j}"])
                    for j in range(len(prompts))
                ]
                for i in range(len(runs))
            ],
            [found[f"tokens_{k}"].tolist() for k in range(len(texts))],
        )


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
