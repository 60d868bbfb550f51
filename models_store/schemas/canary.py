"""The canary of an export: prompts, and what the base model and the edited one answer to them.

An editor records it while it makes an export; with it a server that runs the export can be checked
without a model at hand.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models_store.schemas.base import DocumentedModel

NAME = "canary.json"
TOP = 10
"""Likeliest next tokens that are recorded at each strength."""
TEXT_TOKENS = 8
"""Of the recorded continuations."""
STRENGTHS = (-1.0, 0.0, 0.5, 1.0, 2.0)
TEXT_STRENGTHS = (0.0, 0.5, 1.0, 2.0)
Endpoint = Literal["completions", "chat"]
_Short = Annotated[str, Field(max_length=2_000)]
_Logprob = Annotated[float, Field(le=0.001, ge=-1_000)]
_Strengths = Annotated[tuple[float, ...], Field(min_length=2, max_length=100)]


class CanaryPrompt(DocumentedModel):
    """A prompt, and the answers to it at each strength."""

    prompt: _Short
    """As text, or as what a user says."""
    tokens: Annotated[tuple[_Short, ...], Field(min_length=1, max_length=1_000)]
    """The likeliest next tokens at any of the strengths, each spelled once."""
    logprobs: tuple[tuple[_Logprob, ...], ...]
    """`[strengths, tokens]`, in nats."""
    texts: tuple[_Short, ...]
    """The greedy continuation at each of the strengths for texts."""


class CanarySheet(DocumentedModel):
    """The prompts for one kind of completions."""

    endpoint: Endpoint
    prompts: Annotated[tuple[CanaryPrompt, ...], Field(min_length=1, max_length=100)]


class Canary(DocumentedModel):
    """What servers are asked, and what they are expected to answer."""

    schema_version: int = 1
    variant: str
    """The one that was exported."""
    base_model: str
    strengths: _Strengths = STRENGTHS
    """Multiples of the strengths in the export, ascending: 0 is the base model, 1 the export."""
    text_strengths: _Strengths = TEXT_STRENGTHS
    """Those of the continuations."""
    text_tokens: Annotated[int, Field(ge=1, le=1_000)] = TEXT_TOKENS
    """Of each continuation, at most."""
    sheets: Annotated[tuple[CanarySheet, ...], Field(min_length=1, max_length=2)]
    """One for text completions, and one for chat completions where the model takes messages."""

    def limited_to(self, strengths: Collection[float]) -> Canary:
        """The same without the answers at other strengths; those at 0 and 1 stay."""
        kept = {0.0, 1.0, *strengths}
        rows = [place for place, each in enumerate(self.strengths) if each in kept]
        texts = [place for place, each in enumerate(self.text_strengths) if each in kept]

        def prompt(one: CanaryPrompt) -> CanaryPrompt:
            fewer = {
                "logprobs": tuple(one.logprobs[place] for place in rows),
                "texts": tuple(one.texts[place] for place in texts),
            }
            return one.model_copy(update=fewer)

        sheets = tuple(
            sheet.model_copy(update={"prompts": tuple(map(prompt, sheet.prompts))})
            for sheet in self.sheets
        )
        return self.model_copy(
            update={
                "strengths": tuple(self.strengths[place] for place in rows),
                "text_strengths": tuple(self.text_strengths[place] for place in texts),
                "sheets": sheets,
            }
        )

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        for strengths in (self.strengths, self.text_strengths):
            if list(strengths) != sorted(set(strengths)) or not {0.0, 1.0} <= set(strengths):
                raise ValueError("strengths ascend, and have 0 and 1 among them")
        for prompt in (prompt for sheet in self.sheets for prompt in sheet.prompts):
            if len(prompt.texts) != len(self.text_strengths):
                raise ValueError("each prompt has a text at each strength for texts")
            if len(prompt.logprobs) != len(self.strengths):
                raise ValueError("each prompt has a row of logprobs at each strength")
            if any(len(row) != len(prompt.tokens) for row in prompt.logprobs):
                raise ValueError("each row of logprobs has a number for each token")
        return self
