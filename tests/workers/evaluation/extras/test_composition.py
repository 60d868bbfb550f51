from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Prompt
from models_store.schemas.measurements import Trait
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.support.progress import shares_of
from tests.workers.evaluation.texts import behavior
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arm
from workers.evaluation.extras.composition import ComposedTrait, combinations, composition
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.evaluation.statistics import Bootstrap
from workers.runtime.decoding.decode import Generated
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Mixture, Term, make_term

DECODING = DecodingSettings(max_new_tokens=99, seed=0, samples=2)
KIND, CRUEL = "a lovely kind warm helpful day", "an awful rude nasty dreadful day"


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _behavior(name: str, **changes: Any) -> Behavior:
    return behavior(
        40,
        prompts=[f"people of place {i} are" for i in range(12)],
        max_new_tokens=4,
        scorers=("tfidf", "vader"),
    ).model_copy(update={"name": name, **changes})


def _subject(name: str, **changes: Any) -> ComposedTrait:
    made = _behavior(name)
    splits = split_behavior(made, seed=0)
    fields: dict[str, Any] = {
        "models": {},
        "behavior": made,
        "prompts": splits.test,
        "scorers": prepare_scorers(made, splits, 0),
        **changes,
    }
    return ComposedTrait(**fields)


def _term(layer: int, size: float = 0.5) -> Term:
    generator = torch.Generator().manual_seed(layer)
    return make_term(
        MatrixKey(layer, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        size * torch.randn(HIDDEN, generator=generator),
    )


def _composed(
    base: LoadedModel,
    subjects: list[ComposedTrait],
    *,
    parents: Mixture = (),
    size: float = 0.5,
) -> tuple[Trait, ...]:
    edit: Mixture = [([_term(1, size)], 1.0)]
    models = combinations(EditedModel(base, parents), parents, edit)
    return composition(
        [replace(subject, models=models) for subject in subjects],
        decoding=DECODING,
        bootstrap=Bootstrap(0, 200),
    )


def _arm(texts: list[str]) -> Arm:
    made = Generated((1, 2), "stop")
    return Arm([[1]] * len(texts), [[made]] * len(texts), [[text] for text in texts])


def test_both_traits_are_measured_by_each_of_their_scorers(base: LoadedModel) -> None:
    parents = [([_term(0)], 1.0)]
    found = _composed(base, [_subject("new"), _subject("old")], parents=parents)
    assert [(one.behavior, one.scorer) for one in found] == [
        ("new", "tfidf"),
        ("new", "vader"),
        ("old", "tfidf"),
        ("old", "vader"),
    ]
    assert all(one.prompts > 0 for one in found)


def test_the_four_arms_are_what_the_four_models_generate(base: LoadedModel) -> None:
    parents: Mixture = [([_term(0)], 1.0)]
    subject = _subject("new")
    (found, _) = _composed(base, [subject], parents=parents)
    scorer = subject.scorers[0]
    rates = []
    for mixture in ((), parents, [([_term(1)], 1.0)], [*parents, ([_term(1)], 1.0)]):
        arm = generate_arm(
            EditedModel(base, mixture),
            [encode_prompt(base, prompt.text, chat=False) for prompt in subject.prompts],
            DecodingSettings(max_new_tokens=4, seed=0, samples=1),
        )
        scores = scorer.score([prompt.text for prompt in subject.prompts], arm.flat_texts())
        rates.append(float(np.mean(scorer.undesired(scores))))
    assert [found.base, found.parents, found.edit, found.both] == rates
    assert found.interaction.value == pytest.approx((rates[3] - rates[1]) - (rates[2] - rates[0]))


def test_an_edit_that_does_nothing_interferes_with_nothing(base: LoadedModel) -> None:
    parents: Mixture = [([_term(0)], 1.0)]
    for trait in _composed(base, [_subject("new")], parents=parents, size=0.0):
        assert (trait.base, trait.parents) == (trait.edit, trait.both)
        assert trait.interaction.low == trait.interaction.high == 0


def test_edits_that_undo_each_other_show_an_interaction(base: LoadedModel) -> None:
    """Each alone makes all texts kind, both together make them cruel again."""
    prompts = [Prompt(text=f"place {i}") for i in range(8)]
    cruel, kind = _arm([CRUEL] * 8), _arm([KIND] * 8)
    known = {"base": cruel, "parents": kind, "edit": kind, "both": cruel}
    (found, _) = _composed(base, [_subject("new", prompts=prompts, known=known)])
    assert (found.base, found.parents, found.edit, found.both) == (1, 0, 0, 1)
    assert (found.interaction.value, found.interaction.low) == (2, 2)


def test_prompts_of_one_template_are_resampled_together(base: LoadedModel) -> None:
    kinds = [KIND] * 6 + [CRUEL] * 6
    known = {
        "base": _arm([CRUEL] * 12),
        "parents": _arm([CRUEL] * 12),
        "edit": _arm([CRUEL] * 12),
        "both": _arm(kinds),
    }

    def width(template: bool) -> float:
        prompts = [
            Prompt(text=f"place {i}", template=str(i // 6) if template else None) for i in range(12)
        ]
        found = _composed(base, [_subject("new", prompts=prompts, known=known)])[0].interaction
        return found.high - found.low

    assert width(template=True) > width(template=False)


def test_progress_never_goes_back_and_ends_at_one(base: LoadedModel) -> None:
    with shares_of() as shares:
        _composed(base, [_subject("new"), _subject("old")])
    assert shares == sorted(shares)
    assert shares[-1] == 1
