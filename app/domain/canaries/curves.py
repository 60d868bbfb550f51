"""How far what a server says is from what is recorded at each strength."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from app.domain.canaries.answers import Answer, same_token
from models_store.schemas.canary import TOP, CanaryPrompt, CanarySheet

_SPECIAL = re.compile(r"|<.+>|.*\ufffd.*", re.DOTALL)
"""Tokens that servers spell in ways of their own: none, markers, parts of characters."""


class Curve:
    """The recorded log-probabilities of one prompt's next token, at every strength in between."""

    def __init__(
        self, prompt: CanaryPrompt, strengths: Sequence[float], *, bare: bool = False
    ) -> None:
        """Args:
        bare: the server leaves out the spaces before words; see `are_bare`.
        """
        self._strengths = strengths
        self._places = {same_token(token): i for i, token in enumerate(prompt.tokens)}
        self._rows = prompt.logprobs
        self._bare = bare

    def at(self, strength: float) -> Sequence[float]:
        """Log-probabilities `[tokens]`, on a line through the two nearest strengths."""
        right = min(max(1, bisect_right(self._strengths, strength)), len(self._strengths) - 1)
        low, high = self._strengths[right - 1], self._strengths[right]
        share = (strength - low) / (high - low)
        rows = zip(self._rows[right - 1], self._rows[right], strict=True)
        return [a + share * (b - a) for a, b in rows]

    def distance(self, top: Mapping[str, float], strength: float) -> float:
        """Root mean square of the differences in nats, over the likeliest tokens.

        A token that only one of the two lists is less likely than any that the other lists: it
        counts with what it exceeds that by.
        """
        expected = self.at(strength)
        listed = sorted(expected, reverse=True)
        floor, lowest = listed[min(TOP, len(listed)) - 1], min(top.values())
        places = self._match(top)
        total = 0.0
        for token, logprob in top.items():
            if token in places:
                total += (logprob - expected[places[token]]) ** 2
            else:
                total += max(0.0, logprob - floor) ** 2
        for place in set(self._places.values()) - set(places.values()):
            total += max(0.0, expected[place] - lowest) ** 2
        return math.sqrt(total / min(len(top), TOP))

    def change_distance(
        self, top: Mapping[str, float], base: Mapping[str, float], strength: float
    ) -> float | None:
        """Root mean square of the differences in nats between what the edit changes here and what
        is recorded of it, over the tokens that both models list; None: there are none.

        Args:
            base: what the server's base model says.
        """
        recorded, edited = self.at(0.0), self.at(strength)
        off = [
            top[token] - base[token] - (edited[place] - recorded[place])
            for token, place in self._match(top).items()
            if token in base
        ]
        return math.sqrt(sum(each**2 for each in off) / len(off)) if off else None

    def apart(self, first: float, second: float) -> float:
        """The distance between two strengths, as `distance` has it."""
        pairs = list(zip(self.at(first), self.at(second), strict=True))
        likeliest = sorted(pairs, key=max, reverse=True)[:TOP]
        return math.sqrt(sum((a - b) ** 2 for a, b in likeliest) / len(likeliest))

    def likeliest(self, strength: float) -> str:
        """The token that greedy decoding takes."""
        expected = self.at(strength)
        return max(self._places, key=lambda token: expected[self._places[token]])

    def _match(self, top: Mapping[str, float]) -> dict[str, int]:
        """The recorded place of each of the server's tokens."""
        if not self._bare:
            return {token: self._places[token] for token in top if token in self._places}
        bare: dict[str, list[int]] = {}
        for token, place in self._places.items():
            bare.setdefault(token.strip(), []).append(place)
        return {token: bare[token][0] for token in top if len(bare.get(token, ())) == 1}


def are_bare(answers: Iterable[Answer | None]) -> bool:
    """Whether none of the tokens that a server lists has a space before it."""
    tops = [answer.top or {} for answer in answers if answer is not None]
    return not any(token.startswith(" ") for top in tops for token in top)


def plain_tokens(top: Mapping[str, float]) -> dict[str, float]:
    """Without those that servers spell in ways of their own."""
    return {token: logprob for token, logprob in top.items() if not _SPECIAL.fullmatch(token)}


def effect(sheet: CanarySheet, strengths: Sequence[float]) -> float:
    """How far base model and export are apart, in nats: root mean square over the prompts."""
    apart = [Curve(prompt, strengths).apart(0.0, 1.0) for prompt in sheet.prompts]
    return math.sqrt(sum(each**2 for each in apart) / len(apart))
