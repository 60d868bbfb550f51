"""The neutral texts that damage is reported on have nothing in common with any others."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models_store import presets
from models_store.schemas.items import ChatItem, prompt_of, text_of

RUN = 13
FILES = sorted(Path(presets.__file__).parent.glob("*/*.jsonl"))
PLAIN, CHAT = presets.reporting_texts()


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


def test_no_reported_text_shares_thirteen_words_in_a_row_with_another_set() -> None:
    reported = [file for file in FILES if file.parent.name == "_reporting"]
    others = [file for file in FILES if file not in reported]
    assert len(reported) == 2
    assert {"_neutral", "negativity", "refusal"} <= {file.parent.name for file in others}
    assert len(_runs(reported)) > 10_000
    assert _runs(reported).isdisjoint(_runs(others))


def test_no_question_is_in_both_sets() -> None:
    others = {item.prompt.casefold() for item in presets.neutral_texts()[1]}
    assert others.isdisjoint(prompt_of(item).casefold() for item in CHAT)


def test_the_kinds_of_reported_text_take_turns() -> None:
    kinds = [item.kind for item in PLAIN]
    turn = list(dict.fromkeys(kinds))
    assert len(turn) == 11
    assert kinds == turn * (len(kinds) // len(turn))
    assert Counter(kinds)["code"] >= 8


def test_there_are_as_many_reported_texts_as_a_receipt_can_rest_on() -> None:
    """88 of each, all different, and long enough to be cut."""
    for items in (PLAIN, CHAT):
        assert len({text_of(item) for item in items}) == len(items) >= 88
    assert min(len(text_of(item)) for item in PLAIN) >= 140
    assert sum(isinstance(item, ChatItem) for item in CHAT) >= 8
