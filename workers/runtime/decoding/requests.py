"""What is to be decoded: the request for one row, and the row as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.runtime.decoding.sampling import GREEDY, RandomStream, SamplingParams, TokenScores
from workers.surgery.terms import Mixture

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, eq=False)
class Request:
    """One row to decode."""

    prompt: Sequence[int]
    """At least one token."""
    max_new_tokens: int
    mixture: Mixture = ()
    params: SamplingParams = GREEDY
    seed: int = 0
    stop_ids: frozenset[int] | None = None
    """Tokens that end the row, none of which is returned; None: the model's own."""
    logprobs: int | None = None
    """Return the log-probability of each new token and of so many of the likeliest ones."""
    prompt_logprobs: int | None = None
    """The same for each token of the prompt."""


class BatchRow:
    """A request as it is being decoded."""

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.stream = RandomStream(request.seed)
        self.ids: list[int] = []
        """The tokens made so far."""
        self.length = 0
        """Tokens that keys and values are held of."""
        self.ended = request.max_new_tokens <= 0
        self.prompt_scores: list[TokenScores | None] = []

    @property
    def text(self) -> list[int]:
        """What has to be read before the next token can be chosen."""
        return [*self.request.prompt, *self.ids]

    @property
    def size(self) -> int:
        """Tokens of `text`."""
        return len(self.request.prompt) + len(self.ids)

    @property
    def wants_prompt_scores(self) -> bool:
        return self.request.prompt_logprobs is not None and not self.ids

    def read_again(self) -> BatchRow:
        """The same row, of which no keys and values are held; its stream goes on."""
        again = BatchRow(self.number, self.request)
        again.stream, again.ids = self.stream, self.ids
        return again
