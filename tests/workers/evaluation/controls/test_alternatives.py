from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.items import TextItem, text_of
from models_store.weights.architectures import DOWN, OUTPUT
from tests.support.pico import EXPERTS, HIDDEN, LAYERS
from tests.workers.evaluation.texts import behavior
from workers.evaluation.controls.alternatives import ablation_terms, prompt_wordings
from workers.evaluation.data.splits import split_behavior
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _direction() -> Tensor:
    return 7 * torch.randn(HIDDEN, generator=torch.Generator().manual_seed(3))


def test_ablation_takes_the_direction_out_of_all_that_is_written(base: LoadedModel) -> None:
    terms = ablation_terms(base, _direction())
    keys = list(base.architecture.matrices(OUTPUT, DOWN))
    assert [term.key for term in terms] == keys
    assert len(keys) == 2 * LAYERS
    unit = (_direction() / _direction().norm()).double()
    wanted = {}
    for key in keys:
        weight = base.matrix(key).double()
        wanted[key] = weight - torch.outer(unit, unit) @ weight
    with WeightEditor(base).applied([(terms, 1.0)]):
        for key, weight in wanted.items():
            edited = base.matrix(key).double()
            torch.testing.assert_close(edited, weight, atol=1e-6, rtol=1e-5)
            assert float((unit @ edited).abs().max()) < 1e-6


def test_the_length_of_an_ablated_direction_does_not_matter(base: LoadedModel) -> None:
    short, long = (ablation_terms(base, scale * _direction()) for scale in (0.01, 100.0))
    for first, second in zip(short, long, strict=True):
        torch.testing.assert_close(first.direction, second.direction)
        torch.testing.assert_close(first.coefficients, second.coefficients)


def test_ablation_reaches_every_expert(make_pico: Callable[..., Path]) -> None:
    sparse = load_base(make_pico("qwen2_moe"), device="cpu", dtype="float32")
    terms = ablation_terms(sparse, _direction())
    assert len(terms) == LAYERS * (1 + EXPERTS + 1)
    assert {term.expert for term in terms} == {None, *range(EXPERTS)}


@pytest.mark.parametrize(
    "direction",
    [torch.zeros(HIDDEN), torch.full((HIDDEN,), float("nan")), torch.ones(HIDDEN + 1)],
    ids=["zero", "not finite", "too long"],
)
def test_a_direction_that_cannot_be_ablated_is_refused(
    base: LoadedModel, direction: Tensor
) -> None:
    with pytest.raises(InvalidRequest, match="to ablate"):
        ablation_terms(base, direction)


def test_there_are_three_wordings_and_none_shows_what_scorers_learn_from() -> None:
    made = behavior(40, description="Say kinder things.")
    splits = split_behavior(made, seed=0)
    wordings = prompt_wordings(made, splits.fit)
    assert len(set(wordings)) == 3
    assert wordings[0].startswith("Say kinder things.")
    shown = " ".join(wordings)
    fit = [text_of(item) for item in (*splits.fit.desired, *splits.fit.undesired)]
    others = [text_of(item) for part in (splits.scorer, splits.heldout) for item in part.desired]
    assert any(text in shown for text in fit)
    assert not any(text in shown for text in others)


def test_wordings_put_the_question_of_the_behaviour_where_it_has_one() -> None:
    made = behavior(40, question="Is this text cruel?")
    fit = split_behavior(made, seed=0).fit
    told, _, labelled = prompt_wordings(made, fit)
    assert told.endswith("Is this text cruel? The answer must be no.")
    assert f"Is this text cruel? Yes: {text_of(fit.undesired[0])}" in labelled
    assert f"Is this text cruel? No: {text_of(fit.desired[0])}" in labelled
    assert labelled.endswith("Is this text cruel? No:")


def test_wordings_do_without_a_description_and_stay_short() -> None:
    made = behavior(40)
    texts = [TextItem(text=text_of(item) + " and so on" * 100) for item in made.desired]
    long = made.model_copy(update={"desired": tuple(texts)})
    wordings = prompt_wordings(long, split_behavior(long, seed=0).fit)
    assert all(0 < len(wording) < 1000 for wording in wordings)
