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
        self._stop = tuple(StopMatcher(text) for text in stop if text)
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
        found = [at for at in (stop.push(text) for stop in self._stop) if at is not None]
        if found:
            self.stopped = True
            return self._show(min(found) - self.shown, rest="")
        keep = max((stop.matched for stop in self._stop), default=0)
        border = len(self._held) - keep
        return self._show(border, rest=self._held[border:])

    def _show(self, length: int, rest: str) -> str:
        shown, self._held = self._held[:length], rest
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
        return self._show(len(self._held), rest="")


class StopMatcher:
    """Finds a string in text that comes in pieces, in time that grows with the text alone (Knuth,
    Morris and Pratt 1977)."""

    def __init__(self, text: str) -> None:
        """`text` is not empty."""
        self._text = text
        self._shorter = [0]
        """For each beginning of the string, the longest one that it ends with, but itself."""
        for char in text[1:]:
            self._shorter.append(self._after(self._shorter[-1], char))
        self._read = 0
        self.matched = 0
        """Characters at the end of what was read that begin the string."""

    def push(self, piece: str) -> int | None:
        """Read a piece: where in all the text the string begins that ends in it, if it does."""
        for char in piece:
            self._read += 1
            self.matched = self._after(self.matched, char)
            if self.matched == len(self._text):
                return self._read - self.matched
        return None

    def _after(self, matched: int, char: str) -> int:
        while matched and self._text[matched] != char:
            matched = self._shorter[matched - 1]
        return matched + (self._text[matched] == char)
