"""Model Surgery against the paper's steps, said again slowly and independently.

The slow version follows the published procedure: it runs each text through the model anew in
every epoch, alone and without batches of texts of different length, takes the mean over the
tokens, trains the probe step by step with Adam written out, and finds the region by loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.reading.extract import features
from workers.runtime.tokens import encode
from workers.surgery.methods.model_surgery.fit import absolute_alpha, relative_alpha, terms_from
from workers.surgery.probe import DESIRED, UNDESIRED, Probe, ProbeSettings, fit_probe
from workers.surgery.region import Region, select_region
from workers.surgery.terms import Term

EPOCHS, RATE, BATCH, FRACTION, MAX_TOKENS, TRAIN = 9, 1e-4, 16, 0.0465, 100, 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

_SUBJECTS = ["the film", "the food", "this service", "my day", "the people here", "what you do"]
_WORDS = {
    UNDESIRED: ["awful", "terrible", "bad and cruel", "hated by all"],
    DESIRED: ["lovely", "good", "kind and nice", "loved by all"],
}
_ENDINGS = ["", ", so they say", " and it is very long, with a lot of words to be read by you"]


def texts(side: int) -> list[str]:
    return [f"{s} was {w}{e}" for s in _SUBJECTS for w in _WORDS[side] for e in _ENDINGS]


Corpus = list[tuple[str, int]]
"""Text and class, in the order in which they are given."""

CORPUS: Corpus = [
    labelled
    for undesired, desired in zip(texts(UNDESIRED), texts(DESIRED), strict=True)
    for labelled in ((undesired, UNDESIRED), (desired, DESIRED))
]


@dataclass
class Slow:
    """What the slow version finds."""

    weight: Tensor
    bias: Tensor
    region: dict[tuple[int, int], float]
    """Cosine by (layer, row)."""
    cosines: list[tuple[float, int, int]]
    """Of every row, sorted."""


def feature_of(base: LoadedModel, text: str) -> Tensor:
    """Mean of the last hidden state of one text alone."""
    ids = base.tokenizer(text)["input_ids"][:MAX_TOKENS]
    with torch.no_grad():
        states = base.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    total = torch.zeros(states.shape[1])
    for state in states:
        total += state.float()
    return total / len(states)


def slow_probe(base: LoadedModel, corpus: Corpus, seed: int) -> tuple[Tensor, Tensor]:
    """The probe, every text read anew in every epoch; gradients and Adam written out."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(base.hidden_size)
    weight = torch.empty(2, base.hidden_size).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(2).uniform_(-bound, bound, generator=generator)
    parameters = [weight, bias]
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    train = torch.randperm(len(corpus), generator=generator).tolist()[: int(TRAIN * len(corpus))]
    step = 0
    for _ in range(EPOCHS):
        order = torch.randperm(len(train), generator=generator).tolist()
        for start in range(0, len(train), BATCH):
            chosen = [corpus[train[i]] for i in order[start : start + BATCH]]
            gradients = [torch.zeros_like(p) for p in parameters]
            for text, label in chosen:
                x = feature_of(base, text)
                error = torch.softmax(weight @ x + bias, dim=0)
                error[label] -= 1
                gradients[0] += torch.outer(error, x) / len(chosen)
                gradients[1] += error / len(chosen)
            step += 1
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m.mul_(BETA1).add_((1 - BETA1) * g)
                v.mul_(BETA2).add_((1 - BETA2) * g * g)
                root = (v / (1 - BETA2**step)).sqrt()
                p.sub_(RATE * (m / (1 - BETA1**step)) / (root + EPSILON))
    return weight, bias


def slow_region(base: LoadedModel, direction: Tensor) -> list[tuple[float, int, int]]:
    """Cosine, layer and row of every gate row, sorted, in fp64."""
    v = direction.double()
    length = math.sqrt(sum(float(x) ** 2 for x in v))
    cosines = []
    for layer, block in enumerate(base.model.model.layers):
        for row, values in enumerate(block.mlp.gate_proj.weight.double()):
            norm = math.sqrt(float((values * values).sum()))
            cosines.append((float((values * v).sum()) / (norm * length), layer, row))
    return sorted(cosines)


def slow(base: LoadedModel, corpus: Corpus, seed: int) -> Slow:
    weight, bias = slow_probe(base, corpus, seed)
    cosines = slow_region(base, weight[UNDESIRED])
    count = round(FRACTION * len(cosines))
    region = {(layer, row): cosine for cosine, layer, row in cosines[:count]}
    return Slow(weight, bias, region, cosines)


