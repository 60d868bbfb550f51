"""Neutral texts that edits are scaled on, and that damage is reported on, are in no other set."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models_store import presets
from models_store.schemas.items import ChatItem, prompt_of, text_of

RUN = 13
FILES = sorted(Path(presets.__file__).parent.glob("*/*.jsonl"))
SETS = {"_calibration": presets.calibration_texts, "_reporting": presets.reporting_texts}
APART = pytest.mark.parametrize("apart", SETS)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _runs(files: list[Path]) -> set[tuple[str, ...]]:
    """All runs of 13 words; a character that is written without spaces is a word."""
    runs = set()
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            for text in _texts(json.loads(line)):
                words = re.findall(r"[\u3040-\u9fff]|\w+", text.casefold())
                runs |= {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
    return runs


@APART
def test_no_such_text_shares_thirteen_words_in_a_row_with_another_set(apart: str) -> None:
    here = [file for file in FILES if file.parent.name == apart]
    others = [file for file in FILES if file not in here]
    assert len(here) == 2
    assert {"_neutral", "negativity", "refusal"} <= {file.parent.name for file in others}
    assert len(_runs(here)) > 3_000
    assert _runs(here).isdisjoint(_runs(others))


def test_no_question_is_in_two_sets() -> None:
    sets = [
        presets.neutral_texts()[1],
        presets.calibration_texts()[1],
        presets.reporting_texts()[1],
    ]
    questions = [prompt_of(item).casefold() for items in sets for item in items]
    assert len(set(questions)) == len(questions)


@APART
def test_the_kinds_take_turns(apart: str) -> None:
    kinds = [item.kind for item in SETS[apart]()[0]]
    turn = list(dict.fromkeys(kinds))
    assert len(turn) == 11
    assert kinds == turn * (len(kinds) // len(turn))
    assert Counter(kinds)["code"] >= 8


def test_edits_are_scaled_on_the_kinds_that_are_reported_on() -> None:
    calibration, reporting = (SETS[name]()[0] for name in sorted(SETS))
    assert [item.kind for item in calibration[:44]] == [item.kind for item in reporting[:44]]


@pytest.mark.parametrize(
    ("apart", "plain", "chat"), [("_calibration", 44, 44), ("_reporting", 88, 88)]
)
def test_there_are_as_many_as_are_measured(apart: str, plain: int, chat: int) -> None:
    """All different; some answers come after several messages."""
    texts, answers = SETS[apart]()
    assert len({text_of(item) for item in texts}) == len(texts) >= plain
    assert len({text_of(item) for item in answers}) == len(answers) >= chat
    assert sum(isinstance(item, ChatItem) for item in answers) >= chat // 11


def test_texts_that_are_reported_on_are_long_enough_to_be_cut() -> None:
    assert min(len(text_of(item)) for item in presets.reporting_texts()[0]) >= 140
