"""Texts that show a behaviour, in the three forms that a request may give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

MAX_TEXT_CHARACTERS = 20_000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
PairId = Annotated[str, Field(min_length=1, max_length=100)] | None


class Message(_Part):
    role: Literal["system", "user", "assistant"]
    content: Text


class TextItem(_Part):
    """A plain text, all of which counts."""

    text: Text
    pair_id: PairId = None


class CompletionItem(_Part):
    """A user's prompt and an answer to it; only the answer counts."""

    prompt: Text
    completion: Text
    pair_id: PairId = None


class ChatItem(_Part):
    """A conversation that ends with the assistant, whose last message counts."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=100)]
    pair_id: PairId = None


def _from_string(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _form_of(value: Any) -> str:
    """Which of its forms an item is meant to have, so that a mistake is named in that one alone."""
    names = value if isinstance(value, dict) else getattr(value, "__dict__", ())
    if "messages" in names:
        return "ChatItem"
    return "CompletionItem" if "completion" in names or "prompt" in names else "TextItem"


Item = Annotated[
    Annotated[
        TextItem,
        BeforeValidator(_from_string, json_schema_input_type=Text | TextItem),
        Tag("TextItem"),
    ]
    | Annotated[CompletionItem, Tag("CompletionItem")]
    | Annotated[ChatItem, Tag("ChatItem")],
    Discriminator(_form_of),
]
"""A string is a plain text. `pair_id` joins items, such as two answers to one prompt, that must
share a split."""


class Prompt(_Part):
    """A prompt that elicits the behaviour; the model continues it."""

    text: Text
    template: Annotated[str, Field(max_length=100)] | None = None
    """The template it was made from: prompts of one template share a split."""
    split: Literal["validate", "test"] | None = None
    undesired_answer: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The answer that shows the behaviour, such as `Yes`: for the scorer `answer-match`."""


PromptItem = Annotated[Prompt, BeforeValidator(_from_string, json_schema_input_type=Text | Prompt)]


def text_of(item: Item) -> str:
    """What counts of an item, as plain text: for scorers, checks and de-duplication."""
    match item:
        case TextItem():
            return item.text
        case CompletionItem():
            return item.completion
        case ChatItem():
            return item.messages[-1].content


def has_answers(items: Iterable[Item]) -> bool:
    """Whether some of the items are answers to prompts."""
    return any(map(prompt_of, items))


def prompt_of(item: Item) -> str:
    """What the text answers; empty for a plain text."""
    match item:
        case TextItem():
            return ""
        case CompletionItem():
            return item.prompt
        case ChatItem():
            asked = [message for message in item.messages[:-1] if message.role == "user"]
            return asked[-1].content if asked else ""
