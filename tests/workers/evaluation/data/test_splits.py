from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import CompletionItem, Item, TextItem, prompt_of, text_of
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.data.splits import (
    PreservedSplit,
    Sides,
    Splits,
    beginnings,
    enough_preserved,
    made_prompts,
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


def test_prompts_go_where_they_say_and_the_others_by_template() -> None:
    prompts = [
        {"text": f"prompt {t} {i}", "template": f"t{t}"} for t in range(20) for i in range(5)
    ]
    prompts.append({"text": "for validation", "split": "validate"})
    prompts.append({"text": "for testing", "split": "test"})
    splits = split_behavior(behavior(prompts=prompts), seed=5)
    validate, test = {p.template for p in splits.validate}, {p.template for p in splits.test}
    assert not (validate & test) - {None}
    assert "for validation" in [p.text for p in splits.validate]
    assert "for testing" in [p.text for p in splits.test]
    assert 25 <= len(splits.validate) <= 34
    assert len(splits.validate) + len(splits.test) == 102


def test_prompts_of_a_template_follow_the_one_that_names_a_split() -> None:
    prompts = [
        {
            "text": f"prompt {t} {i}",
            "template": f"t{t}",
            "split": None if i else ("validate" if t % 2 else "test"),
        }
        for t in range(20)
        for i in range(5)
    ]
    splits = split_behavior(behavior(prompts=prompts), seed=0)
    assert {p.template for p in splits.validate} == {f"t{t}" for t in range(1, 20, 2)}
    assert {p.template for p in splits.test} == {f"t{t}" for t in range(0, 20, 2)}


def test_the_first_prompts_are_of_all_templates() -> None:
    prompts = [
        {"text": f"prompt {t} {i}", "template": f"t{t}", "split": "test"}
        for t in range(12)
        for i in range(5)
    ]
    test = split_behavior(behavior(prompts=[*prompts, "alone"]), seed=0).test
    every = {f"t{t}" for t in range(12)}
    assert {p.template for p in test[:13]} == {None, *every}
    assert {p.template for p in test[13:25]} == every
    assert len(test) == 61


def test_a_prompt_that_repeats_what_was_said_earlier_in_a_conversation_is_dropped() -> None:
    asked = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    system = "you are a helper who says kind things about people and animals and all else"
    talk = {
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "No."},
        ]
    }
    given = [asked, system, *(f"prompt number {i}" for i in range(9))]
    made = behavior(undesired=[*sentences("cruel", 40), talk], prompts=given)
    splits = split_behavior(made, seed=0)
    left = {prompt.text for prompt in (*splits.validate, *splits.test)}
    assert left == set(given) - {asked}


def test_a_prompt_that_repeats_a_text_is_dropped_and_counted() -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    made = behavior(
        undesired=[*sentences("cruel", 40), long],
        prompts=[f"Well, {long}, and", *(f"prompt number {i}" for i in range(9))],
    )
    splits = split_behavior(made, seed=0)
    assert splits.prompts_dropped == 1
    assert len(splits.validate) + len(splits.test) == 9


def test_missing_prompts_are_made_from_heldout_texts_and_marked() -> None:
    splits = split_behavior(behavior(), seed=0)
    heldout = [*_texts(splits.heldout.undesired), *_texts(splits.heldout.desired)]
    assert splits.prompts_made
    assert splits.test
    for prompt in (*splits.validate, *splits.test):
        assert any(text.startswith(prompt.text) and text != prompt.text for text in heldout)


def test_made_prompts_are_the_first_third_of_a_text_two_to_eight_words() -> None:
    words = [f"w{number}" for number in range(40)]
    lengths = (1, 3, 7, 9, 26, 40)
    texts = tuple(TextItem(text=" ".join([f"x{n}", *words[1:n]])) for n in lengths)
    made = [prompt.text.split() for prompt in made_prompts(Sides(texts, texts[:2]))]
    assert [len(one) for one in made] == [1, 2, 2, 3, 8, 8]
    begun = [prompt.text.split() for prompt in beginnings(Sides(texts, ()))]
    assert [len(one) for one in begun] == [1, 3, 7, 8, 8, 8]


