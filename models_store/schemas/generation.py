"""Requests of the API to a generator, and the lines of its response (internal HTTP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from models_store.schemas.base import FrozenModel
from models_store.schemas.catalogue import BaseModelSource
from models_store.schemas.records import Variant


class ChatMessage(FrozenModel):
    """A message as in OpenAI's API; the content may be empty."""

    role: str
    content: str
    name: str | None = None


class GenerationPrompt(FrozenModel):
    """One prompt in exactly one of three forms, and the variant that responds."""

    messages: tuple[ChatMessage, ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    variant: Annotated[int, Field(ge=0)] = 0
    """Index into the request's variants."""

    @property
    def bytes(self) -> int:
        """Its size; it has no more tokens than that, but for those of a chat template."""
        if self.tokens is not None:
            return len(self.tokens)
        texts = [self.text or "", *(message.content for message in self.messages or ())]
        return sum(len(text.encode()) for text in texts)


class Sampling(FrozenModel):
    """How tokens are sampled; names and meanings as in OpenAI's API and vLLM."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """None: as many as the context has room for."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    """0: all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: int | None = None
    """Makes each choice reproducible; the choices differ from each other."""
    stop: tuple[str, ...] = ()
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Mapping[int, float] = {}
    """By token id."""
    logprobs: Annotated[int, Field(ge=0)] | None = None
    """Return the log-probability of each token, and so many of the most likely ones."""
    echo: bool = False
    """Return the prompt as well, with its tokens' log-probabilities if `logprobs` is set."""


class GenerationRequest(FrozenModel):
    """`POST /internal/generate`: `len(prompts) · n` choices, numbered prompt by prompt."""

    base_model: str
    base_fingerprint: str
    source: BaseModelSource
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    prompts: Annotated[tuple[GenerationPrompt, ...], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=128)] = 1
    sampling: Sampling = Sampling()
    tenant: str = "default"
    context_length: Annotated[int, Field(ge=1)] = 4096
    """Of the base model."""

    @property
    def most_tokens(self) -> int:
        """Upper bound of the tokens of all choices together, scored prompts included."""
        each = min(self.sampling.max_tokens or self.context_length, self.context_length)
        return self.n * len(self.prompts) * each + self._most_scored

    @property
    def most_prompt_scores(self) -> int:
        """Upper bound of the log-probabilities of echoed prompts."""
        return self._most_scored * (1 + (self.sampling.logprobs or 0))

    @property
    def _most_scored(self) -> int:
        """Upper bound of the tokens of prompts that are scored."""
        if not self.scores_prompts:
            return 0
        return self.n * sum(min(prompt.bytes, self.context_length) for prompt in self.prompts)

    @property
    def scores_prompts(self) -> bool:
        """Whether each choice returns the log-probabilities of its prompt."""
        return self.sampling.echo and self.sampling.logprobs is not None


# Tokens with their scores come by the hundred thousand, and a model takes three times the memory.
@dataclass(frozen=True, slots=True)
class LikelyToken:
    token: str
    """A part of a character is shown as U+FFFD."""
    bytes: tuple[int, ...]
    logprob: float


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token and its log-probability, before temperature, penalties and biases."""

    token: str
    bytes: tuple[int, ...]
    logprob: float | None
    """In nats; None for a text's first token, which is not predicted."""
    top: tuple[LikelyToken, ...] = ()
    """The most likely tokens at this position, in descending order."""


class TextPiece(FrozenModel):
    """More text of one choice."""

    type: Literal["delta"] = "delta"
    index: int
    text: str
    tokens: tuple[ScoredToken, ...] = ()
    """The tokens that begin in this piece, if `logprobs` is set."""


class Finished(FrozenModel):
    """One choice is complete."""

    type: Literal["finish"] = "finish"
    index: int
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int


class GenerationError(FrozenModel):
    """The generation failed after its first line; nothing follows."""

    type: Literal["error"] = "error"
    code: str
    message: str


GenerationLine = Annotated[TextPiece | Finished | GenerationError, Field(discriminator="type")]
"""A line of the response (NDJSON)."""

generation_line: TypeAdapter[TextPiece | Finished | GenerationError] = TypeAdapter(GenerationLine)
