"""The bodies of OpenAI's API: everything that its clients send without meaning anything by it is
accepted; what would change the response and is not supported is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from app.domain.bodies import Ignored, NoList, NotSupported, RequestBody, WithoutEffect
from models_store.schemas.generation import ChatMessage, GenerationPrompt, Sampling

MAX_CHOICES = 128
MAX_LOGPROBS = 20
_COMPLETION_TOKENS = 16
"""OpenAI's default for completions."""


StopString = Annotated[str, Field(max_length=256)]


class StreamOptions(RequestBody):
    include_usage: bool | None = None
    """Count tokens in a last piece."""
    include_obfuscation: Ignored = None


class _Generation(RequestBody):
    """What chat and text completions have in common."""

    model: Annotated[str, Field(min_length=1, max_length=1000)]
    """A base model, an alias, or a variant such as `base:edit@0.6`."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of a response; null: as many as fit, for text completions 16."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """From 0 (always the likeliest token) to 2; null: 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the probability that is drawn from; null: all."""
    top_k: Annotated[int, Field(ge=0)] | None = None
    """As in vLLM; 0 and null: all."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Tokens below this share of the likeliest one are not drawn; null: 0."""
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    """Responses to each prompt; null: 1."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """The same seed gives the same random numbers; null: others each time."""
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    """Texts before which a response ends, up to 4."""
    stream: bool | None = None
    """Send the response in pieces, as server-sent events."""
    stream_options: StreamOptions | None = None
    """What a stream has in addition."""
    without_parents: bool = False
    """Allow an edit without its parent edits."""

    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Taken off the logit of a token for each time that it was written; null: 0."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    """Taken off the logit of a token that was written at all; null: 0."""
    logit_bias: (
        Annotated[dict[int, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)]
        | None
    ) = None
    """Token ids and the biases of their logits."""
    user: Annotated[str, Field(max_length=1000)] | None = None
    """With an alias that has `shares`, the same user always gets the same variant."""
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Annotated[str, Field(max_length=1000)] | None = None
    """Used if `user` is not given."""
    prompt_cache_key: Ignored = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(
        self, max_tokens: int | None, logprobs: int | None, *, echo: bool = False
    ) -> Sampling:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            seed=self.seed,
            stop=tuple(text for text in stop if text),
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias=self.logit_bias or {},
            logprobs=logprobs,
            echo=echo,
        )


class TextPart(RequestBody):
    type: Literal["text"]
    """Always `text`."""
    text: str
    """Part of the message."""


class OpenAIMessage(RequestBody):
    role: Literal["system", "developer", "user", "assistant"]
    """Who says it; `developer` means `system`."""
    content: str | list[TextPart] | None = None
    """The text, or its parts."""
    name: str | None = None
    """Who of those with this role says it; some chat templates use it."""
    refusal: NotSupported = None
    annotations: NoList = None
    tool_calls: NoList = None
    function_call: NotSupported = None
    audio: NotSupported = None

    def plain(self) -> ChatMessage:
        content = self.content or ""
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return ChatMessage(role=role, content=content, name=self.name)


class ChatBody(_Generation):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[OpenAIMessage], Field(min_length=1, max_length=1000)]
    """The conversation; its last message is answered."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens of a response, in place of `max_tokens`."""

    logprobs: bool | None = None
    """Return each token's log-probability."""
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    """Needs `logprobs`."""

    @field_validator("top_logprobs")
    @classmethod
    def _needs_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("needs logprobs: true")
        return value

    response_format: Annotated[Any, WithoutEffect(None, {"type": "text"})] = None
    modalities: Annotated[Any, WithoutEffect(None, ["text"])] = None
    tools: NoList = None
    functions: NoList = None
    tool_choice: Annotated[Any, WithoutEffect(None, "none", "auto")] = None
    function_call: Annotated[Any, WithoutEffect(None, "none", "auto")] = None
    parallel_tool_calls: Ignored = None
    audio: NotSupported = None
    prediction: NotSupported = None
    reasoning_effort: Annotated[Any, WithoutEffect(None, "none")] = None
    verbosity: NotSupported = None
    web_search_options: NotSupported = None

    def prompts(self) -> tuple[GenerationPrompt, ...]:
        return (GenerationPrompt(messages=tuple(message.plain() for message in self.messages)),)

    def drawn(self) -> Sampling:
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return self.sampling(self.max_completion_tokens or self.max_tokens, logprobs)


Token = Annotated[int, Field(ge=0)]
Tokens = Annotated[list[Token], Field(min_length=1)]


class CompletionBody(_Generation):
    """`POST /v1/completions`."""

    prompt: (
        str
        | Tokens
        | Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_CHOICES)]
    )
    """A text, several, or token ids in place of texts."""

    echo: bool | None = None
    """Return the prompt too, with its log-probabilities if `logprobs` is given."""
    suffix: Annotated[Any, WithoutEffect(None, "")] = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    """How many of the likeliest tokens to return with each token; 0: the token itself."""
    best_of: Annotated[Any, WithoutEffect(None, 1)] = None

    def prompts(self) -> tuple[GenerationPrompt, ...]:
        given = self.prompt
        if isinstance(given, str):
            return (GenerationPrompt(text=given),)
        whole = [item for item in given if isinstance(item, int)]
        if whole:
            return (GenerationPrompt(tokens=tuple(whole)),)
        return tuple(
            GenerationPrompt(text=item)
            if isinstance(item, str)
            else GenerationPrompt(tokens=tuple(item))
            for item in given
            if not isinstance(item, int)
        )

    def drawn(self) -> Sampling:
        return self.sampling(
            self.max_tokens or _COMPLETION_TOKENS, self.logprobs, echo=bool(self.echo)
        )
