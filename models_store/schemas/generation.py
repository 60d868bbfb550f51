"""What the API asks of a generator, and the lines it gets back (internal HTTP)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models_store.schemas.catalogue import BaseModelSource
from models_store.schemas.records import Variant


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChatMessage(_Part):
    """A message as OpenAI's API has it; an empty content is allowed."""

    role: str
    content: str
    name: str | None = None


class GenerationPrompt(_Part):
    """One prompt in exactly one of its three forms, and which variant answers it."""

    messages: tuple[ChatMessage, ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    variant: Annotated[int, Field(ge=0)] = 0
    """Index into the request's variants."""


class Sampling(_Part):
    """How tokens are drawn; the names and meanings are those of OpenAI's API and of vLLM."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """None: as many as the context has room for."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    """0: all."""
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: int | None = None
    """The same seed gives each choice the same random stream again; choices differ."""
    stop: tuple[str, ...] = ()
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Mapping[int, float] = {}
    """By token id."""
    logprobs: Annotated[int, Field(ge=0)] | None = None
    """Tell how likely each token was, and so many of the likeliest ones."""
    echo: bool = False
    """Give the prompt back as well, with its tokens' log-probabilities if those are told."""


class GenerationRequest(_Part):
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
        """That all choices together can come to."""
        each = min(self.sampling.max_tokens or self.context_length, self.context_length)
        return len(self.prompts) * self.n * each


class LikelyToken(_Part):
    token: str
    """Where it is a part of a character: with U+FFFD in its place."""
    bytes: tuple[int, ...]
    logprob: float


class ScoredToken(_Part):
    """One token and how likely the model found it, before temperature, penalties and biases."""

    token: str
    bytes: tuple[int, ...]
    logprob: float | None
    """In nats; None for a text's first token, which nothing predicts."""
    top: tuple[LikelyToken, ...] = ()
    """The likeliest ones in its place, the likeliest first."""


class TextPiece(_Part):
    """More text of one choice."""

    type: Literal["delta"] = "delta"
    index: int
    text: str
    tokens: tuple[ScoredToken, ...] = ()
    """Those that begin in this piece, where they were asked for."""


class Finished(_Part):
    """One choice is complete."""

    type: Literal["finish"] = "finish"
    index: int
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int


class GenerationError(_Part):
    """The generation broke off after its first line; nothing follows."""

    type: Literal["error"] = "error"
    code: str
    message: str


GenerationLine = Annotated[TextPiece | Finished | GenerationError, Field(discriminator="type")]
"""A line of the answer (NDJSON)."""

generation_line: TypeAdapter[TextPiece | Finished | GenerationError] = TypeAdapter(GenerationLine)
