"""Prompts: where they come from, which leak, and which count as one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_store.errors import InvalidRequest
from models_store.presets import load_preset, preset_names
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import TextItem, prompt_of
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.data.splits import (
    Sides,
    Splits,
    beginnings,
    made_prompts,
    split_behavior,
)
from workers.evaluation.statistics import groups_of

FITTED = "fitted"


def fitted(*texts: str) -> list[dict[str, str]]:
    """Texts that, where no group of texts is larger, are fitted on: large groups go there first."""
    return [{"text": text, "pair_id": FITTED} for text in texts]


def test_prompts_go_where_they_say_and_the_others_by_template() -> None:
    prompts = [
        {"text": f"prompt {t} {letter}", "template": f"t{t}"}
        for t in range(20)
        for letter in "abcde"
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
            "text": f"prompt {t} {'abcde'[i]}",
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
        {"text": f"prompt {t} {letter}", "template": f"t{t}", "split": "test"}
        for t in range(12)
        for letter in "abcde"
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
        ],
        "pair_id": FITTED,
    }
    given = [asked, system, *(f"prompt number {i}" for i in range(9))]
    made = behavior(undesired=[*sentences("cruel", 40), talk, *fitted("twin")], prompts=given)
    splits = split_behavior(made, seed=0)
    left = {prompt.text for prompt in (*splits.validate, *splits.test)}
    assert left == set(given) - {asked}


def test_a_prompt_that_repeats_a_text_is_dropped_and_counted() -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    made = behavior(
        undesired=[*sentences("cruel", 40), *fitted(long, "twin")],
        prompts=[f"Well, {long}, and", *(f"prompt number {i}" for i in range(9))],
    )
    splits = split_behavior(made, seed=0)
    assert splits.prompts_dropped == 1
    assert len(splits.validate) + len(splits.test) == 9


def test_missing_prompts_are_made_from_heldout_texts_and_marked() -> None:
    splits = split_behavior(behavior(), seed=0)
    heldout = splits.heldout.texts
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
        undesired=[*sentences("cruel", 40), *fitted(" ".join(words), "twin")],
        prompts=[" ".join(words[:13]), " ".join(["so", *words[:12]]), "other", "another", "one"],
    )
    splits = split_behavior(made, seed=0)
    left = {prompt.text for prompt in (*splits.validate, *splits.test)}
    assert " ".join(words[:13]) not in left
    assert len(left) == 4
    assert splits.prompts_dropped == 1


@pytest.mark.parametrize(("answers", "together"), [(12, True), (13, False), (16, False)])
def test_answers_to_one_prompt_are_divided_where_they_are_more_than_are_held_out(
    answers: int, together: bool
) -> None:
    asked = ["Go on."] * answers + [f"What of number {i}?" for i in range(40 - answers)]
    others = [f"And of number {i}?" for i in range(40)]
    splits = split_behavior(_of_answers(asked, others), seed=0)
    parts = [_asked(part) for part in (splits.fit, splits.scorer, splits.heldout)]
    assert (sum("go on." in part for part in parts) == 1) is together


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
    with pytest.raises(InvalidRequest, match=r"left to test on: 5 given; .* texts: 0;") as caught:
        split_behavior(behavior(prompts=prompts), seed=0)
    assert "for validation: 5" in caught.value.message
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
    with pytest.raises(InvalidRequest, match=r"1 made of held-out texts; .* 1 \(1 word for word\)"):
        split_behavior(_of_answers(["Go on."] * 40, ["Go on."] * 40), seed=0)


def test_a_made_prompt_that_shares_13_words_with_a_fitted_text_is_dropped() -> None:
    shared = "we would all like to know at once what the honest truth about this is so tell us of"
    asked = [f"{place} {shared}" for place in sentences("kind", 40, seed=9)]
    other = [f"Question {i}?" for i in range(40)]
    splits = split_behavior(_of_answers(asked, other), seed=0)
    assert splits.prompts_dropped > 0
    assert all(shared not in prompt.text for prompt in (*splits.validate, *splits.test))


def _with_answers(asked: Sequence[str], prompts: Sequence[Any]) -> Behavior:
    """Texts of both sides answer what is asked."""
    return _of_answers(asked, asked).model_copy(
        update={"prompts": Behavior.model_validate({**_ANY, "prompts": prompts}).prompts}
    )


_ANY = {"name": "x", "undesired": ["a"], "desired": ["b"]}
_ASKED = [f"What of number {i}?" for i in range(40)]
_FREE = [f"Tell me of thing {i}" for i in range(10)]


def _left(splits: Splits) -> set[str]:
    return {prompt.text for prompt in (*splits.validate, *splits.test)}


def test_a_given_prompt_is_dropped_unless_only_held_out_texts_answer_it() -> None:
    given = [f"{text.upper()}!" for text in _ASKED]
    splits = split_behavior(_with_answers(_ASKED, [*given, *_FREE]), seed=0)
    heldout = _asked(splits.heldout)
    assert heldout
    assert _left(splits) == {f"{text.upper()}!" for text in heldout} | set(_FREE)
    assert splits.dropped == {"exact": 40 - len(heldout)}


def test_a_given_prompt_that_nearly_repeats_what_fitted_texts_answer_is_dropped() -> None:
    given = [f"So, {text}" for text in _ASKED]
    splits = split_behavior(_with_answers(_ASKED, [*given, *_FREE]), seed=0)
    heldout = _asked(splits.heldout)
    assert _left(splits) == {f"So, {text.capitalize()}" for text in heldout} | set(_FREE)
    assert splits.dropped == {"near": 40 - len(heldout)}


def test_a_given_prompt_that_is_or_nearly_is_a_fitted_text_is_dropped() -> None:
    texts = ["the plumber was here again on Monday", "an early lunch near the old harbour bridge"]
    made = behavior(
        undesired=[*sentences("cruel", 40), *fitted(*texts)],
        prompts=[texts[0].upper(), f"{texts[1]}, so", *_FREE],
    )
    splits = split_behavior(made, seed=0)
    assert _left(splits) == set(_FREE)
    counts = splits.counts()
    assert (counts.dropped_exact, counts.dropped_near, counts.dropped_runs) == (1, 1, 0)


def test_a_prompt_counts_for_the_first_leak_that_it_has() -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    made = behavior(
        undesired=[*sentences("cruel", 40), *fitted(long, "twin")],
        prompts=[long, f"{long} so", f"{long} so we say that this is what it always was", *_FREE],
    )
    counts = split_behavior(made, seed=0).counts()
    assert (counts.dropped_exact, counts.dropped_near, counts.dropped_runs) == (1, 1, 1)
    assert counts.prompts_dropped == 3
    assert counts.validate_prompts + counts.test_prompts == len(_FREE)


def test_where_all_prompts_leak_it_is_told_how_many_how_and_what_to_do() -> None:
    splits = split_behavior(_with_answers(_ASKED, _FREE), seed=0)
    seen = sorted(_asked(splits.fit) | _asked(splits.scorer))
    given = [*seen[:20], *(f"So, {text}" for text in seen[20:25])]
    with pytest.raises(InvalidRequest) as refused:
        split_behavior(_with_answers(_ASKED, given), seed=0)
    said = refused.value.message
    assert "25 given" in said
    assert "25 (20 word for word, 5 nearly)" in said
    assert "Give more prompts" in said
    assert "take those texts out" in said


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_nothing_that_is_tested_on_nearly_was_seen_before(seed: int) -> None:
    """Against the definition: shares of words of all pairs."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choices("abcdefghijk", k=rng.randint(3, 6)))

    def alike(first: str, second: str) -> bool:
        one, two = set(first.split()), set(second.split())
        return len(one & two) >= 0.7 * len(one | two)

    answers = sentences("cruel", 60), sentences("kind", 60)
    sides = [
        [{"prompt": text(), "completion": answer} for answer in of_side] for of_side in answers
    ]
    prompts = [{"text": text(), "template": rng.choice([None, "t", "u"])} for _ in range(30)]
    made = behavior(undesired=sides[0], desired=sides[1], prompts=prompts)
    try:
        splits = split_behavior(made, seed)
    except InvalidRequest as refused:
        assert "no prompt is left" in refused.message  # noqa: PT017
        return
    tested = [prompt.text for prompt in splits.test]
    before = [prompt.text for prompt in splits.validate]
    before += [prompt_of(item) for item in (*splits.fit.items, *splits.scorer.items)]
    assert not [(one, two) for one in tested for two in before if alike(one, two)]
    units = groups_of(splits.test)
    assert all(
        units[i] == units[j]
        for i in range(len(tested))
        for j in range(i)
        if alike(tested[i], tested[j])
    )


