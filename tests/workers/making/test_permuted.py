"""The methods of an edit fitted on permuted labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch

from models_store.objects.store import open_store
from models_store.schemas.items import TextItem
from models_store.schemas.methods import FixedMethod
from models_store.settings import Settings
from tests.workers.evaluation.texts import behavior
from workers.evaluation.data.splits import Sides, split_behavior
from workers.making.cache import Cache
from workers.making.fitting.fitting import prepare
from workers.making.fitting.permuted import fit_permuted, permuted
from workers.making.fitting.source import Source
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.fitted import pair
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.conditional import Conditional
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.natural import Natural
from workers.surgery.terms import Term

SIDES = Sides(
    tuple(TextItem(text=f"bad {number}") for number in range(30)),
    tuple(TextItem(text=f"good {number}") for number in range(10)),
)


@pytest.fixture
def load_pico(load_pico: Callable[..., LoadedModel]) -> Callable[..., LoadedModel]:
    """Its texts all begin with one token, so that `bias` finds layers to write into."""
    return partial(load_pico, first_token=True)


def norm(terms: Sequence[Term]) -> float:
    return sum(float(torch.outer(t.coefficients, t.direction).square().sum()) for t in terms) ** 0.5


def test_every_text_is_dealt_to_one_side_once() -> None:
    dealt = permuted(SIDES, 3, 100)
    assert Counter(dealt.items) == Counter(SIDES.items)
    assert (len(dealt.undesired), len(dealt.desired)) == (30, 10)
    assert 0 < len({*dealt.undesired} & {*SIDES.desired}) < 10
    assert dealt == permuted(SIDES, 3, 100)
    assert dealt != permuted(SIDES, 4, 100)


@pytest.mark.parametrize(("most", "undesired"), [(20, 15), (3, 2), (2, 1)])
def test_fewer_texts_keep_the_shares_of_the_sides(most: int, undesired: int) -> None:
    dealt = permuted(SIDES, 0, most)
    assert (len(dealt), len(dealt.undesired)) == (most, undesired)


def test_a_permuted_fit_is_that_of_the_dealt_texts_with_the_norms_of_the_edit(
    pico: LoadedModel, settings: Settings
) -> None:
    model = EditedModel(pico)
    cache = Cache(open_store(settings), "default", model)
    source = Source(model, split_behavior(behavior(), seed=0), chat=False, seed=0)
    bias, natural = methods = (Bias(layers=(0, 1)), Natural())
    made = prepare(source, methods, cache).made
    edit = pair(made[natural], made[bias], (0.5, 2.0))
    assert edit.methods == (natural, bias)
    control = fit_permuted(source, cache, edit.methods, edit.terms, 7)
    assert control is not None

    dealt = replace(source.splits, fit=permuted(source.splits.fit, 7, 100))
    expected = prepare(replace(source, splits=dealt), methods, cache).made
    for method, factor in ((natural, 0.5), (bias, 2.0)):
        its = [term for term in control if term.module in method.modules]
        assert norm(its) == pytest.approx(factor * norm(made[method].terms))
        for term, like in zip(its, expected[method].terms, strict=True):
            assert term.key == like.key
            assert torch.equal(term.direction, like.direction)
            cosine = torch.cosine_similarity(term.coefficients, like.coefficients, dim=0)
            assert cosine == pytest.approx(1.0)
    assert {term.digest for term in control}.isdisjoint(term.digest for term in edit.terms)


@pytest.mark.parametrize("method", [ModelSurgery(), Natural(), Conditional(layers=(0,))])
def test_what_cannot_be_fitted_is_left_out(
    load_pico: Callable[..., LoadedModel], settings: Settings, method: FixedMethod
) -> None:
    """A model of experts has no gates to take gradients of, and plain texts no prompts."""
    model = EditedModel(load_pico("mixtral"))
    cache = Cache(open_store(settings), "default", model)
    source = Source(model, split_behavior(behavior(), seed=0), chat=False, seed=0)
    edit = prepare(source, [ModelSurgery()], cache).made[ModelSurgery()].terms
    control = fit_permuted(source, cache, [method], edit, 7)
    assert (control is None) == (method != ModelSurgery())
