"""The answers of OpenAI's API: whole ones and streams of chunks."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.completions.generators import Choice
from app.completions.openai_logprobs import TextLogprobs, chat_logprobs
from app.http.error_catalogue import ERRORS
from app.http.errors import openai_error
from models_store.errors import ScalpelError
from models_store.schemas.generation import Finished, ScoredToken, TextPiece

Kind = Literal["chat", "text"]
_PREFIX = {"chat": "chatcmpl", "text": "cmpl"}
_OBJECT = {"chat": "chat.completion", "text": "text_completion"}
_CHUNK = {"chat": "chat.completion.chunk", "text": "text_completion"}
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """One answer to a request for completions of `model`."""

    kind: Kind
    model: str
    n: int
    """Choices a prompt."""
    logprobs: bool = False
    """Whether log-probabilities were asked for."""
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{_PREFIX[self.kind]}-{secrets.token_hex(12)}")

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The body once all choices are complete."""
        return {
            **self._head(_OBJECT[self.kind]),
            "choices": [self._choice(index, choice) for index, choice in enumerate(choices)],
            "usage": usage(choices, self.n),
        }

    async def stream(
        self, lines: AsyncIterator[TextPiece | Finished], *, include_usage: bool
    ) -> AsyncIterator[bytes]:
        """The chunks as server-sent events, to the end or to an error."""
        begun: set[int] = set()
        told: defaultdict[int, TextLogprobs] = defaultdict(TextLogprobs)
        ends: dict[int, Finished] = {}
        try:
            async for line in lines:
                if self.kind == "chat" and line.index not in begun:
                    begun.add(line.index)
                    first = {"role": "assistant", "content": ""}
                    yield self._chunk(line.index, {"delta": first}, include_usage=include_usage)
                if isinstance(line, Finished):
                    ends[line.index] = line
                    last: dict[str, Any] = {"delta": {}} if self.kind == "chat" else {"text": ""}
                    last["finish_reason"] = line.finish_reason
                    yield self._chunk(line.index, last, include_usage=include_usage)
                elif line.text or line.tokens:
                    more: dict[str, Any] = (
                        {"delta": {"content": line.text}}
                        if self.kind == "chat"
                        else {"text": line.text}
                    )
                    if self.logprobs:
                        more["logprobs"] = self._logprobs(line.tokens, told[line.index])
                    yield self._chunk(line.index, more, include_usage=include_usage)
        except ScalpelError as error:
            kind = ERRORS.get(error.code)
            status = kind.status if kind is not None and kind.status is not None else 500
            yield _sse(openai_error(status, error.code, error.message))
            return
        if include_usage:
            counted = [ends[index] for index in sorted(ends)]
            yield _sse(
                {
                    **self._head(_CHUNK[self.kind]),
                    "choices": [],
                    "usage": usage(counted, self.n),
                }
            )
        yield _DONE

    def _head(self, object: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
        }

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        said: dict[str, Any] = {"text": choice.text}
        if self.kind == "chat":
            said = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
        return {
            "index": index,
            **said,
            "finish_reason": choice.finish_reason,
            "logprobs": self._logprobs(choice.tokens, TextLogprobs()) if self.logprobs else None,
        }

    def _logprobs(self, tokens: Sequence[ScoredToken], text: TextLogprobs) -> dict[str, Any]:
        return chat_logprobs(tokens) if self.kind == "chat" else text.next(tokens)

    def _chunk(self, index: int, said: dict[str, Any], *, include_usage: bool) -> bytes:
        choice = {"index": index, "finish_reason": None, "logprobs": None, **said}
        body = {**self._head(_CHUNK[self.kind]), "choices": [choice]}
        if include_usage:
            body["usage"] = None
        return _sse(body)


def usage(choices: Sequence[Choice | Finished], n: int) -> dict[str, int]:
    """Tokens of all choices; a prompt counts once, however many choices it has."""
    prompt = sum(choice.prompt_tokens for choice in choices[::n])
    completion = sum(choice.completion_tokens for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _sse(body: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()
