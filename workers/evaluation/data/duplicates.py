"""Near-duplicates: texts that share most of their words, found exactly and without all pairs."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain

_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""Kana and Chinese characters, which stand without spaces between words: each counts as one."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:'[^\W{_UNSPACED}]+)?")

_SHARED = 3
"""Rare words in common that make two texts worth comparing: with 1 most comparisons are in vain,
with many more the words are no longer rare."""


def words_of(text: str) -> list[str]:
    """The words of a text in order, without regard to case."""
    return _WORD.findall(text.casefold())


def clusters(texts: Sequence[str], threshold: float = 0.7) -> list[int]:
    """Join texts whose sets of words overlap, and texts joined through a third.

    Two texts are near-duplicates when |A ∩ B| / |A ∪ B| of their words is at least `threshold`.
    Only pairs that share three rare words are compared: with the words of each set ordered from
    rare to common, two sets that similar share `n` of their first `|A| - ceil(threshold·|A|) + n`
    words, for every n up to `ceil(threshold·|A|)` (prefix filtering; Chaudhuri, Ganti and Kaushik
    2006; Wang, Li and Feng 2012). The result is exact.

    Returns:
        For each text the smallest index of its cluster.
    """
    bags = [frozenset(words_of(text)) for text in texts]
    frequency = Counter(word for bag in bags for word in bag)
    parent = list(range(len(texts)))
    index: dict[str, list[int]] = defaultdict(list)
    for here, bag in enumerate(bags):
        ordered = sorted(bag, key=lambda word: (frequency[word], word))
        overlap = math.ceil(threshold * len(bag))
        least = min(_SHARED, overlap)
        prefix = ordered[: len(bag) - overlap + least]
        shared = Counter(chain.from_iterable(index[word] for word in prefix))
        for other, words in shared.items():
            if words >= least and _similar(bag, bags[other], threshold):
                _join_(parent, here, other)
        for word in prefix:
            index[word].append(here)
    return [find(parent, node) for node in range(len(texts))]


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
