"""How likely a reader finds edited text, against a slow sum over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.arms import all_of, arm_of, numbered, some_texts
from workers.evaluation.fluency import Bools, Fluency, fluency_of
from workers.evaluation.generations import Arm
from workers.evaluation.reader import Reader
from workers.evaluation.statistics import Bootstrap
from workers.runtime.loading import BaseModel

PROMPTS = numbered(24)


def _arms(base: BaseModel) -> tuple[Arm, Arm]:
    before, after = (arm_of(base, PROMPTS, some_texts(24, 2, seed=seed)) for seed in (0, 1))
    return before, after


def _found(
    base: BaseModel, arms: tuple[Arm, Arm], desired: tuple[Bools, Bools], at_most: int = 100
) -> Fluency:
    return fluency_of(
        Reader(base, "pico"),
        PROMPTS,
        arms,
        desired,
        Bootstrap(0, 200),
        chat=False,
        at_most=at_most,
    )


def _slow_rise(base: BaseModel, arms: tuple[Arm, Arm], cells: list[tuple[int, int]]) -> float:
    means = []
    for arm in arms:
        nats, tokens = 0.0, 0.0
        for prompt, sample in cells:
            own = Reader(base, "").nll([PROMPTS[prompt].text], [arm.texts[prompt][sample]])
            nats, tokens = nats + own[0][0], tokens + own[1][0]
        means.append(nats / tokens)
    return means[1] - means[0]


def test_only_pairs_that_are_desired_in_both_arms_are_read(pico: BaseModel) -> None:
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


def test_with_few_desired_pairs_all_are_read_and_it_says_so(pico: BaseModel) -> None:
    arms = _arms(pico)
    none = np.zeros((24, 2), dtype=bool)
    found = _found(pico, arms, (none, none))
    assert (found.source, found.pairs) == ("all", 48)
    every = [(prompt, sample) for prompt in range(24) for sample in range(2)]
    assert found.rise.value == pytest.approx(_slow_rise(pico, arms, every), rel=1e-4)


def test_no_more_pairs_are_read_than_asked_for_and_of_different_prompts(pico: BaseModel) -> None:
    arms = _arms(pico)
    found = _found(pico, arms, (all_of(arms[0]), all_of(arms[1])), at_most=24)
    assert found.pairs == 24
    firsts = [(prompt, 0) for prompt in range(24)]
    assert found.rise.value == pytest.approx(_slow_rise(pico, arms, firsts), rel=1e-4)


def test_pairs_with_an_empty_text_are_left_out(pico: BaseModel) -> None:
    before, _ = _arms(pico)
    silent = arm_of(pico, PROMPTS, [["", ""]] * 24)
    found = _found(pico, (before, silent), (all_of(before), all_of(silent)))
    assert found.pairs == 0
    assert found.rise.value == found.rise.low == found.rise.high == 0


def test_the_same_text_is_as_fluent_as_itself(pico: BaseModel) -> None:
    before, _ = _arms(pico)
    found = _found(pico, (before, before), (all_of(before), all_of(before)))
    assert found.rise.value == found.rise.low == found.rise.high == 0