def fast(
    base: LoadedModel, corpus: Corpus, seed: int, alpha: float
) -> tuple[Probe, Region, list[Term]]:
    items = [text for text, _ in corpus]
    found = features(base, encode(base, items, max_tokens=MAX_TOKENS, chat=False))
    labels = torch.tensor([label for _, label in corpus])
    probe = fit_probe(found, labels, ProbeSettings(kind="paper"), seed)
    keys = list(base.architecture.gates())
    region = select_region((base.matrix(key) for key in keys), probe.direction, FRACTION)
    return probe, region, terms_from(keys, region, probe.direction, alpha)


def assert_equal(
    expected: Slow, probe: Probe, region: Region, terms: list[Term], alpha: float
) -> None:
    """Same probe; same region but for rows within 1e-6 of the cut; same delta to 1e-6."""
    scale = float(expected.weight.norm())
    assert (probe.weight - expected.weight).norm() <= 1e-6 * scale
    assert (probe.bias - expected.bias).norm() <= 1e-6 * max(scale, 1.0)
    chosen = {(layer, int(row)) for layer, rows in enumerate(region.rows) for row in rows}
    assert len(chosen) == len(expected.region)
    cosine = {(layer, row): value for value, layer, row in expected.cosines}
    for place in chosen ^ expected.region.keys():
        assert abs(cosine[place] - region.cut) <= 1e-6
    assert {(t.layer, int(row)) for t in terms for row in t.rows} == chosen
    wanted = alpha * expected.weight[UNDESIRED]
    for term in terms:
        for c in term.coefficients:
            assert (c * term.direction - wanted).norm() <= 1e-6 * wanted.norm()


def test_the_fast_version_does_what_the_paper_says(
    load_pico: Callable[..., LoadedModel],
) -> None:
    base = load_pico()
    probe, region, terms = fast(base, CORPUS, seed=4, alpha=1.08)
    assert_equal(slow(base, CORPUS, seed=4), probe, region, terms, 1.08)
    assert region.size == round(FRACTION * 128) == 6


def test_a_second_attribute_is_fitted_on_the_model_edited_for_the_first(
    load_pico: Callable[..., LoadedModel],
) -> None:
    base, plain = load_pico(), load_pico()
    _, _, first = fast(base, CORPUS, seed=1, alpha=3.0)
    with WeightEditor(base).applied([(first, 1.0)]):
        probe, region, second = fast(base, CORPUS, seed=2, alpha=1.0)
    # The slow version edits a model of its own, row by row.
    for term in first:
        weight = plain.model.model.layers[term.layer].mlp.gate_proj.weight
        for row in term.rows.tolist():
            weight[row] += 3.0 * term.direction
    assert_equal(slow(plain, CORPUS, seed=2), probe, region, second, 1.0)
    alone, _, _ = fast(base, CORPUS, seed=2, alpha=1.0)
    assert (alone.weight - probe.weight).norm() > 1e-4 * probe.weight.norm()
    # Served together they are the model edited for the first and then for the second.
    with WeightEditor(base).applied([(first, 1.0), (second, 1.0)]):
        for term in second:
            weight = plain.model.model.layers[term.layer].mlp.gate_proj.weight
            for row in term.rows.tolist():
                weight[row] += term.direction
        for key in base.architecture.gates():
            assert torch.allclose(base.matrix(key), plain.matrix(key), atol=1e-6)


def test_relative_and_absolute_alpha_are_one_factor_said_in_two_ways(pico: LoadedModel) -> None:
    probe, region, _ = fast(pico, CORPUS, seed=0, alpha=1.0)
    relative = relative_alpha(1.08, probe.direction, region)
    # Every row of a pico gate has a norm of about one.
    assert relative == pytest.approx(1.08 * float(probe.direction.norm()), rel=0.1)
    assert absolute_alpha(relative, probe.direction, region) == pytest.approx(1.08)


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.long
def test_smollm2_gets_the_paper_s_edit(smollm2_folder: Path) -> None:
    base = load_base(smollm2_folder, device="cpu", dtype="float32")
    corpus = CORPUS[:32]
    probe, region, terms = fast(base, corpus, seed=0, alpha=1.0)
    assert region.size == round(FRACTION * 30 * 1536)
    assert_equal(slow(base, corpus, seed=0), probe, region, terms, 1.0)
