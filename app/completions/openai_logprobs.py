"""Log-probabilities in the two forms of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models_store.schemas.generation import LikelyToken, ScoredToken


def chat_logprobs(tokens: Sequence[ScoredToken]) -> dict[str, Any]:
    """As chat completions have them."""
    return {
        "content": [
            {**_token(token), "top_logprobs": [_token(likely) for likely in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


class TextLogprobs:
    """As completions have them; of a stream, each piece goes on where the last one ended."""

    def __init__(self) -> None:
        self._offset = 0

    def next(self, tokens: Sequence[ScoredToken]) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.token)
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_by_text(token) for token in tokens],
            "text_offset": offsets,
        }


def _token(token: ScoredToken | LikelyToken) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.bytes)}


def _by_text(token: ScoredToken) -> dict[str, float] | None:
    """The likeliest tokens and the token itself; of two that read alike, the likelier one."""
    if token.logprob is None:
        return None
    logprobs: dict[str, float] = {}
    for likely in token.top:
        logprobs.setdefault(likely.token, likely.logprob)
    logprobs.setdefault(token.token, token.logprob)
    return logprobs
