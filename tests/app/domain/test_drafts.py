"""Drafted texts: what is asked, and which answers are kept."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from app.domain.behaviors import drafts
from app.domain.behaviors.drafts import DraftBody, Judged, ResponsePair
from models_store.presets import neutral_texts
from models_store.schemas.behaviors import MIN_TEXTS, checked


def body(**changes: object) -> DraftBody:
    fields = {"sentence": "stop hedging", "base_model": "pico", "count": 20, **changes}
    return DraftBody.model_validate(fields)


def pairs(count: int) -> list[ResponsePair]:
    """Hedging against plain answers, no two alike."""
    return [
        ResponsePair(
            f"what is thing {n}?",
            f"perhaps it might possibly be some kind of item{n} though one cannot say",
            f"it is an item{n} made of wood and used for building houses",
        )
        for n in range(count)
    ]


def test_questions_are_neutral_different_and_repeated_by_the_seed() -> None:
    known = {item.prompt for item in neutral_texts()[1]}
    asked = drafts.questions(body(count=60))

    assert len(set(asked)) == 60
    assert set(asked) <= known
    assert asked == drafts.questions(body(count=60))
    assert asked != drafts.questions(body(count=60, seed=1))
    assert len(drafts.questions(body(count=drafts.MAX_COUNT))) == drafts.MAX_COUNT


def test_each_question_is_asked_both_ways() -> None:
    told = drafts.instructions(body(sentence="Say {less}."), ["why?", "how?"])

    assert len(told) == 4
    assert all('"Say {less}"' in one for one in told)
    assert ["opposite" in one for one in told] == [True, False, True, False]
    assert [one.rpartition("Question: ")[2] for one in told] == ["why?", "why?", "how?", "how?"]


@pytest.mark.parametrize("sentence", ["", "  ", "?!", "a" * 301])
def test_a_sentence_that_says_nothing_or_too_much_is_refused(sentence: str) -> None:
    with pytest.raises(ValidationError, match="sentence"):
        body(sentence=sentence)


@pytest.mark.parametrize("count", [MIN_TEXTS - 1, drafts.MAX_COUNT + 1])
def test_the_count_has_bounds(count: int) -> None:
    with pytest.raises(ValidationError, match="count"):
        body(count=count)


@pytest.mark.parametrize(
    ("undesired", "desired", "reason"),
    [
        ("", "a good answer to it", "empty"),
        ("...", "a good answer to it", "empty"),
        ("well no", "a good answer to it", "too_short"),
        ("I will Stop  hedging, as asked of me", "a good answer to it", "mentions_the_sentence"),
        ("the sky is blue at noon", "The sky is blue, at noon.", "near_identical"),
        ("the sky is blue at noon today", "the sky is blue at noon", "near_identical"),
        ("perhaps it may rain a bit", "it rains from now on", None),
    ],
)
def test_a_pair_of_no_use_is_dropped_for_one_reason(
    undesired: str, desired: str, reason: str | None
) -> None:
    made = drafts.pairs_of(["why?"], [f" {undesired}\n", f"Answer: {desired}"])
    kept, dropped = drafts.usable("stop hedging", made)

    assert dict(dropped) == ({} if reason is None else {reason: 1})
    assert kept == ([] if reason is not None else [ResponsePair("why?", undesired, desired)])


def test_words_judge_pairs_that_they_did_not_see() -> None:
    made = pairs(30)
    swapped = [*made[:28], *(ResponsePair(p.question, p.desired, p.undesired) for p in made[28:])]

    judged = drafts.judged_by_words(swapped, seed=0)

    assert judged.wrong == [False] * 28 + [True] * 2
    # Every pair the same on both sides: whatever is learnt of other pairs, none can be told.
    same = drafts.judged_by_words(
        [ResponsePair(p.question, p.desired, p.desired) for p in made], seed=0
    )
    assert same.undesired == same.desired
    assert same.auc == pytest.approx(0.5)


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    judged = Judged((0.5, 2.0, 1.0, 1.0), (0.5, -1.0, 1.0, 0.0))

    expected = roc_auc_score([1] * 4 + [0] * 4, [*judged.undesired, *judged.desired])
    assert judged.auc == pytest.approx(expected)


def test_length_tells_in_either_direction() -> None:
    short = [
        ResponsePair("why?", "because it is so", f"because of many things, {n} in all")
        for n in "ab"
    ]

    assert drafts.judged_by_length(short).auc == 1.0
    assert drafts.judged_by_length(
        [ResponsePair(p.question, p.desired, p.undesired) for p in short]
    ).auc


def test_a_draft_can_be_uploaded_as_it_is() -> None:
    kept = pairs(20)
    made = drafts.draft(
        body(), written_by="pico", chat=True, kept=kept, dropped={}, separability=None
    )

    assert made.behavior is not None
    assert checked(made.behavior) == made.behavior
    assert [item.pair_id for item in made.behavior.desired] == [  # type: ignore[union-attr]
        item.pair_id
        for item in made.behavior.undesired  # type: ignore[union-attr]
    ]
    assert len(made.behavior.prompts) >= 200
    assert (made.asked, made.kept, made.note) == (20, 20, None)
    assert len(made.samples.desired) == drafts.SHOWN
    assert set(made.samples.desired) <= set(made.behavior.desired)


def test_too_few_pairs_make_no_behavior_but_are_shown() -> None:
    made = drafts.draft(
        body(),
        written_by="pico",
        chat=True,
        kept=pairs(3),
        dropped={"too_short": 17},
        separability=None,
    )

    assert made.behavior is None
    assert made.dropped.too_short == 17
    assert len(made.samples.undesired) == 3
    assert "Only 3 of 20 pairs" in (made.note or "")


def test_what_tells_the_sides_apart_is_noted() -> None:
    good, chance = Judged((2.0, 3.0), (0.0, 1.0)), Judged((0.0, 1.0), (0.0, 1.0))

    assert drafts.distinction(good, chance, good).note is None
    assert "Length alone" in (drafts.distinction(good, good, None).note or "")
    assert "hardly separable" in (drafts.distinction(chance, chance, chance).note or "")
    assert drafts.distinction(good, chance, None).probe_auc is None
