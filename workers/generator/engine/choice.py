"""One choice of a response: the row to decode, and its text so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from workers.generator.engine.text import TextStream
from workers.runtime.decoding.decode import Token
from workers.runtime.decoding.requests import FinishReason, Request
from workers.runtime.decoding.sampling import TokenScores
from workers.surgery.terms import Mixture

Scored = tuple[TokenScores | None, int]
"""A token's id with its scores; None for the first token of a text, which is not predicted."""


@dataclass(frozen=True)
class Piece:
    """More text of one choice, its tokens not yet named: the engine's thread has no time for it."""

    index: int
    text: str
    prompt: tuple[Scored, ...] = ()
    """Of an echo, which is the same for all choices of a prompt."""
    scored: tuple[Scored, ...] = ()
    """Tokens that begin in this piece."""


@dataclass(eq=False)
class ChoiceDecoder:
    """Turns the tokens of one row into pieces of text."""

    index: int
    request: Request
    text: TextStream
    weights: Mixture = ()
    """Edits that must be written into the weights while this row is decoded."""
    echo: str = ""
    """The prompt, if it is to be returned."""
    scores: bool = False
    """Whether tokens are returned with their log-probabilities."""
    made: int = 0
    finish_reason: FinishReason | None = None
    """Set by the token that ends it."""
    _echoed: bool = False
    _held: deque[tuple[int, Scored]] = field(default_factory=deque)
    """Tokens whose text is held back, and where in the text they begin."""

    @property
    def echo_scores(self) -> bool:
        return self.request.prompt_logprobs is not None

    def take(self, token: Token) -> Piece | None:
        """The text and tokens that this token completes, if any."""
        piece = ""
        prompt: tuple[Scored, ...] = ()
        scored: list[Scored] = []
        if not self._echoed:
            self._echoed = True
            piece = self.echo
            if self.scores and token.prompt is not None:
                prompt = tuple(zip(token.prompt, self.request.prompt, strict=True))
        if token.id is not None:
            self.made += 1
            start = self.text.decoded
            piece += self.text.push(token.id)
            if self.scores and token.scores is not None:
                self._held.append((start, (token.scores, token.id)))
        elif self.scores and self.echo_scores and token.scores is not None:
            # Clients that score a text expect one token after it, even an end-of-text token.
            scored.append((token.scores, token.scores.id))
        self.finish_reason = token.finish_reason
        if self.text.stopped:
            self.finish_reason = "stop"
        if self.finish_reason is not None:
            piece += self.text.flush()
        whole = self.finish_reason is not None and not self.text.stopped
        while self._held and (whole or self._held[0][0] < self.text.shown):
            scored.append(self._held.popleft()[1])
        if not piece and not prompt and not scored:
            return None
        return Piece(self.index, piece, prompt, tuple(scored))
