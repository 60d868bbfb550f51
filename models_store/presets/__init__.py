"""The built-in behaviours, and neutral texts: one set to make edits with, another to report on.

A preset is a folder of `behavior.json`, `undesired.jsonl`, `desired.jsonl` and `prompts.jsonl`. The
inverse of another preset has `inverse_of` in place of the two text files.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from models_store.schemas.behaviors import Behavior, checked
from models_store.schemas.items import ChatItem, CompletionItem, TextItem

_FOLDER = Path(__file__).parent
_conversation = TypeAdapter[CompletionItem | ChatItem](CompletionItem | ChatItem)


def preset_names() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in _FOLDER.glob("*/behavior.json")))


@cache
def load_preset(name: str) -> Behavior:
    """The preset of that name.

    Raises:
        KeyError: there is none.
    """
    if name not in preset_names():
        raise KeyError(name)
    head = json.loads((_FOLDER / name / "behavior.json").read_text(encoding="utf-8"))
    source, sides = head.pop("inverse_of", None), ("undesired", "desired")
    texts = [_lines(source or name, side) for side in (reversed(sides) if source else sides)]
    return checked(
        Behavior.model_validate(
            {**head, **dict(zip(sides, texts, strict=True)), "prompts": _lines(name, "prompts")}
        )
    )


@cache
def neutral_texts() -> tuple[tuple[TextItem, ...], tuple[CompletionItem, ...]]:
    """Plain texts, and questions with responses, that no edit is meant to change."""
    return (
        tuple(TextItem(text=line["text"]) for line in _lines("_neutral", "plain")),
        tuple(CompletionItem.model_validate(line) for line in _lines("_neutral", "chat")),
    )


class NeutralText(TextItem):
    """A plain text of a kind, such as `code`."""

    kind: str


@cache
def reporting_texts() -> tuple[tuple[NeutralText, ...], tuple[CompletionItem | ChatItem, ...]]:
    """Neutral texts that damage is reported on, written apart from `neutral_texts`.

    Nothing may be fitted, scaled or chosen on them. The kinds of the plain ones take turns, so that
    the first few hold as much of one as of another.
    """
    return (
        tuple(NeutralText.model_validate(line) for line in _lines("_reporting", "plain")),
        tuple(map(_conversation.validate_python, _lines("_reporting", "chat"))),
    )


def _lines(name: str, part: str) -> list[dict[str, Any]]:
    text = (_FOLDER / name / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
