"""Every family in llama.cpp, as adapter and as model; as a script it writes the table in the page.

python -m tests.external.llamacpp.families
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.page import write_section
from models_store.errors import InvalidRequest
from models_store.weights.architectures import ARCHITECTURES, KEY, QUERY, QUERY_KEY_VALUE, VALUE
from tests.external.llamacpp.asking import Run, ask, largest_difference, logits_for
from tests.external.llamacpp.exported import adapter_of, base_in_gguf, merged_of
from tests.support.edits import random_edit
from tests.support.pico import save_pico
from workers.editor.formats.merged_gguf import DTYPES
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
SECTION = "tests.external.llamacpp.families"
COLUMNS = ("gguf", *DTYPES)
PROMPTS = ("The food at the new place was", "Dear customer, we are writing to")
TOKENS = 8
ONLY_TIED = {"gemma": {"tie_word_embeddings": True}, "gemma2": {"tie_word_embeddings": True}}
"""llama.cpp has no head of its own for these."""
EXACT = 1e-5
"""Difference of logits that two programs in fp32 may have on a pico model."""
GELU = 4e-3
"""The same for Gemma: llama.cpp looks its activation up in a table in fp16. Measured: 0.002, and
0.000008 where Scalpel's model rounds that activation to fp16 too."""
ROUNDED = {"f16": 2e-2, "q8_0": 0.4}
"""The same where the weights are rounded, and what they are multiplied with too."""


@dataclass(frozen=True)
class Compared:
    """llama.cpp with an export, and Scalpel's edited model."""

    difference: float
    """The largest of a logit."""
    effect: float
    """The largest difference of a logit from the base model's."""


def mixture_of(base: LoadedModel) -> Mixture:
    """Three edits, one of them of the attention's matrices."""
    attention = random_edit(base, seed=3, modules=(QUERY, KEY, VALUE, QUERY_KEY_VALUE))
    mlp = [(random_edit(base, seed=seed), strength) for seed, strength in ((1, 0.5), (2, -0.3))]
    return [*mlp, (attention, 0.3)]


def compare(base: LoadedModel, folder: Path) -> Mapping[str, Compared]:
    """By column; every token that llama.cpp says is the edited model's, or ties with it.

    Raises:
        AssertionError: one is not, or the base model itself runs otherwise.
    """
    mixture = mixture_of(base)
    model, adapter = base_in_gguf(base, folder), adapter_of(base, mixture, folder)
    merged = [merged_of(base, mixture, folder, dtype) for dtype in DTYPES]
    runs = [Run(model), Run(model, adapter), *map(Run, merged)]
    prompts = [base.tokenizer(text)["input_ids"] for text in PROMPTS]
    plain, *edited = ask(folder, runs, prompts, TOKENS).answers
    exact = GELU if base.architecture.model_type.startswith("gemma") else EXACT
    for prompt, answer in zip(prompts, plain, strict=True):
        largest_difference(base, [], prompt, answer, exact)
    found = {}
    for column, answers in zip(COLUMNS, edited, strict=True):
        allowed = ROUNDED.get(column, exact)
        pairs = list(zip(prompts, answers, strict=True))
        found[column] = Compared(
            max(largest_difference(base, mixture, *pair, allowed) for pair in pairs),
            max(
                float(np.abs(logits_for(base, [], *pair) - pair[1].logits).max()) for pair in pairs
            ),
        )
    return found


def row(model_type: str, folder: Path) -> str:
    settings: dict[str, Any] = ONLY_TIED.get(model_type, {})
    base = load_base(
        save_pico(folder / "model", model_type, **settings), device="cpu", dtype="float32"
    )
    try:
        found = compare(base, folder)
    except InvalidRequest as error:
        why = error.message.split(": ", 1)[1].split(";")[0]
        return f"| `{model_type}` | read back by `gguf` only | refused: {why} | | | |"
    cells = [f"{found[column].difference:.1g}" for column in COLUMNS]
    return f"| `{model_type}` | {' | '.join(cells)} | {found['f32'].effect:.2g} |"


def main() -> None:
    rows = []
    for model_type in ARCHITECTURES:
        with TemporaryDirectory() as folder:
            rows.append(row(model_type, Path(folder)))
            print(rows[-1], flush=True)
    head = [
        "| `model_type` | `gguf` | `merged-gguf` f32 | f16 | q8_0 | the edit |",
        "|---|---|---|---|---|---|",
    ]
    note = (
        "The largest difference of a logit between llama.cpp (llama-cpp-python 0.3.36) with the "
        "export and Scalpel's edited model, over greedy answers of random models with two layers, "
        "and the largest that the edit makes. Every token of an answer is the edited model's, up "
        f"to ties. Files written with gguf {version('gguf')}."
    )
    write_section(SECTION, "\n".join([*head, *rows, "", note]), PAGE)


if __name__ == "__main__":
    main()