def _capitals(*countries: str, **fields: str) -> list[dict[str, str]]:
    return [{"text": f"What is the capital of {name}?", **fields} for name in countries]


def test_prompts_that_nearly_repeat_each_other_share_a_side_and_count_once() -> None:
    near = _capitals("Norway", "Kenya", "Peru")
    texts = {prompt["text"] for prompt in near}
    for seed in range(8):
        splits = split_behavior(behavior(prompts=[*near, *_FREE]), seed)
        sides = [{p.text for p in part} & texts for part in (splits.validate, splits.test)]
        assert sorted(map(len, sides)) == [0, 3]
        assert splits.counts().prompt_clusters == 1
        units = len(set(groups_of((*splits.validate, *splits.test)).tolist()))
        assert units == 1 + len(_FREE)


def test_prompts_with_one_instruction_are_told_apart_by_what_else_they_say() -> None:
    said = sentences("kind", 20, seed=5)
    prompts = [
        f"Is this something that you would ever say: {text}? Why, or why not?" for text in said
    ]
    splits = split_behavior(behavior(prompts=prompts), seed=0)
    assert splits.prompt_clusters == 0
    assert len(splits.validate) == 4
    assert len(set(groups_of(splits.test).tolist())) == 16


def test_templates_that_have_prompts_in_common_become_one() -> None:
    prompts = [
        *_capitals("Norway", template="a"),
        {"text": "Where would I go on a Monday?", "template": "a"},
        *_capitals("Peru", template="b"),
        {"text": "Who wrote this letter to us?", "template": "b"},
        {"text": "How old are most bridges there?", "template": "c"},
        *_FREE,
    ]
    splits = split_behavior(behavior(prompts=prompts), seed=0)
    template = {prompt.text: prompt.template for prompt in (*splits.validate, *splits.test)}
    joined = {template[prompt["text"]] for prompt in prompts[:4]}
    assert len(joined) == 1
    assert template["How old are most bridges there?"] == "c"
    assert {template[text] for text in _FREE} == {None}
    assert splits.prompt_clusters == 1


def test_prompts_that_nearly_repeat_a_tested_one_are_tested_on_too() -> None:
    prompts = [
        *_capitals("Norway", "Kenya", template="a", split="validate"),
        *_capitals("Peru", template="b", split="test"),
        *({"text": text, "split": "validate"} for text in _FREE),
    ]
    for ordered in (prompts, prompts[::-1]):
        splits = split_behavior(behavior(prompts=ordered), seed=0)
        assert len(splits.test) == 3
        assert {prompt.text for prompt in splits.validate} == set(_FREE)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_keeps_all_its_prompts_in_their_splits_and_templates(name: str) -> None:
    preset = load_preset(name)
    for seed in range(3):
        splits = split_behavior(preset, seed)
        assert splits.prompts_dropped == 0
        kept = {prompt.text: prompt for prompt in (*splits.validate, *splits.test)}
        assert kept == {prompt.text: prompt for prompt in preset.prompts}
        assert len(splits.test) == sum(prompt.split == "test" for prompt in preset.prompts)