@pytest.mark.parametrize(("count", "validate"), [(4, 0), (5, 1), (59, 11), (60, 20), (62, 20)])
def test_a_third_of_many_prompts_and_a_fifth_of_few_validate(count: int, validate: int) -> None:
    splits = split_behavior(behavior(prompts=[f"prompt {i}" for i in range(count)]), seed=0)
    assert (len(splits.validate), len(splits.test)) == (validate, count - validate)


def test_a_template_that_has_no_room_is_tested_on_and_smaller_ones_validate() -> None:
    large = [{"text": f"large {i}", "template": "large"} for i in range(8)]
    splits = split_behavior(behavior(prompts=[*large, *(f"p {i}" for i in range(12))]), seed=0)
    assert len(splits.validate) == 4
    assert {prompt.template for prompt in splits.validate} == {None}
    small = [{"text": f"t{t} {i}", "template": f"t{t}"} for t in range(5) for i in range(4)]
    splits = split_behavior(behavior(prompts=small), seed=0)
    # One template of four fills the room of a fifth to the last place.
    assert len(splits.validate) == 4
    assert len({prompt.template for prompt in splits.validate}) == 1


def test_thirteen_words_in_a_row_repeat_a_text_and_twelve_do_not() -> None:
    words = [f"word{i}" for i in range(20)]
    made = behavior(
        undesired=[*sentences("cruel", 40), " ".join(words)],
        prompts=[" ".join(words[:13]), " ".join(["so", *words[:12]]), "other", "another", "one"],
    )
    splits = split_behavior(made, seed=0)
    left = {prompt.text for prompt in (*splits.validate, *splits.test)}
    assert " ".join(words[:13]) not in left
    assert len(left) == 4
    assert splits.prompts_dropped == 1


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


@pytest.mark.parametrize(("answers", "together"), [(12, True), (13, False), (16, False)])
def test_answers_to_one_prompt_are_divided_where_they_are_more_than_are_held_out(
    answers: int, together: bool
) -> None:
    asked = ["Go on."] * answers + [f"What of number {i}?" for i in range(40 - answers)]
    others = [f"And of number {i}?" for i in range(40)]
    splits = split_behavior(_of_answers(asked, others), seed=0)
    parts = [_asked(part) for part in (splits.fit, splits.scorer, splits.heldout)]
    assert (sum("go on." in part for part in parts) == 1) is together


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


def test_prompts_without_a_template_come_among_the_first_of_each_template() -> None:
    prompts = [{"text": f"prompt {i}", "template": f"t{i}", "split": "test"} for i in range(12)]
    alone = [{"text": f"alone {i}", "split": "test"} for i in range(12)]
    test = split_behavior(behavior(prompts=[*prompts, *alone]), seed=0).test
    assert 0 < sum(prompt.template is None for prompt in test[:12]) < 12


def test_made_prompts_of_answers_are_what_they_answer() -> None:
    def answers(side: str) -> list[dict[str, str]]:
        return [
            {"prompt": f"Question {side} {i}?", "completion": text}
            for i, text in enumerate(sentences(side, 30))
        ]

    made = Behavior.model_validate(
        {"name": "x", "undesired": answers("cruel"), "desired": answers("kind")}
    )
    splits = split_behavior(made, seed=0)
    assert all(prompt.text.startswith("Question") for prompt in splits.test)


def test_prompts_for_validation_only_are_refused() -> None:
    prompts = [{"text": f"prompt {i}", "split": "validate"} for i in range(5)]
    with pytest.raises(InvalidRequest, match="left to test on: 5 given, 0 of them") as caught:
        split_behavior(behavior(prompts=prompts), seed=0)
    assert "5 are for validation" in caught.value.message
    assert caught.value.errors[0].pointer == "/behavior/prompts"


