"""One choice of a response: the row to decode, and its text so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from models_store.schemas.generation import ScoredToken, TextPiece
from workers.generator.engine.text import TextStream
from workers.generator.engine.token_names import TokenNames
from workers.runtime.decoding.decode import Token
from workers.runtime.decoding.requests import FinishReason, Request
from workers.surgery.terms import Mixture


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
    names: TokenNames | None = None
    """Set if tokens are returned with their log-probabilities."""
    made: int = 0
    finish_reason: FinishReason | None = None
    """Set by the token that ends it."""
    _echoed: bool = False
    _held: deque[tuple[int, ScoredToken]] = field(default_factory=deque)
    """Tokens whose text is held back, and where in the text they begin."""

    @property
    def echo_scores(self) -> bool:
        return self.request.prompt_logprobs is not None

    def take(self, token: Token) -> TextPiece | None:
        """The text and tokens that this token completes, if any."""
        piece, scored = "", []
        if not self._echoed:
            self._echoed = True
            piece = self.echo
            if self.names is not None and token.prompt is not None:
                pairs = zip(token.prompt, self.request.prompt, strict=True)
                scored += [self.names.named(scores, id) for scores, id in pairs]
        if token.id is not None:
            self.made += 1
            start = self.text.decoded
            piece += self.text.push(token.id)
            if self.names is not None and token.scores is not None:
                self._held.append((start, self.names.named(token.scores, token.id)))
        elif self.names is not None and self.echo_scores and token.scores is not None:
            # Clients that score a text expect one token after it, even an end-of-text token.
            scored.append(self.names.named(token.scores, token.scores.id))
        self.finish_reason = token.finish_reason
        if self.text.stopped:
            self.finish_reason = "stop"
        if self.finish_reason is not None:
            piece += self.text.flush()
        whole = self.finish_reason is not None and not self.text.stopped
        while self._held and (whole or self._held[0][0] < self.text.shown):
            scored.append(self._held.popleft()[1])
        if not piece and not scored:
            return None
        return TextPiece(index=self.index, text=piece, tokens=tuple(scored))
