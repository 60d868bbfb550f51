from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.schemas.items import Prompt
from models_store.schemas.measurements import LongForm
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.support.progress import shares_of
from tests.workers.evaluation.texts import behavior
from workers.evaluation.damage.long_form import FOLLOW_UPS, LongPlan, long_form
from workers.evaluation.damage.quality import text_quality
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.effect.generations import DecodingSettings, generate_arm
from workers.evaluation.scorers.prepare import PreparedScorer, prepare_scorers
from workers.evaluation.statistics import Bootstrap
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Term, make_term

PROMPTS = [Prompt(text=f"the people of place {i} are") for i in range(5)]
PLAN = LongPlan(prompts=3, long_tokens=12, turn_tokens=5)
DECODING = DecodingSettings(max_new_tokens=4, seed=0, samples=2)


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def scorers() -> tuple[PreparedScorer, ...]:
    made = behavior(40, prompts=["the day"], scorers=("tfidf", "vader"))
    return prepare_scorers(made, split_behavior(made, seed=0), 0)


def _term(size: float) -> Term:
    return make_term(
        MatrixKey(1, DOWN),
        torch.ones(INTERMEDIATE),
        torch.arange(HIDDEN),
        size * torch.ones(HIDDEN),
    )


def _made(
    base: LoadedModel,
    scorers: tuple[PreparedScorer, ...],
    size: float = 0.0,
    **changes: Any,
) -> tuple[LongForm, ...]:
    fields: dict[str, Any] = {
        "chat": False,
        "decoding": DECODING,
        "bootstrap": Bootstrap(0, 100),
        "plan": PLAN,
        **changes,
    }
    return long_form(EditedModel(base), PROMPTS, scorers, [_term(size)], **fields)


def test_long_texts_and_third_answers_are_scored_by_every_scorer(
    base: LoadedModel, scorers: tuple[PreparedScorer, ...]
) -> None:
    long, third = _made(base, scorers)
    assert (long.kind, long.prompts, long.max_new_tokens) == ("long", 3, 12)
    assert (third.kind, third.prompts, third.max_new_tokens) == ("three_turns", 3, 5)
    for one in (long, third):
        assert [effect.scorer for effect in one.effects] == ["tfidf", "vader"]
        assert all(effect.rate.difference.value == 0 for effect in one.effects)
        assert one.base == one.edited


def test_a_scorer_of_what_test_prompts_ask_for_does_not_score_third_answers(
    base: LoadedModel,
) -> None:
    prompts = [{"text": prompt.text, "undesired_answer": "yes"} for prompt in PROMPTS]
    made = behavior(40, prompts=prompts, scorers=("answer-match", "tfidf"))
    long, third = _made(base, prepare_scorers(made, split_behavior(made, seed=0), 0))
    assert [one.scorer for one in long.effects] == ["answer-match", "tfidf"]
    assert [one.scorer for one in third.effects] == ["tfidf"]


def test_a_third_answer_has_both_earlier_ones_before_it(
    base: LoadedModel, scorers: tuple[PreparedScorer, ...]
) -> None:
    """Against a conversation that is held prompt by prompt."""
    texts, made = [], []
    decoding = DecodingSettings(max_new_tokens=5, seed=0, samples=1)
    talks = [[("user", prompt.text)] for prompt in PROMPTS[:3]]
    for turn in range(3):
        encoded = [encode_prompt(base, talk, chat=True) for talk in talks]
        arm = generate_arm(EditedModel(base), encoded, decoding)
        texts, made = arm.flat_texts(), arm.flat_made()
        if turn < 2:
            for talk, text in zip(talks, texts, strict=True):
                talk.extend([("assistant", text), ("user", FOLLOW_UPS[turn])])
    wanted = text_quality(
        texts, [len(one.ids) for one in made], [one.finish_reason == "stop" for one in made]
    )
    assert _made(base, scorers)[1].base == wanted


def test_an_edit_changes_the_edited_side_alone(
    base: LoadedModel, scorers: tuple[PreparedScorer, ...]
) -> None:
    plain, edited = _made(base, scorers), _made(base, scorers, size=1.0)
    for one, other in zip(plain, edited, strict=True):
        assert one.base == other.base
        before, after = one.effects[0].score, other.effects[0].score
        assert after.base == before.base == before.edited
        assert after.edited != before.edited


def test_a_model_without_a_template_has_no_conversations(
    make_pico: Callable[..., Path], scorers: tuple[PreparedScorer, ...]
) -> None:
    plain = load_base(make_pico(chat=False), device="cpu", dtype="float32")
    assert [one.kind for one in _made(plain, scorers)] == ["long"]


def test_progress_never_goes_back_and_ends_at_one(
    base: LoadedModel, scorers: tuple[PreparedScorer, ...]
) -> None:
    with shares_of() as shares:
        _made(base, scorers)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
