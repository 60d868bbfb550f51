"""The responses of OpenAI's API: whole ones and streams of chunks."""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.completions.generators import CompletedChoice
from app.completions.openai_logprobs import TextLogprobs, chat_logprobs
from app.http.errors import openai_error, status_of
from app.http.sse import sse
from models_store.errors import ScalpelError
from models_store.schemas.generation import Finished, ScoredToken, TextPiece

Kind = Literal["chat", "text"]
_PREFIX = {"chat": "chatcmpl", "text": "cmpl"}
_OBJECT = {"chat": "chat.completion", "text": "text_completion"}
_CHUNK = {"chat": "chat.completion.chunk", "text": "text_completion"}
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class CompletionResponse:
    """One response to a request for completions of `model`."""

    kind: Kind
    model: str
    n: int
    """Choices a prompt."""
    logprobs: bool = False
    """Whether log-probabilities were requested."""
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{_PREFIX[self.kind]}-{secrets.token_hex(12)}")

    def whole(self, choices: Sequence[CompletedChoice]) -> bytes:
        """The body once all choices are complete.

        Each is encoded by itself: with log-probabilities they may be megabytes, and no other thread
        runs meanwhile.
        """
        head, count = self._head(_OBJECT[self.kind]), usage(choices, self.n)
        each = b",".join(
            _encoded(self._choice(index, choice)) for index, choice in enumerate(choices)
        )
        return _encoded(head)[:-1] + b',"choices":[%b],"usage":%b}' % (each, _encoded(count))

    async def stream(
        self, lines: AsyncIterator[TextPiece | Finished], *, include_usage: bool
    ) -> AsyncIterator[bytes]:
        """The chunks as server-sent events, to the end or to an error."""
        begun: set[int] = set()
        texts: defaultdict[int, TextLogprobs] = defaultdict(TextLogprobs)
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
                        more["logprobs"] = self._logprobs(line.tokens, texts[line.index])
                    yield self._chunk(line.index, more, include_usage=include_usage)
        except ScalpelError as error:
            yield sse(openai_error(status_of(error), error.code, error.message))
            return
        if include_usage:
            counted = [ends[index] for index in sorted(ends)]
            yield sse(
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

    def _choice(self, index: int, choice: CompletedChoice) -> dict[str, Any]:
        content: dict[str, Any] = {"text": choice.text}
        if self.kind == "chat":
            content = {"message": {"role": "assistant", "content": choice.text, "refusal": None}}
        return {
            "index": index,
            **content,
            "finish_reason": choice.finish_reason,
            "logprobs": self._logprobs(choice.tokens, TextLogprobs()) if self.logprobs else None,
        }

    def _logprobs(self, tokens: Sequence[ScoredToken], text: TextLogprobs) -> dict[str, Any]:
        return chat_logprobs(tokens) if self.kind == "chat" else text.next(tokens)

    def _chunk(self, index: int, content: dict[str, Any], *, include_usage: bool) -> bytes:
        choice = {"index": index, "finish_reason": None, "logprobs": None, **content}
        body = {**self._head(_CHUNK[self.kind]), "choices": [choice]}
        if include_usage:
            body["usage"] = None
        return sse(body)


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def usage(choices: Sequence[CompletedChoice | Finished], n: int) -> dict[str, int]:
    """Tokens of all choices; a prompt counts once, however many choices it has."""
    prompt = sum(choice.prompt_tokens for choice in choices[::n])
    completion = sum(choice.completion_tokens for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
