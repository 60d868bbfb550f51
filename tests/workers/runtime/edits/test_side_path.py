"""Edits beside the weights give what edits in the weights give, each row its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, GATE, OUTPUT, SHARED_GATE, MatrixKey
from models_store.weights.delta import dump_delta, load_delta
from tests.support.edits import random_edit, random_term
from workers.runtime.edits import side_path
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.deltas import from_delta, to_delta
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, scaled

IDS = torch.randint(4, 500, (4, 9), generator=torch.Generator().manual_seed(5))


def merged(base: LoadedModel, mixture: Mixture, ids: Tensor) -> Tensor:
    with WeightEditor(base).applied(mixture):
        logits: Tensor = base.model(ids).logits
    return logits.double()


def mixtures(base: LoadedModel) -> list[Mixture]:
    one, two = random_edit(base, seed=1), random_edit(base, seed=2)
    return [[(one, 1.0)], [], [(two, -0.7)], [(one, 0.3), (two, 1.5)]]


@pytest.mark.parametrize("model_type", ["llama", "phi3", "gemma3_text", "olmo2"])
def test_rows_differ_from_their_merged_models_by_no_more_than_rounding(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    base, exact = load_pico(model_type), load_pico(model_type, load_dtype="float64")
    own = mixtures(base)
    with SidePath(base).rows(own):
        side = base.model(IDS).logits.double()
    for row, mixture in enumerate(own):
        ids = IDS[row : row + 1]
        truth = merged(exact, mixture, ids)
        rounding = (merged(base, mixture, ids) - truth).abs().max()
        assert (side[row] - truth).abs().max() <= 3 * rounding
        if mixture:
            assert (truth - merged(exact, [], ids)).abs().max() > 0.1


def test_a_row_without_edits_is_the_base_model_to_the_bit(pico: LoadedModel) -> None:
    plain = pico.model(IDS).logits
    with SidePath(pico).rows(mixtures(pico)):
        assert torch.equal(pico.model(IDS).logits[1], plain[1])


def test_afterwards_nothing_is_left_of_it(pico: LoadedModel) -> None:
    plain = pico.model(IDS).logits
    with SidePath(pico).rows(mixtures(pico)):
        assert not torch.equal(pico.model(IDS).logits, plain)
    assert torch.equal(pico.model(IDS).logits, plain)


def test_one_change_under_two_names_adds_up(pico: LoadedModel) -> None:
    """Such as an edit and its reproduction, whose terms are equal to the bit."""
    edit, again = random_edit(pico), random_edit(pico)
    assert [term.digest for term in edit] == [term.digest for term in again]
    truth = merged(pico, [(edit, 1.0)], IDS)
    assert (truth - merged(pico, [(edit, 0.75)], IDS)).abs().max() > 0.01
    for strengths in ((0.5, 0.5), (0.25, 0.75)):
        twice: Mixture = list(zip((edit, again), strengths, strict=True))
        with SidePath(pico).rows([twice]):
            assert torch.allclose(pico.model(IDS).logits.double(), truth, atol=1e-4)
        assert torch.allclose(merged(pico, twice, IDS), truth, atol=1e-4)
        terms = [term for own, strength in twice for term in scaled(own, strength)]
        stored = dump_delta(to_delta(terms, pico.fingerprint, "mixture"))
        one = from_delta(load_delta(stored))
        assert torch.allclose(merged(pico, [(one, 1.0)], IDS), truth, atol=1e-4)


def test_one_mixture_goes_for_any_number_of_rows(pico: LoadedModel) -> None:
    mixture: Mixture = [(random_edit(pico), 1.0)]
    with SidePath(pico).rows([mixture]):
        logits = pico.model(IDS).logits
    assert torch.allclose(logits.double(), merged(pico, mixture, IDS), atol=1e-4)


def test_another_number_of_rows_is_an_error(pico: LoadedModel) -> None:
    with (
        SidePath(pico).rows(mixtures(pico)[:2]),
        pytest.raises(ValueError, match="4 rows, but mixtures for 2"),
    ):
        pico.model(IDS)


def test_bf16_rows_stay_within_the_noise_of_bf16(load_pico: Callable[..., LoadedModel]) -> None:
    base, exact = load_pico(load_dtype="bfloat16"), load_pico(load_dtype="float64")
    mixture: Mixture = [(random_edit(base), 1.0)]
    with SidePath(base).rows([mixture]):
        side = base.model(IDS).logits.double()
    truth = merged(exact, mixture, IDS)
    noise = (base.model(IDS).logits.double() - merged(exact, [], IDS)).abs().mean()
    assert (side - truth).abs().mean() < 3 * noise
    assert (truth - merged(exact, [], IDS)).abs().mean() > 10 * noise


def test_very_short_directions_survive_half_precision(
    load_pico: Callable[..., LoadedModel],
) -> None:
    base = load_pico(load_dtype="float16")
    term = random_term(base, MatrixKey(0, DOWN), seed=0, rows=32)
    plain = base.model(IDS).logits
    short = type(term)(*term.key, term.direction * 1e-7, term.rows, term.coefficients * 1e7)
    with SidePath(base).rows([[([term], 1.0)]]):
        expected = base.model(IDS).logits
    with SidePath(base).rows([[([short], 1.0)]]):
        got = base.model(IDS).logits
    assert (got - expected).abs().max() < 0.05 * (expected - plain).abs().max()


def test_the_shared_expert_has_a_side_path(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico("qwen2_moe")
    edit = random_edit(base, modules=(SHARED_GATE, OUTPUT))
    with SidePath(base).rows([[(edit, 1.0)], [], [(edit, -1.0)], []]):
        logits = base.model(IDS).logits.double()
    for row, strength in ((0, 1.0), (1, 0.0), (2, -1.0)):
        expected = merged(base, [(edit, strength)], IDS[row : row + 1])
        assert torch.allclose(logits[row : row + 1], expected, atol=1e-4)


def test_routed_experts_have_none(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico("mixtral")
    term = random_term(base, MatrixKey(0, GATE, 1), seed=0)
    with pytest.raises(InvalidRequest, match="routed experts"):
        SidePath(base).plan([[([term], 1.0)]])


def test_rows_that_leave_the_batch_take_their_edits_along(pico: LoadedModel) -> None:
    own = mixtures(pico)
    with SidePath(pico).rows(own) as plan:
        every = pico.model(IDS).logits
        plan.select_(torch.tensor([3, 0]))
        some = pico.model(IDS[[3, 0]]).logits
    assert torch.allclose(some, every[[3, 0]], atol=1e-5)


def test_terms_beyond_the_bound_are_made_again_and_those_in_use_kept(
    pico: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_path, "_CACHED_BYTES", 0)
    ids = torch.arange(4, 20)[None]
    edits = [random_edit(pico, seed=seed) for seed in range(2)]
    bounded = SidePath(pico)

    def logits(path: SidePath, number: int) -> Tensor:
        with path.rows([[(edits[number], 1.0)]]):
            return pico.model(ids).logits

    for number in (0, 1, 0):
        assert torch.equal(logits(bounded, number), logits(SidePath(pico), number))
        assert bounded._pieces.keys() == {term.digest for term in edits[number]}
