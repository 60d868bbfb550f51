"""Texts to token ids, with a mask of what counts, and batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.items import ChatItem, CompletionItem, Item, TextItem
from workers import progress
from workers.runtime.chat_template import render_chat
from workers.runtime.loading import LoadedModel
from workers.runtime.ranks import ALONE, Ranks

MAX_PROMPT_TOKENS = 512
"""A prompt before a completion keeps its first token and the last ones, so many in all."""

Conversation = Sequence[tuple[str, str]]
"""Role and content of each message."""


@dataclass(frozen=True)
class Encoded:
    """One text as the model reads it."""

    ids: tuple[int, ...]
    scored: tuple[bool, ...]
    """What counts, token by token: all of a plain text, the completion of a pair."""
    prompt_length: int
    """Tokens before the first one that counts."""

    @classmethod
    def response(cls, prompt: Sequence[int], ids: Sequence[int]) -> Encoded:
        """A prompt and what follows it, all of which counts."""
        scored = (False,) * len(prompt) + (True,) * len(ids)
        return cls((*prompt, *ids), scored, len(prompt))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answer_start(self) -> int | None:
        """The token that predicts the first one of a response; None for a plain text, and for a
        response to a prompt of a single token, which is the first of the text."""
        return self.prompt_length - 1 if self.prompt_length > 1 else None

    def start(self, tokens: int | None) -> Encoded:
        """A response with only its first so many tokens; a plain text, and None, cut nothing."""
        if tokens is None or not self.prompt_length:
            return self
        end = self.prompt_length + tokens
        return Encoded(self.ids[:end], self.scored[:end], self.prompt_length)


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts of similar length, filled up on the right.

    Attention is causal, so no real token sees what it is filled up with: no mask is needed, and
    without one attention is faster.
    """

    index: tuple[int, ...]
    """The place of each row among the texts that were batched."""
    ids: Tensor
    """int64 `[rows, length]`."""
    real: Tensor
    """bool `[rows, length]`."""
    scored: Tensor
    """bool `[rows, length]`; a subset of `real`."""

    @property
    def answer_starts(self) -> Tensor:
        """bool `[rows, length]`: the token of each row that `Encoded.answer_start` names."""
        starts = torch.zeros_like(self.scored)
        starts[:, 1:-1] = self.scored[:, 2:] & ~self.scored[:, 1:-1]
        return starts


def encode(
    base: LoadedModel,
    items: Iterable[Item | str],
    *,
    max_tokens: int,
    chat: bool,
    end_of_turn: bool = False,
) -> list[Encoded]:
    """Encode texts for reading (features, gradients, likelihoods).

    A pair or a conversation counts with its completion only. A plain text counts as a whole and
    never passes through the template.

    Args:
        max_tokens: a plain text, or a completion, is cut after so many tokens.
        chat: pairs pass through the chat template, where the model has one; conversations always
            do. Otherwise a pair is its prompt and completion, one after the other.
        end_of_turn: completions of conversations end with the token that ends the turn, so that
            likelihoods cover stopping as well.

    Raises:
        InvalidRequest: a text has no tokens, or a conversation meets a model without a template.
    """
    return [
        _encode_item(base, item, max_tokens=max_tokens, chat=chat, end_of_turn=end_of_turn)
        for item in items
    ]


def encode_prompt(base: LoadedModel, prompt: str | Conversation, *, chat: bool) -> list[int]:
    """Encode a prompt to generate from.

    Args:
        chat: a string becomes a user's message, where the model has a template; a conversation
            always passes through the template.

    Raises:
        InvalidRequest: there are no tokens, or a conversation meets a model without a template.
    """
    if isinstance(prompt, str):
        if not (chat and base.has_chat_template):
            return _require(_ids(base, prompt), prompt)
        prompt = [("user", prompt)]
    return _require(_ids(base, _render(base, prompt), special=False), str(prompt))


