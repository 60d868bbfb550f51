"""Texts that show a behaviour, in the three forms that a request may give them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from models_store.schemas.base import DocumentedModel

MAX_TEXT_CHARACTERS = 20_000


Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]
PairId = Annotated[str, Field(min_length=1, max_length=100)] | None


class Message(DocumentedModel):
    role: Literal["system", "user", "assistant"]
    """Who says it."""
    content: Text
    """What is said."""


class TextItem(DocumentedModel):
    """A plain text, which counts as a whole."""

    text: Text
    """The text."""
    pair_id: PairId = None
    """Items of one `pair_id` share a split."""


class CompletionItem(DocumentedModel):
    """A user's prompt and a response; only the response counts."""

    prompt: Text
    """What a user asks."""
    completion: Text
    """The response; it alone counts."""
    pair_id: PairId = None
    """Items of one `pair_id`, such as two responses to one prompt, share a split."""


class ChatItem(DocumentedModel):
    """A conversation that ends with the assistant, whose last message counts."""

    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=100)]
    """The conversation; its last message counts."""
    pair_id: PairId = None
    """Items of one `pair_id` share a split."""


def _from_string(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _form_of(value: Any) -> str:
    """The form that an item is meant to have, so that errors are about that form alone."""
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
"""A string is a plain text. Items with the same `pair_id`, such as two responses to one prompt,
share a split."""


class Prompt(DocumentedModel):
    """A prompt that elicits the behaviour; the model continues it."""

    text: Text
    """What the model continues or answers."""
    template: Annotated[str, Field(max_length=100)] | None = None
    """The template it was made from: prompts of one template share a split."""
    split: Literal["validate", "test"] | None = None
    """What it is for; null: the seed decides."""
    undesired_answer: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The answer that shows the behaviour, such as `Yes`: for the scorer `answer-match`."""


PromptItem = Annotated[Prompt, BeforeValidator(_from_string, json_schema_input_type=Text | Prompt)]


def text_of(item: Item) -> str:
    """The part of an item that counts, as plain text."""
    match item:
        case TextItem():
            return item.text
        case CompletionItem():
            return item.completion
        case ChatItem():
            return item.messages[-1].content


def has_responses(items: Iterable[Item]) -> bool:
    """Whether some of the items are responses to prompts."""
    return any(map(prompt_of, items))


def prompt_of(item: Item) -> str:
    """The prompt that the text responds to; empty for a plain text."""
    match item:
        case TextItem():
            return ""
        case CompletionItem():
            return item.prompt
        case ChatItem():
            from_user = [turn.content for turn in item.messages[:-1] if turn.role == "user"]
            return from_user[-1] if from_user else ""
