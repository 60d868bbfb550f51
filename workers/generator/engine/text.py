"""Decode the tokens of a choice to whole characters, without parts of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


class TextStream:
    """Turns the tokens of one choice into pieces of text.

    A stop string may span tokens, so text that could be the beginning of one is held back.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        """`tokenizer` is a `tokenizers.Tokenizer`; empty stop strings are ignored."""
        self._tokenizer = tokenizer
        self._stop = tuple(text for text in stop if text)
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._held = ""
        self.decoded = 0
        """Characters that were decoded, held back or not."""
        self.shown = 0
        """Characters that were returned."""
        self.stopped = False
        """A stop string was found: no more text comes."""

    def push(self, token: int) -> str:
        """The text that can be shown after this token, perhaps none."""
        if self.stopped:
            return ""
        text = self._step(token)
        self.decoded += len(text)
        self._held += text
        stops = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if stops:
            self.stopped = True
            shown, self._held = self._held[: min(stops)], ""
            self.shown += len(shown)
            return shown
        keep = max((_overlap(self._held, text) for text in self._stop), default=0)
        border = len(self._held) - keep
        shown, self._held = self._held[:border], self._held[border:]
        self.shown += len(shown)
        return shown

    def _step(self, token: int) -> str:
        try:
            return self._decoder.step(self._tokenizer, token) or ""
        except Exception:
            # The streams of some tokenizers fail on bytes that are not a character.
            self._decoder = DecodeStream(skip_special_tokens=True)
            return str(self._tokenizer.decode([token], skip_special_tokens=True))

    def flush(self) -> str:
        """The text that was held back, when no more tokens come."""
        shown, self._held = self._held, ""
        self.shown += len(shown)
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a prefix of `stop`, but not all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
