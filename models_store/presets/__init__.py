"""The built-in behaviours; neutral texts, one set to make edits with, another to report on; and
basics that every edit is tried on.

A preset is a folder of `behavior.json`, `undesired.jsonl`, `desired.jsonl` and `prompts.jsonl`. The
inverse of another preset has `inverse_of` in place of the two text files. `labelled.jsonl` has
generations that were read, and labelled by what they show: scorers are compared with that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from models_store.schemas.base import FrozenModel
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
def inverse_of(name: str) -> str | None:
    """The preset with the sides of another one swapped, if there is one."""
    heads = {
        one: json.loads((_FOLDER / one / "behavior.json").read_text(encoding="utf-8"))
        for one in preset_names()
    }
    inverses = {one: head["inverse_of"] for one, head in heads.items() if "inverse_of" in head}
    return {**inverses, **{other: one for one, other in inverses.items()}}.get(name)


class LabelledText(FrozenModel):
    """A generation that was read."""

    prompt: str
    text: str
    undesired: bool | None
    """None where a careful reader could not tell."""


@cache
def labelled_texts(name: str) -> tuple[LabelledText, ...]:
    """Generations that were read for a preset."""
    return tuple(map(LabelledText.model_validate, _lines(name, "labelled")))


def preset_of(behavior: Behavior) -> str | None:
    """The preset that has the name and the texts of a behaviour, if there is one."""
    if behavior.name not in preset_names():
        return None
    preset = load_preset(behavior.name)
    same = (behavior.undesired, behavior.desired) == (preset.undesired, preset.desired)
    return behavior.name if same else None


@cache
def neutral_texts() -> tuple[tuple[TextItem, ...], tuple[CompletionItem, ...]]:
    """Plain texts, and questions with responses, that no edit is meant to change."""
    return (
        tuple(TextItem(text=line["text"]) for line in _lines("_neutral", "plain")),
        tuple(CompletionItem.model_validate(line) for line in _lines("_neutral", "chat")),
    )


def neutral_words() -> Iterator[str]:
    """Words of neutral texts without an end, in place of texts that are still to be made."""
    return cycle(word for text in neutral_texts()[0] for word in text.text.split())


class NeutralText(TextItem):
    """A plain text of a kind, such as `code`."""

    kind: str


@cache
def calibration_texts() -> tuple[tuple[NeutralText, ...], tuple[CompletionItem | ChatItem, ...]]:
    """Neutral texts that edits are scaled and chosen on, of the kinds of `reporting_texts`.

    Nothing may be fitted on them: what an edit is fitted to leave alone it changes less than other
    text. The kinds of the plain ones take turns, so that the first few hold as much of one as of
    another.
    """
    return _of_kinds("_calibration")


@cache
def reporting_texts() -> tuple[tuple[NeutralText, ...], tuple[CompletionItem | ChatItem, ...]]:
    """The same for what damage is reported on. Nothing may be fitted, scaled or chosen on them."""
    return _of_kinds("_reporting")


def _of_kinds(
    folder: str,
) -> tuple[tuple[NeutralText, ...], tuple[CompletionItem | ChatItem, ...]]:
    return (
        tuple(NeutralText.model_validate(line) for line in _lines(folder, "plain")),
        tuple(map(_conversation.validate_python, _lines(folder, "chat"))),
    )


class BasicQuestion(FrozenModel):
    """An easy question with choices, of a kind such as `arithmetic`."""

    kind: str
    question: str
    choices: tuple[str, ...]
    answer: int
    """Index of the right choice."""


class StructuredRequest(FrozenModel):
    """A request that is to be answered with JSON, or with the call of a function."""

    kind: Literal["json", "tool_call"]
    prompt: str
    keys: tuple[str, ...]
    """That the object, or the arguments of the call, must have."""
    name: str | None = None
    """Of the function."""


@cache
def basic_questions() -> tuple[BasicQuestion, ...]:
    """What a model should know after an edit as before; the kinds take turns."""
    return tuple(map(BasicQuestion.model_validate, _lines("_basics", "questions")))


@cache
def structured_requests() -> tuple[StructuredRequest, ...]:
    """What programs ask models for."""
    return tuple(map(StructuredRequest.model_validate, _lines("_basics", "structured")))


def _lines(name: str, part: str) -> list[dict[str, Any]]:
    text = (_FOLDER / name / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
