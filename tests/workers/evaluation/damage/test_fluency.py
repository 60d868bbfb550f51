"""How likely a reader finds edited text, against a slow sum over pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models_store.schemas.items import ChatItem, CompletionItem, Message, TextItem
from tests.workers.evaluation.arms import all_of, arm_of, numbered, some_texts
from workers.evaluation.damage.fluency import Fluency, answers_of, fluency_of
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.effect.generations import Arm
from workers.evaluation.statistics import Bools, Bootstrap
from workers.runtime.loading import LoadedModel

PROMPTS = numbered(24)
ANSWERS = [(f"who are {i} people", f" they are kind to {i} of us") for i in range(6)]


def _arms(base: LoadedModel) -> tuple[Arm, Arm]:
    before, after = (arm_of(base, PROMPTS, some_texts(24, 2, seed=seed)) for seed in (0, 1))
    return before, after


def _found(
    base: LoadedModel,
    arms: tuple[Arm, Arm],
    desired: tuple[Bools, Bools],
    at_most: int = 100,
    answers: Sequence[tuple[str, str]] = (),
) -> Fluency:
    return fluency_of(
        FluencyReader(base, "pico"),
        PROMPTS,
        arms,
        desired,
        Bootstrap(0, 200),
        chat=False,
        at_most=at_most,
        answers=answers,
    )


def _nats(base: LoadedModel, prompt: str, text: str) -> tuple[float, float]:
    nats, tokens = FluencyReader(base, "").nll([prompt], [text])
    return nats[0], tokens[0]


def _slow_rise(base: LoadedModel, arms: tuple[Arm, Arm], cells: list[tuple[int, int]]) -> float:
    means = []
    for arm in arms:
        nats, tokens = 0.0, 0.0
        for prompt, sample in cells:
            own = _nats(base, PROMPTS[prompt].text, arm.texts[prompt][sample])
            nats, tokens = nats + own[0], tokens + own[1]
        means.append(nats / tokens)
    return means[1] - means[0]


def test_only_pairs_that_are_desired_in_both_arms_are_read(pico: LoadedModel) -> None:
    arms = _arms(pico)
    desired = all_of(arms[0], but=[(0, 0), (3, 1)]), all_of(arms[1], but=[(3, 1), (7, 0)])
    cells = [
        (prompt, sample)
        for prompt in range(24)
        for sample in range(2)
        if (prompt, sample) not in {(0, 0), (3, 1), (7, 0)}
    ]
    found = _found(pico, arms, desired)
    assert found.pairs == 45
    assert found.source == "desired"
    assert found.reader == "pico"
    assert found.rise.value == pytest.approx(_slow_rise(pico, arms, cells), rel=1e-4)
    assert found.rise.low < found.rise.value < found.rise.high


def test_with_few_desired_pairs_all_are_read_and_it_says_so(pico: LoadedModel) -> None:
    arms = _arms(pico)
    none = np.zeros((24, 2), dtype=bool)
    found = _found(pico, arms, (none, none))
    assert (found.source, found.pairs) == ("all", 48)
    every = [(prompt, sample) for prompt in range(24) for sample in range(2)]
    assert found.rise.value == pytest.approx(_slow_rise(pico, arms, every), rel=1e-4)


def test_what_turned_desired_is_compared_with_held_out_answers(pico: LoadedModel) -> None:
    arms = _arms(pico)
    before, after = np.zeros((24, 2), dtype=bool), np.zeros((24, 2), dtype=bool)
    before[:6], after[3:15] = True, True
    found = _found(pico, arms, (before, after), answers=ANSWERS)
    assert (found.source, found.pairs) == ("heldout", 48)
    answered = np.array([_nats(pico, *answer) for answer in ANSWERS]).sum(axis=0)
    rate = answered[0] / answered[1]
    sums = np.zeros(4)
    every = [(prompt, sample) for prompt in range(24) for sample in range(2)]
    for prompt, sample in every:
        own = [_nats(pico, PROMPTS[prompt].text, arm.texts[prompt][sample]) for arm in arms]
        turned = 6 <= prompt < 15
        sums += [*((rate * own[1][1], own[1][1]) if turned else own[0]), *own[1]]
    assert found.rise.value == pytest.approx(sums[2] / sums[3] - sums[0] / sums[1], rel=1e-4)
    assert found.rise.low < found.rise.value < found.rise.high
    assert found.against_base is not None
    assert found.against_base.value == pytest.approx(_slow_rise(pico, arms, every), rel=1e-4)


def test_answers_are_cut_at_a_word_where_the_longest_generation_ends(pico: LoadedModel) -> None:
    arms = _arms(pico)
    desired = np.zeros((24, 2), dtype=bool), all_of(arms[1])
    longest = max(len(text) for own in arms[1].texts for text in own)
    start = " they are kind to us and"
    start += " kind" * ((longest - len(start)) // 5)
    long = [(asked, f"{start} {'never' * 20}") for asked, _ in ANSWERS]
    cut = [(asked, start) for asked, _ in ANSWERS]
    assert len(start) <= longest < len(long[0][1])
    assert _found(pico, arms, desired, answers=long) == _found(pico, arms, desired, answers=cut)


def test_what_became_undesired_counts_as_damage_as_well(pico: LoadedModel) -> None:
    arms = _arms(pico)
    none = np.zeros((24, 2), dtype=bool)
    found = _found(pico, arms, (all_of(arms[0]), none), answers=ANSWERS)
    assert (found.source, found.pairs) == ("all", 48)
    assert found.rise.value != 0


def test_answers_that_are_few_or_cannot_be_read_are_not_compared_with(pico: LoadedModel) -> None:
    arms = _arms(pico)
    desired = np.zeros((24, 2), dtype=bool), all_of(arms[1])
    halves = [(asked, "\ufffd") for asked, _ in ANSWERS]
    for answers in ((), ANSWERS[:4], [*halves, *ANSWERS[:4]]):
        found = _found(pico, arms, desired, answers=answers)
        assert (found.source, found.pairs, found.against_base) == ("all", 48, None)


def test_only_answers_to_a_single_message_are_taken() -> None:
    def chat(*turns: tuple[str, str]) -> ChatItem:
        return ChatItem(messages=tuple(Message(role=r, content=c) for r, c in turns))  # type: ignore[arg-type]

    items = [
        TextItem(text="they are kind"),
        CompletionItem(prompt="who", completion="they"),
        chat(("user", "what"), ("assistant", "it")),
        chat(("system", "be kind"), ("user", "what"), ("assistant", "it")),
        chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
    ]
    assert answers_of(items) == [("who", "they"), ("what", "it")]


def test_answers_do_not_matter_where_enough_pairs_are_desired(pico: LoadedModel) -> None:
    arms = _arms(pico)
    desired = all_of(arms[0]), all_of(arms[1])
    assert _found(pico, arms, desired, answers=ANSWERS) == _found(pico, arms, desired)


def test_no_more_pairs_are_read_than_asked_for_and_of_different_prompts(pico: LoadedModel) -> None:
    arms = _arms(pico)
    found = _found(pico, arms, (all_of(arms[0]), all_of(arms[1])), at_most=24)
    assert found.pairs == 24
    firsts = [(prompt, 0) for prompt in range(24)]
    assert found.rise.value == pytest.approx(_slow_rise(pico, arms, firsts), rel=1e-4)


def test_pairs_with_an_empty_text_are_left_out(pico: LoadedModel) -> None:
    before, _ = _arms(pico)
    silent = arm_of(pico, PROMPTS, [["", ""]] * 24)
    found = _found(pico, (before, silent), (all_of(before), all_of(silent)))
    assert found.pairs == 0
    assert found.rise.value == found.rise.low == found.rise.high == 0


def test_the_same_text_is_as_fluent_as_itself(pico: LoadedModel) -> None:
    before, _ = _arms(pico)
    found = _found(pico, (before, before), (all_of(before), all_of(before)))
    assert found.rise.value == found.rise.low == found.rise.high == 0
