"""Two texts with what differs between them marked, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import groupby

_WORDS = re.compile(r"\s*\S+")
"""With the space before them, which is not compared."""
_MOST_WORDS = 2_000
Piece = tuple[bool, str]
"""Whether it differs, and the text."""


def marked(base: str, edited: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The pieces of each text in order; those that only one of them has are marked."""
    before, after = _words(base), _words(edited)
    plain_before, plain_after = ([word.strip() for word in words] for words in (before, after))
    matcher = SequenceMatcher(None, plain_before, plain_after, autojunk=False)
    blocks = matcher.get_matching_blocks()
    same_before = {block.a + i for block in blocks for i in range(block.size)}
    same_after = {block.b + i for block in blocks for i in range(block.size)}
    return tuple(_pieces(before, same_before)), tuple(_pieces(after, same_after))


def _words(text: str) -> list[str]:
    words = _WORDS.findall(text.strip())
    return [*words[:_MOST_WORDS], *(["…"] if len(words) > _MOST_WORDS else [])]


def _pieces(words: list[str], same: set[int]) -> Iterator[Piece]:
    for differs, group in groupby(enumerate(words), lambda one: one[0] not in same):
        text = "".join(word for _, word in group)
        start = len(text) - len(text.lstrip()) if differs else 0
        if start:
            yield False, text[:start]
        yield differs, text[start:]
