"""Served variants are the merged models, up to the rounding that merged models have themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.edits import random_edit
from workers.runtime.decoding.decode import Decoding, Token
from workers.runtime.decoding.requests import BatchRow, Request
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture, scaled

MIXES = 64
TOKENS = 6
MARGIN = 1e-3
PROMPTS = ["the food is", "people", "you would never hate the film, what", "thanks, the day was so"]


class Forced(Decoding):
    """Gives each row the tokens that it is told to, and keeps the logits that it had for them."""

    def __init__(self, base: LoadedModel, forced: Sequence[Sequence[int]]) -> None:
        super().__init__(base, SidePath(base))
        self.forced = forced
        self.logits: list[list[Tensor]] = [[] for _ in forced]

    def _choose(self, rows: Sequence[BatchRow], states: Tensor) -> list[Token]:
        logits = self._base.logits(states.contiguous()).double()
        for row, own in zip(rows, logits, strict=True):
            self.logits[row.number].append(own)
        return [
            self._take(row, self.forced[row.number][len(row.ids)], None)
            for row in rows
            if not row.ended
        ]


def random_mixes(base: LoadedModel, size: float) -> list[Mixture]:
    dice = random.Random(11)
    edits = [scaled(random_edit(base, seed=number), size) for number in range(6)]
    mixes: list[Mixture] = [
        [(edit, dice.uniform(-2, 2)) for edit in dice.sample(edits, dice.randint(1, 3))]
        for _ in range(MIXES)
    ]
    return mixes


def prompts(base: LoadedModel) -> list[list[int]]:
    texts = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROMPTS]
    return [texts[place % len(texts)] for place in range(MIXES)]


def greedy_of_merged(base: LoadedModel, mixes: Sequence[Mixture]) -> list[list[int]]:
    editor = WeightEditor(base)
    made = []
    for prompt, mixture in zip(prompts(base), mixes, strict=True):
        with editor.applied(mixture):
            decoding = Decoding(base, SidePath(base), [Request(prompt, TOKENS, stop_ids=NONE)])
            ids: list[int] = []
            while not decoding.done:
                ids += [token.id for token in decoding.step() if token.id is not None]
        made.append(ids)
    return made


NONE: frozenset[int] = frozenset()


def merged(
    base: LoadedModel, mixes: Sequence[Mixture], forced: Sequence[list[int]]
) -> list[Tensor]:
    """Logits of the merged models at the forced tokens, `[TOKENS, vocabulary]` each."""
    editor = WeightEditor(base)
    found = []
    for prompt, mixture, own in zip(prompts(base), mixes, forced, strict=True):
        with editor.applied(mixture), torch.inference_mode():
            ids = torch.tensor([prompt + own[:-1]])
            logits: Tensor = base.model(ids).logits[0, len(prompt) - 1 :]
        found.append(logits.double())
    return found


def served(
    base: LoadedModel, mixes: Sequence[Mixture], forced: Sequence[list[int]]
) -> list[Tensor]:
    """The same of all mixes in one batch, which they join at different times."""
    decoding = Forced(base, forced)
    requests = [
        Request(prompt, TOKENS, mixture, stop_ids=NONE)
        for prompt, mixture in zip(prompts(base), mixes, strict=True)
    ]
    while requests or not decoding.done:
        decoding.add(requests[:7])
        del requests[:7]
        decoding.step()
    return [torch.stack(own) for own in decoding.logits]


def check(narrow: LoadedModel, wide: LoadedModel, size: float) -> int:
    mixes = random_mixes(wide, size)
    forced = greedy_of_merged(wide, mixes)
    truths = merged(wide, mixes, forced)
    rounded = merged(narrow, mixes, forced)
    engine = served(narrow, mixes, forced)
    compared = [
        (mine, theirs, truth)
        for mine, theirs, truth in zip(engine, rounded, truths, strict=True)
        if all(bool(torch.isfinite(one).all()) for one in (mine, theirs, truth))
    ]
    rounding = max(float((theirs - truth).abs().max()) for _, theirs, truth in compared)
    largest = max(float(truth.abs().max()) for *_, truth in compared)
    for mine, _, truth in compared:
        assert float((mine - truth).abs().max()) <= 3 * rounding + 1e-5 * largest
        top = truth.topk(2).values
        clear = top[:, 0] - top[:, 1] > MARGIN
        assert torch.equal(mine.argmax(1)[clear], truth.argmax(1)[clear])
    # The edits do something: a base model would not pass.
    base = served(narrow, [()] * MIXES, forced)
    apart = [float((one - truth).abs().max()) for one, truth in zip(base, truths, strict=True)]
    assert sum(gap > 100 * rounding for gap in apart) > 0.9 * MIXES
    return len(compared)


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "phi3"])
def test_mixes_in_one_batch_are_their_merged_models(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    narrow, wide = load_pico(model_type), load_pico(model_type, load_dtype="float64")
    assert check(narrow, wide, 1.0) > 0.9 * MIXES


@pytest.mark.smollm2
@pytest.mark.slow
@pytest.mark.long
def test_mixes_of_a_real_model_are_their_merged_models(smollm2_folder: Path) -> None:
    narrow = load_base(smollm2_folder, device="cpu", dtype="float32")
    wide = load_base(smollm2_folder, device="cpu", dtype="float64")
    assert check(narrow, wide, 0.3) > 0.9 * MIXES


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_in_half_precision_mixes_are_as_near_as_the_base_model_is(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    full, half = load_pico(model_type), load_pico(model_type, load_dtype="bfloat16")
    mixes = random_mixes(full, 0.3)
    forced = greedy_of_merged(full, mixes)

    def distance(own: Sequence[Mixture]) -> Tensor:
        """KL(fp32 ‖ bf16) of each row, mean over its tokens."""
        pairs = zip(served(full, own, forced), served(half, own, forced), strict=True)
        return torch.stack([_kl(truth, rounded).mean() for truth, rounded in pairs])

    assert distance(mixes).mean() <= 2 * distance([()] * MIXES).mean()


def _kl(truth: Tensor, other: Tensor) -> Tensor:
    p, q = torch.log_softmax(truth, -1), torch.log_softmax(other, -1)
    return (p.exp() * (p - q)).sum(-1)
