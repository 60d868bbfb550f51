from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.data import duplicates
from workers.evaluation.data.duplicates import clusters, join_by, words_of


def _slow_clusters(texts: list[str], threshold: float) -> list[int]:
    """All pairs, then the closure, by the definition."""
    bags = [set(words_of(text)) for text in texts]
    group = list(range(len(texts)))
    for a in range(len(texts)):
        for b in range(a):
            union = bags[a] | bags[b]
            if union and len(bags[a] & bags[b]) / len(union) >= threshold:
                old, new = max(group[a], group[b]), min(group[a], group[b])
                group = [new if one == old else one for one in group]
    return group


@given(
    st.lists(
        st.lists(
            st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), min_size=1, max_size=8
        ).map(" ".join),
        max_size=12,
    ),
    st.sampled_from([0.5, 0.7, 0.9, 1.0]),
)
def test_clusters_are_those_of_comparing_all_pairs(texts: list[str], threshold: float) -> None:
    assert clusters(texts, threshold) == _slow_clusters(texts, threshold)


def test_one_word_changed_in_ten_is_a_near_duplicate() -> None:
    text = "the waiter at the old harbour cafe was truly awful to my guests"
    assert clusters([text, "something else entirely", text.replace("awful", "lovely")]) == [0, 1, 0]


def test_case_and_punctuation_do_not_tell_texts_apart() -> None:
    assert clusters(["It is GOOD, really!", "it is good really"]) == [0, 0]


def test_kana_and_chinese_characters_are_words() -> None:
    assert words_of("今日は good天気") == ["今", "日", "は", "good", "天", "気"]
    assert words_of("don't 오늘 날씨") == ["don't", "오늘", "날씨"]
    assert clusters(["今日はとても良い天気です", "今日はとても良い天気だ", "猫が好き"]) == [0, 0, 2]


def test_texts_without_words_are_left_alone() -> None:
    assert clusters(["!!!", "???", ""]) == [0, 1, 2]


def test_a_common_key_joins_clusters() -> None:
    assert join_by([0, 1, 1, 3, 4], ["p", None, "p", None, "q"]) == [0, 0, 0, 3, 4]


def test_ten_thousand_texts_are_clustered_in_seconds() -> None:
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(2000)]
    texts = [" ".join(rng.choices(vocabulary, k=15)) for _ in range(10_000)]
    assert len(set(clusters(texts))) == 10_000


@pytest.mark.parametrize("words", [15, 60])
def test_few_pairs_of_texts_from_a_small_vocabulary_are_compared(
    monkeypatch: pytest.MonkeyPatch, words: int
) -> None:
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(2_000)]
    texts = [" ".join(rng.choices(vocabulary, k=words)) for _ in range(1_000)]
    compared = 0

    similar = duplicates._similar

    def counted(first: frozenset[str], second: frozenset[str], threshold: float) -> bool:
        nonlocal compared
        compared += 1
        return similar(first, second, threshold)

    monkeypatch.setattr(duplicates, "_similar", counted)
    assert len(set(clusters(texts))) == len(texts)
    assert compared < 0.01 * len(texts) * (len(texts) - 1) / 2
