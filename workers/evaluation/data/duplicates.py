"""Near-duplicates: texts that share most of their words, found exactly and without all pairs."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""Kana and Chinese characters, which stand without spaces between words: each counts as one."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:'[^\W{_UNSPACED}]+)?")

THRESHOLD = 0.7
"""Share of the words of two texts, |A ∩ B| / |A ∪ B|, from which they are near-duplicates."""
_SHARED = 3
"""Rare words in common that make two texts worth comparing: with 1 most comparisons are in vain,
with many more the words are no longer rare."""
_FRAMED = 10
"""With fewer texts it cannot be told which of their words are an instruction to all."""
_CONTENT = 3
"""Words that one of two texts has beside those of most texts, from which on these are compared."""
_ALIKE = 0.5
"""Share of these which near-duplicates have in common too."""


def words_of(text: str) -> list[str]:
    """The words of a text in order, without regard to case."""
    return _WORD.findall(text.casefold())


def same_words(text: str) -> str:
    """Equal for texts of the same words in the same order; a text without words is as it is."""
    return " ".join(words_of(text)) or text


def frame_of(texts: Sequence[str]) -> frozenset[str]:
    """Words that more than half of the texts have, such as an instruction in all of them."""
    if len(texts) < _FRAMED:
        return frozenset()
    have = Counter(word for text in texts for word in set(words_of(text)))
    return frozenset(word for word, count in have.items() if count > len(texts) / 2)


def clusters(
    texts: Sequence[str], threshold: float = THRESHOLD, frame: frozenset[str] = frozenset()
) -> list[int]:
    """Join near-duplicates, and texts joined through a third.

    Args:
        frame: words that say little of a text. Near-duplicates of which one has three others share
            half of those too.

    Returns:
        For each text the smallest index of its cluster.
    """
    parent = list(range(len(texts)))
    index = _Index(threshold, frame)
    for here, entry in enumerate(_entries(texts, threshold)):
        for other in index.near(entry):
            _join_(parent, here, other)
        index.add(entry)
    return [find(parent, node) for node in range(len(texts))]


def repeats(
    texts: Sequence[str], others: Sequence[str], frame: frozenset[str] = frozenset()
) -> set[int]:
    """The places of those texts that are, or nearly are, one of the others.

    Args:
        frame: see `clusters`.
    """
    entries = _entries((*others, *texts), THRESHOLD)
    index = _Index(THRESHOLD, frame)
    for entry in entries[: len(others)]:
        index.add(entry)
    own = enumerate(entries[len(others) :])
    return {place for place, entry in own if any(True for _ in index.near(entry))}


@dataclass(frozen=True)
class _Entry:
    words: frozenset[str]
    rare: Sequence[str]
    """The rarest of them, see `_Index`."""
    least: int
    """How many of these a near-duplicate has too."""


def _entries(texts: Sequence[str], threshold: float) -> list[_Entry]:
    """Of a text without words, the whole text is its only one."""
    bags = [frozenset(words_of(text) or [text]) for text in texts]
    frequency = Counter(chain.from_iterable(bags))

    def entry(bag: frozenset[str]) -> _Entry:
        ordered = sorted(bag, key=lambda word: (frequency[word], word))
        overlap = math.ceil(threshold * len(bag))
        least = min(_SHARED, overlap)
        return _Entry(bag, ordered[: len(bag) - overlap + least], least)

    return [entry(bag) for bag in bags]


class _Index:
    """Texts by their rare words.

    Only texts that share three rare words are compared: with the words of each set ordered from
    rare to common, two near-duplicates share `n` of their first `|A| - ceil(threshold·|A|) + n`
    words, for every n up to `ceil(threshold·|A|)` (prefix filtering; Chaudhuri, Ganti and Kaushik
    2006; Wang, Li and Feng 2012). The result is exact.
    """

    def __init__(self, threshold: float, frame: frozenset[str]) -> None:
        self._threshold = threshold
        self._frame = frame
        self._bags: list[frozenset[str]] = []
        self._places: dict[str, list[int]] = defaultdict(list)

    def add(self, entry: _Entry) -> None:
        for word in entry.rare:
            self._places[word].append(len(self._bags))
        self._bags.append(entry.words)

    def near(self, entry: _Entry) -> Iterator[int]:
        """Places of the near-duplicates among the texts that were added, from 0."""
        shared = Counter(chain.from_iterable(self._places[word] for word in entry.rare))
        for other, words in shared.items():
            if words >= entry.least and self._alike(entry.words, self._bags[other]):
                yield other

    def _alike(self, first: frozenset[str], second: frozenset[str]) -> bool:
        if not _similar(first, second, self._threshold):
            return False
        contents = first - self._frame, second - self._frame
        few = not self._frame or max(map(len, contents)) < _CONTENT
        return few or _similar(*contents, _ALIKE)


def _similar(first: frozenset[str], second: frozenset[str], threshold: float) -> bool:
    if min(len(first), len(second)) < threshold * max(len(first), len(second)):
        return False
    shared = len(first & second)
    return shared >= threshold * (len(first) + len(second) - shared)


def find(parent: list[int], node: int) -> int:
    """The root of `node`'s tree in a forest of parents; shortens the path on the way."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _join_(parent: list[int], first: int, second: int) -> None:
    low, high = sorted((find(parent, first), find(parent, second)))
    parent[high] = low


def join_by(groups: Sequence[int], keys: Sequence[str | None]) -> list[int]:
    """Merge clusters that have a key in common; None is no key.

    Args:
        groups: cluster of each text, as `clusters` gives them.
        keys: such as the `pair_id` of each text.
    """
    parent = list(groups)
    first: dict[str, int] = {}
    for node, key in enumerate(keys):
        if key is not None:
            _join_(parent, node, first.setdefault(key, node))
    return [find(parent, node) for node in range(len(parent))]


def shares_run(text: str, runs: frozenset[tuple[str, ...]], length: int) -> bool:
    """Whether `length` words in a row of the text are among `runs`."""
    return not runs.isdisjoint(runs_of(text, length))


def runs_of(text: str, length: int) -> set[tuple[str, ...]]:
    """All runs of `length` words of a text."""
    words = words_of(text)
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}
