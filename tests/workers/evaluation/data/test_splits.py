"""Which texts go into which part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem, Item, TextItem, prompt_of, text_of
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.data.splits import (
    PreservedSplit,
    Sides,
    Splits,
    enough_preserved,
    split_behavior,
    split_preserved,
)


def _texts(items: tuple[Item, ...]) -> list[str]:
    return [text_of(item) for item in items]


def _parts(splits: Splits) -> list[set[str]]:
    sides = (splits.fit, splits.scorer, splits.heldout)
    return [{*_texts(part.undesired), *_texts(part.desired)} for part in sides]


def test_undesired_texts_are_labelled_1_in_the_order_of_the_texts() -> None:
    undesired, desired = TextItem(text="bad"), TextItem(text="good")
    sides = Sides((undesired, undesired), (desired,))
    assert list(zip(sides.texts, sides.labels, strict=True)) == [
        ("bad", 1),
        ("bad", 1),
        ("good", 0),
    ]


def test_every_text_is_in_exactly_one_part_and_shares_are_kept() -> None:
    splits = split_behavior(behavior(100), seed=0)
    fit, scorer, heldout = _parts(splits)
    assert len(fit) + len(scorer) + len(heldout) == 200
    assert fit | scorer | heldout == {*sentences("cruel", 100), *sentences("kind", 100)}
    counts = splits.counts()
    assert abs(counts.fit_undesired - 60) <= 2
    assert abs(counts.scorer_desired - 25) <= 2
    assert abs(counts.heldout_undesired - 15) <= 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_a_pair_is_never_divided(seed: int) -> None:
    undesired = [{"text": t, "pair_id": f"p{i}"} for i, t in enumerate(sentences("cruel", 30))]
    desired = [{"text": t, "pair_id": f"p{i}"} for i, t in enumerate(sentences("kind", 30))]
    splits = split_behavior(behavior(undesired=undesired, desired=desired), seed)
    for part in (splits.fit, splits.scorer, splits.heldout):
        assert {item.pair_id for item in part.undesired} == {item.pair_id for item in part.desired}


def test_near_duplicates_share_a_part() -> None:
    base = sentences("cruel", 30)
    twins = [text + " indeed" for text in base]
    splits = split_behavior(behavior(undesired=base + twins), seed=3)
    for part in _parts(splits):
        assert all(text + " indeed" in part for text in base if text in part)
    assert splits.near_duplicates == 30
    assert not splits.clusters_broken


def test_texts_that_all_repeat_each_other_are_split_and_marked() -> None:
    frame = "the {} at our local station has been doing a lovely job since monday"
    texts = [frame.format(f"person{i}") for i in range(40)]
    splits = split_behavior(behavior(desired=texts), seed=0)
    assert splits.clusters_broken
    assert len(splits.heldout.desired) >= 3


def test_a_pair_id_on_every_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="pair_id"):
        split_behavior(
            behavior(
                undesired=[{"text": t, "pair_id": "x"} for t in sentences("cruel", 40)],
                desired=[{"text": t, "pair_id": "x"} for t in sentences("kind", 40)],
            ),
            seed=0,
        )


def test_the_smallest_behaviour_allowed_can_be_split() -> None:
    counts = split_behavior(behavior(16), seed=0).counts()
    assert counts.heldout_undesired >= 1
    assert counts.heldout_desired >= 1
    assert counts.scorer_undesired >= 2


def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    first, again, other = (split_behavior(behavior(), seed) for seed in (1, 1, 2))
    assert first == again
    assert first.fit != other.fit


def test_texts_keep_their_order_within_a_part() -> None:
    made = behavior()
    order = _texts(made.undesired)
    places = [order.index(text) for text in _texts(split_behavior(made, 0).fit.undesired)]
    assert places == sorted(places)


def test_the_parts_are_three_fifths_a_quarter_and_the_rest() -> None:
    counts = split_behavior(behavior(200), seed=0).counts()
    assert (counts.fit_undesired, counts.fit_desired) == (120, 120)
    assert (counts.scorer_undesired, counts.scorer_desired) == (50, 50)
    assert (counts.heldout_undesired, counts.heldout_desired) == (30, 30)
    assert counts.near_duplicates == 0
    assert not counts.clusters_broken
    assert (counts.prompts_made, counts.prompts_dropped) == (True, 0)
    splits = split_behavior(behavior(200), seed=0)
    assert (counts.validate_prompts, counts.test_prompts) == (
        len(splits.validate),
        len(splits.test),
    )
    assert len(splits.fit) == len(splits.fit.items) == 240
    assert splits.fit.items[:120] == splits.fit.undesired
    assert not splits.fit.has_responses


@pytest.mark.parametrize(("undesired", "desired"), [(200, 100), (100, 200)])
def test_counts_are_told_by_part_and_side(undesired: int, desired: int) -> None:
    made = behavior(undesired=sentences("cruel", undesired), desired=sentences("kind", desired))
    splits = split_behavior(made, seed=0)
    counts = splits.counts()
    parts = {100: (60, 25, 15), 200: (120, 50, 30)}
    assert parts[undesired] == (
        counts.fit_undesired,
        counts.scorer_undesired,
        counts.heldout_undesired,
    )
    assert parts[desired] == (counts.fit_desired, counts.scorer_desired, counts.heldout_desired)
    assert len(splits.heldout) == 45


@pytest.mark.parametrize(("left", "enough"), [(3, True), (2, False)])
def test_a_part_needs_half_of_its_share_of_a_side(left: int, enough: bool) -> None:
    """Of 40 texts 24 are fitted on, 10 are for scorers and 6 held out."""
    texts = sentences("cruel", 40)
    pairs = ["a"] * 24 + ["b"] * (16 - left) + [None] * left
    undesired = [{"text": t, "pair_id": p} for t, p in zip(texts, pairs, strict=True)]
    made = behavior(undesired=undesired)
    if not enough:
        with pytest.raises(InvalidRequest, match="pair_id joins so many"):
            split_behavior(made, seed=0)
        return
    assert len(split_behavior(made, seed=0).heldout.undesired) == left


def test_one_text_of_a_side_of_sixteen_may_be_held_out() -> None:
    texts = sentences("cruel", 16)
    pairs = ["a"] * 10 + ["b"] * 5 + [None]
    undesired = [{"text": t, "pair_id": p} for t, p in zip(texts, pairs, strict=True)]
    counts = split_behavior(behavior(16, undesired=undesired), seed=0).counts()
    assert (counts.fit_undesired, counts.scorer_undesired, counts.heldout_undesired) == (10, 5, 1)


def asked(*prompts: str) -> list[Item]:
    return [CompletionItem(prompt=prompt, completion="yes") for prompt in prompts]


def test_a_quarter_of_the_prompts_to_preserve_is_held_out_whatever_their_order() -> None:
    items = asked(*(f"kind {number % 2}, number {number}" for number in range(40)))
    twice = [*items, *asked(*(f"KIND {number % 2}, number {number}" for number in range(40)))]
    found = split_preserved([*twice, TextItem(text="plain")], seed=0)
    prompts = {prompt_of(item).casefold() for item in found.heldout}
    assert len(prompts) == 10
    assert len(found.heldout) == 20
    assert not prompts & {prompt_of(item).casefold() for item in found.fit}
    assert {prompt[:6] for prompt in prompts} == {"kind 0", "kind 1"}
    assert text_of(found.fit[-1]) == "plain"
    assert split_preserved(twice, seed=1).heldout != split_preserved(twice, seed=0).heldout


def test_few_prompts_to_preserve_are_all_fitted_on() -> None:
    items = [*asked("a", "b", "c"), TextItem(text="d")]
    assert split_preserved(items, seed=0) == PreservedSplit(tuple(items), ())
    assert not enough_preserved([*items, *asked("A")] * 9)
    assert enough_preserved(asked(*(f"prompt {number}" for number in range(16))))
    assert not enough_preserved(asked(*(f"prompt {number}" for number in range(15))))


def test_of_many_items_to_preserve_an_even_spread_is_fitted_on() -> None:
    found = split_preserved(asked(*(f"prompt {number}" for number in range(1000))), seed=0)
    assert len(found.fit) == 300
    assert len(found.heldout) == 100
    numbers = [int(prompt_of(item).split()[1]) for item in (*found.fit, *found.heldout)]
    assert sum(number < 500 for number in numbers) == 200
