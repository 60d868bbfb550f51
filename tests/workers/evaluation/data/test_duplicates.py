from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.data import duplicates
from workers.evaluation.data.duplicates import (
    clusters,
    frame_of,
    join_by,
    repeats,
    same_words,
    words_of,
)


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


_texts = st.lists(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8).map(" ".join), max_size=12
)


@given(_texts, st.sampled_from([0.5, 0.7, 0.9, 1.0]))
def test_clusters_are_those_of_comparing_all_pairs(texts: list[str], threshold: float) -> None:
    assert clusters(texts, threshold) == _slow_clusters(texts, threshold)


@given(_texts, _texts)
def test_what_repeats_another_text_is_found_as_by_comparing_all_pairs(
    texts: list[str], others: list[str]
) -> None:
    slow = {
        place
        for place, text in enumerate(texts)
        if any(len(set(_slow_clusters([text, other], 0.7))) == 1 for other in others)
    }
    assert repeats(texts, others) == slow


def test_a_text_does_not_repeat_what_only_a_third_one_does() -> None:
    first, second, third = "a b c d e f", "a b c d e f g h", "b c d e f g h i"
    assert clusters([first, second, third]) == [0, 0, 0]
    assert repeats([third, second], [first]) == {1}


def test_an_instruction_to_all_does_not_make_texts_near_duplicates() -> None:
    statements = [
        "people share their things",
        "people share their food",
        "bridges should be green",
        "gardens need long winters",
        "neighbours talk too loudly",
    ]
    asked = [
        f"Would you ever say the following sentence yourself: {text}? "
        "Think of it for a moment, then please answer with yes or no, and tell us why."
        for text in statements
    ]
    assert clusters(asked) == [0, 0, 0, 0, 0]
    frame = frame_of(asked * 2)
    assert {"would", "sentence", "why"} <= frame
    assert frame.isdisjoint({"gardens", "share"})
    assert clusters(asked, frame=frame) == [0, 0, 2, 3, 4]
    assert repeats([asked[1], asked[4]], [asked[0], asked[3]], frame) == {0}
    assert frame_of(asked) == frozenset()


def test_what_differs_by_a_name_is_near_whatever_all_have() -> None:
    texts = [f"what is the capital of place{i}" for i in range(12)]
    assert clusters(texts, frame=frame_of(texts)) == [0] * 12


def test_one_word_changed_in_ten_is_a_near_duplicate() -> None:
    text = "the waiter at the old harbour cafe was truly awful to my guests"
    assert clusters([text, "something else entirely", text.replace("awful", "lovely")]) == [0, 1, 0]


def test_case_and_punctuation_do_not_tell_texts_apart() -> None:
    assert clusters(["It is GOOD, really!", "it is good really"]) == [0, 0]
    assert same_words("It is GOOD, really!") == same_words(" it is\ngood - really")
    assert same_words("it is good really") != same_words("it really is good")


def test_kana_and_chinese_characters_are_words() -> None:
    assert words_of("今日は good天気") == ["今", "日", "は", "good", "天", "気"]
    assert words_of("don't 오늘 날씨") == ["don't", "오늘", "날씨"]
    assert clusters(["今日はとても良い天気です", "今日はとても良い天気だ", "猫が好き"]) == [0, 0, 2]


def test_texts_without_words_are_left_alone() -> None:
    assert clusters(["!!!", "???", "", "!!!"]) == [0, 1, 2, 0]
    assert repeats(["!!!", "..."], ["!!!", "???"]) == {0}
    assert same_words("!!!") != same_words("???")


def test_a_common_key_joins_clusters() -> None:
    assert join_by([0, 1, 1, 3, 4], ["p", None, "p", None, "q"]) == [0, 0, 0, 3, 4]


def test_ten_thousand_texts_are_clustered_in_seconds() -> None:
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(2000)]
    texts = [" ".join(rng.choices(vocabulary, k=15)) for _ in range(10_000)]
    assert len(set(clusters(texts))) == 10_000


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each two texts whose words are compared."""
    calls: list[int] = []
    similar = duplicates._similar

    def counted(first: frozenset[str], second: frozenset[str], threshold: float) -> bool:
        calls.append(1)
        return similar(first, second, threshold)

    monkeypatch.setattr(duplicates, "_similar", counted)
    return calls


def _drawn(texts: int, words: int) -> list[str]:
    rng = random.Random(0)
    vocabulary = [f"word{i}" for i in range(2_000)]
    return [" ".join(rng.choices(vocabulary, k=words)) for _ in range(texts)]


@pytest.mark.parametrize("words", [15, 60])
def test_few_pairs_of_texts_from_a_small_vocabulary_are_compared(
    compared: list[int], words: int
) -> None:
    texts = _drawn(1_000, words)
    assert len(set(clusters(texts))) == len(texts)
    assert len(compared) < 0.01 * len(texts) * (len(texts) - 1) / 2


def test_a_thousand_prompts_are_compared_with_few_of_eight_thousand_texts(
    compared: list[int],
) -> None:
    texts = _drawn(9_000, 15)
    assert repeats(texts[8_000:], texts[:8_000]) == set()
    assert len(compared) < 0.01 * 8_000 * 1_000


def test_of_texts_that_all_repeat_each_other_each_is_compared_with_one(
    compared: list[int],
) -> None:
    texts = [f"what is the capital of place{i}" for i in range(1_200)]
    assert len(repeats(texts[1_000:], texts[:1_000])) == 200
    assert len(compared) == 200
