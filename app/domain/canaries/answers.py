"""What servers are asked, in OpenAI's formats, and what is read out of their responses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models_store.schemas.canary import Endpoint

PATHS: Mapping[Endpoint, str] = {
    "completions": "/v1/completions",
    "chat": "/v1/chat/completions",
}
_LOWEST = -15.0
"""Servers write tokens that cannot come as -inf or -9999."""
_SPELLINGS = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})


@dataclass(frozen=True)
class Answer:
    """What a server said to one prompt."""

    text: str
    top: Mapping[str, float] | None
    """Log-probabilities of its likeliest next tokens; None where it gives none."""


@dataclass(frozen=True)
class Form:
    """How much is asked for: the likeliest next tokens, or a text where they are not given."""

    logprobs: int | None

    def body(self, endpoint: Endpoint, model: str, prompt: str, text_tokens: int) -> dict[str, Any]:
        """The request for one prompt."""
        body: dict[str, Any] = {
            "model": model,
            "temperature": 0,
            "max_tokens": text_tokens if self.logprobs is None else 1,
        }
        if endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
            if self.logprobs is not None:
                body |= {"logprobs": True, "top_logprobs": self.logprobs}
        else:
            body["prompt"] = prompt
            if self.logprobs is not None:
                body["logprobs"] = self.logprobs
        return body


FORMS: Sequence[Form] = (Form(20), Form(5), Form(None))
"""In the order in which they are tried: OpenAI's own completions give five tokens at most."""


def read_answer(data: bytes) -> Answer | None:
    """The answer in a response's body; None where there is none."""
    try:
        choice = json.loads(data)["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        said = readable(str(text or ""))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    try:
        top = _top(choice.get("logprobs"))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        top = None
    return Answer(said, top)


def readable(text: str) -> str:
    """What a server said, with U+FFFD for halves of surrogate pairs, which UTF-8 has none for."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def gives_logprobs(answers: Sequence[Answer]) -> bool:
    """Whether there are log-probabilities of the model, not those that greedy sampling leaves."""
    tops = [answer.top for answer in answers if answer.top]
    drawn = any(len(top) > 1 and max(top.values()) < -1e-4 for top in tops)
    return drawn and 2 * len(tops) >= len(answers)


def same_token(given: str) -> str:
    """A token as text, whatever sign its tokenizer writes for a space."""
    return given.translate(_SPELLINGS)


def same_text(given: str) -> str:
    """A continuation without differences of spacing."""
    return " ".join(given.split())


def _top(logprobs: Any) -> dict[str, float] | None:
    if not logprobs:
        return None
    if logprobs.get("content"):  # chat completions, and llama.cpp's of text
        first = logprobs["content"][0]
        pairs = [(each["token"], each["logprob"]) for each in (*first["top_logprobs"], first)]
    elif logprobs.get("top_logprobs"):
        pairs = list(logprobs["top_logprobs"][0].items())
        pairs.append((logprobs["tokens"][0], logprobs["token_logprobs"][0]))
    else:
        return None
    top: dict[str, float] = {}
    for token, given in pairs:
        number = float(given)
        if math.isnan(number):
            return None
        top.setdefault(readable(same_token(token)), max(_LOWEST, min(0.0, number)))
    return top
