"""KL and likelihoods against a slow computation, text by text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem
from models_store.weights.architectures import GATE, MatrixKey
from tests.support.edits import random_edit, random_term
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import compare, negative_log_likelihood
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Mixture

ITEMS = [
    "the film was good and the food was awful",
    CompletionItem(prompt="people", completion=" hate awful food and service every day"),
    "bad",
    "you are so kind",
]


def encoded(base: LoadedModel) -> list[Encoded]:
    return encode(base, ITEMS, max_tokens=40, chat=False)


def by_hand(
    base: LoadedModel, mixture: Mixture, text: Encoded
) -> tuple[float, float, float, int, float]:
    """Mean KL, base NLL, edited NLL, positions and share of changed first choices of one text in
    fp64, token by token."""
    ids = torch.tensor([text.ids])
    before = torch.log_softmax(base.model(ids).logits[0].double(), dim=-1)
    with WeightEditor(base).applied(mixture):
        after = torch.log_softmax(base.model(ids).logits[0].double(), dim=-1)
    kl, base_nll, edited_nll, changed = [], [], [], []
    for position in range(1, len(text)):
        if text.scored[position]:
            p, q = before[position - 1], after[position - 1]
            kl.append(float((p.exp() * (p - q)).sum()))
            base_nll.append(-float(p[text.ids[position]]))
            edited_nll.append(-float(q[text.ids[position]]))
            changed.append(bool(p.argmax() != q.argmax()))
    if not kl:
        return 0.0, 0.0, 0.0, 0, 0.0
    means = [float(np.mean(values)) for values in (kl, base_nll, edited_nll, changed)]
    return means[0], means[1], means[2], len(kl), means[3]


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_a_comparison_is_what_the_slow_one_says(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    whole = load_pico(model_type)
    # Chunks of three positions, so that texts are split between chunks.
    base = replace(whole, chunk_logits=3 * whole.vocabulary)
    mixture: Mixture = [(random_edit(base), 0.5)]
    found = EditedModel(base, mixture).divergence(encoded(base))
    expected = np.array([by_hand(base, mixture, text) for text in encoded(base)])
    assert np.allclose(found.kl, expected[:, 0], rtol=1e-3, atol=1e-6)
    assert np.allclose(found.base_nll, expected[:, 1], rtol=1e-4)
    assert np.allclose(found.edited_nll, expected[:, 2], rtol=1e-4)
    assert found.positions.tolist() == expected[:, 3].tolist()
    assert np.allclose(found.changed, expected[:, 4])
    assert found.changed.sum() > 0
    assert found.positions[2] == 0
    of_texts = np.split(found.position_kl, np.cumsum(found.positions)[:-1])
    assert [part.sum() for part in of_texts] == pytest.approx(found.kl * found.positions)
    assert found.kl_p95 == pytest.approx(
        np.quantile(found.position_kl, 0.95, method="inverted_cdf")
    )
    weights = expected[:, 3]
    assert found.mean_kl == pytest.approx(np.average(expected[:, 0], weights=weights), rel=1e-3)
    assert found.perplexity_ratio == pytest.approx(
        np.exp(np.average(expected[:, 2] - expected[:, 1], weights=weights)), rel=1e-3
    )


def test_the_base_model_does_not_differ_from_itself(pico: LoadedModel) -> None:
    reading = EditedModel(pico).reading(encoded(pico))
    same = compare(pico, reading, reading)
    assert same.mean_kl == 0.0
    assert same.perplexity_ratio == 1.0
    assert np.array_equal(negative_log_likelihood(pico, reading), same.base_nll)


def test_kl_grows_as_the_square_of_a_small_strength(pico: LoadedModel) -> None:
    reference, edit = EditedModel(pico).reading(encoded(pico)), random_edit(pico)
    small, twice = (
        EditedModel(pico, [(edit, s)]).divergence(encoded(pico), reference).mean_kl
        for s in (0.02, 0.04)
    )
    assert twice / small == pytest.approx(4.0, rel=0.1)


def test_edits_of_routed_experts_are_measured_in_the_weights_and_undone(
    load_pico: Callable[..., LoadedModel],
) -> None:
    base = load_pico("mixtral")
    before = {name: value.clone() for name, value in base.model.named_parameters()}
    mixture: Mixture = [
        ([random_term(base, MatrixKey(0, GATE, e), seed=e, rows=60) for e in range(4)], 1.0)
    ]
    found = EditedModel(base, mixture).divergence(encoded(base))
    expected = [by_hand(base, mixture, text)[0] for text in encoded(base)]
    assert np.allclose(found.kl, expected, rtol=1e-3, atol=1e-6)
    assert found.mean_kl > 1e-3
    assert all(torch.equal(before[name], value) for name, value in base.model.named_parameters())


def test_texts_of_one_token_alone_are_refused(pico: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="after its first one"):
        EditedModel(pico).reading(encode(pico, ["bad"], max_tokens=5, chat=False))