def batches(
    texts: Sequence[Encoded], *, tokens: int, pad_id: int = 0, ranks: Ranks = ALONE
) -> Iterator[Batch]:
    """Group texts by length into batches of at most `tokens` padded tokens, longest first.

    The longest come first so that too large a batch fails at once and not after minutes. A text
    longer than `tokens` is a batch of its own. Each advances the current step of the work.

    Args:
        ranks: processes that share the batches, which are the same however many share them.
    """
    total, done = sum(map(len, texts)), 0
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    start = number = 0
    while start < len(order):
        length = len(texts[order[start]])
        rows = order[start : start + max(1, tokens // length)]
        start += len(rows)
        some = [texts[i] for i in rows]
        if number % ranks.size == ranks.rank:
            yield _pad(some, tuple(rows), length, pad_id)
        number += 1
        done += sum(map(len, some))
        progress.advance(done, total)


def _encode_item(
    base: LoadedModel, item: Item | str, *, max_tokens: int, chat: bool, end_of_turn: bool
) -> Encoded:
    match item:
        case str() | TextItem():
            return _plain(base, item if isinstance(item, str) else item.text, max_tokens)
        case CompletionItem() if not (chat and base.has_chat_template):
            return _pair(base, item.prompt, item.completion, max_tokens, special=True)
        case CompletionItem():
            conversation, response = [("user", item.prompt)], item.completion
        case ChatItem(messages=(only,)):
            return _plain(base, only.content, max_tokens)
        case ChatItem():
            conversation = [(message.role, message.content) for message in item.messages[:-1]]
            response = item.messages[-1].content
    prompt = _render(base, conversation)
    ending = [int(base.tokenizer.eos_token_id)] if end_of_turn else []
    return _pair(base, prompt, response, max_tokens, special=False, ending=ending)


def _plain(base: LoadedModel, text: str, max_tokens: int) -> Encoded:
    ids = tuple(_require(_ids(base, text), text)[:max_tokens])
    return Encoded(ids, (True,) * len(ids), 0)


def _pair(
    base: LoadedModel,
    prompt: str,
    completion: str,
    max_tokens: int,
    *,
    special: bool,
    ending: Sequence[int] = (),
) -> Encoded:
    """Encode prompt and completion as one string: the border may lie inside a token.

    What counts begins with the first token that the completion has changed.
    """
    alone = _ids(base, prompt, special=special)
    whole = _require(_ids(base, prompt + completion, special=special), completion)
    border = next((i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), None)
    if border is None:
        border = min(len(alone), len(whole) - 1)
    before = whole[:border]
    if len(before) > MAX_PROMPT_TOKENS:
        # The first token stays: models lean on it, whatever it is.
        before = [before[0], *before[1 - MAX_PROMPT_TOKENS :]]
    return Encoded.response(before, [*whole[border:], *ending][:max_tokens])


def _ids(base: LoadedModel, text: str, *, special: bool = True) -> list[int]:
    ids: list[int] = base.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    return ids


def _render(base: LoadedModel, conversation: Conversation) -> str:
    """The conversation in the model's template, up to where the assistant is to speak."""
    if not base.has_chat_template:
        raise InvalidRequest("the base model has no chat template, so it cannot take messages")
    messages = [{"role": role, "content": content} for role, content in conversation]
    return render_chat(base.tokenizer, messages)


def _require(ids: list[int], text: str) -> list[int]:
    if not ids:
        raise InvalidRequest(f"the text {text[:50]!r} has no tokens")
    return ids


def _pad(texts: Sequence[Encoded], index: tuple[int, ...], length: int, pad_id: int) -> Batch:
    ids = torch.full((len(texts), length), pad_id)
    real = torch.zeros(len(texts), length, dtype=torch.bool)
    scored = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text.ids)
        real[row, : len(text)] = True
        scored[row, : len(text)] = torch.tensor(text.scored)
    return Batch(index, ids, real, scored)