def _answers(side: str, asked: Sequence[str]) -> list[dict[str, str]]:
    texts = sentences(side, len(asked))
    return [
        {"prompt": prompt, "completion": text} for prompt, text in zip(asked, texts, strict=True)
    ]


def _of_answers(undesired: Sequence[str], desired: Sequence[str]) -> Behavior:
    """Without prompts; what the texts of both sides answer is given."""
    return Behavior.model_validate(
        {
            "name": "x",
            "undesired": _answers("cruel", undesired),
            "desired": _answers("kind", desired),
        }
    )


def _asked(sides: Sides) -> set[str]:
    return {prompt_of(item).casefold() for item in sides.items}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_answers_to_one_prompt_share_a_part_and_the_test_does_not_repeat_it(seed: int) -> None:
    asked = [f"What of number {i}?" for i in range(40)]
    splits = split_behavior(_of_answers(asked, [text.upper() for text in asked]), seed)
    fit, scorer, heldout = map(_asked, (splits.fit, splits.scorer, splits.heldout))
    assert len(fit) + len(scorer) + len(heldout) == 40
    tested = {prompt.text.casefold() for prompt in (*splits.validate, *splits.test)}
    assert tested
    assert tested <= heldout
    assert splits.prompts_dropped == 0
    assert not splits.clusters_broken


def test_where_most_texts_answer_one_prompt_they_are_divided_and_it_is_not_tested_on() -> None:
    asked = ["Go on."] * 50 + [f"What of number {i}?" for i in range(10)]
    splits = split_behavior(_of_answers(asked, asked), seed=0)
    assert "go on." in _asked(splits.fit) & _asked(splits.heldout)
    tested = {prompt.text.casefold() for prompt in (*splits.validate, *splits.test)}
    assert "what of" in " ".join(tested)
    assert not tested & (_asked(splits.fit) | _asked(splits.scorer))
    assert splits.prompts_dropped == 1


def test_a_made_prompt_that_only_texts_of_the_scorers_answer_is_dropped() -> None:
    # Texts go by pairs, the largest to the part that lacks most: fit, then scorer, then held out.
    # More texts answer "Go on." than are held out in all, so it does not keep them together.
    pairs = ["a"] * 12 + ["b"] * 7 + ["c"] * 5 + [None] * 16
    prompts = (
        [f"Number {i}?" for i in range(12)] + ["Go on."] * 12 + [f"And {i}?" for i in range(16)]
    )
    sides = {
        side: [
            {"prompt": prompt, "completion": text, "pair_id": pair}
            for prompt, text, pair in zip(prompts, sentences(mood, 40), pairs, strict=True)
        ]
        for side, mood in (("undesired", "cruel"), ("desired", "kind"))
    }
    splits = split_behavior(Behavior.model_validate({"name": "x", **sides}), seed=0)
    fit, scorer, heldout = map(_asked, (splits.fit, splits.scorer, splits.heldout))
    assert "go on." in scorer & heldout
    assert "go on." not in fit
    assert splits.prompts_dropped == 1
    assert "Go on." not in {prompt.text for prompt in (*splits.validate, *splits.test)}


def test_one_prompt_for_all_texts_leaves_none_to_test_on() -> None:
    with pytest.raises(InvalidRequest, match="1 made of held-out texts, 1 of them repeat the pro"):
        split_behavior(_of_answers(["Go on."] * 40, ["Go on."] * 40), seed=0)


def test_a_made_prompt_that_shares_13_words_with_a_fitted_text_is_dropped() -> None:
    shared = "we would all like to know at once what the honest truth about this is so tell us of"
    asked = [f"{place} {shared}" for place in sentences("kind", 40, seed=9)]
    other = [f"Question {i}?" for i in range(40)]
    splits = split_behavior(_of_answers(asked, other), seed=0)
    assert splits.prompts_dropped > 0
    assert all(shared not in prompt.text for prompt in (*splits.validate, *splits.test))


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
