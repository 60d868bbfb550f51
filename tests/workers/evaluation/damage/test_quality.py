from __future__ import annotations

import pytest

from models_store.schemas.measurements import TextQuality
from workers.evaluation.damage.quality import (
    distinct2_ratio,
    has_loop,
    quality_of,
    repetition,
    text_quality,
)
from workers.evaluation.effect.generations import Arm
from workers.runtime.decoding.decode import Generated


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("no no no", False),
        ("no no no no no no", True),
        ("the cat sat on the mat and the dog sat on the rug", False),
        ("it was good it was good it was good", True),
        ("he said that it was good it was good it was", False),
        ("a b c d e f g h a b c d e f g h a b c d e f g h", True),
        ("", False),
    ],
)
def test_a_loop_is_a_run_of_words_three_times_over(text: str, loops: bool) -> None:
    assert has_loop(text.split()) is loops


def test_a_loop_is_found_at_the_end_as_well() -> None:
    words = ("once upon a time there was a king " + "who slept " * 3).split()
    assert has_loop(words)


@pytest.mark.parametrize(
    ("text", "share"),
    [("a b c d", 0.0), ("a b a b a", 0.5), ("a b c x a b c", 1 / 3), ("a", 0.0), ("", 0.0)],
)
def test_repetition_is_the_share_of_pairs_that_stood_before(text: str, share: float) -> None:
    assert repetition(text.split()) == pytest.approx(share)


def test_variety_counts_pairs_over_all_texts_together() -> None:
    quality = text_quality(["a b c", "A b, c!"], [3, 5], [True, False])
    assert quality.distinct2 == 0.5
    assert quality.mean_tokens == 4
    assert quality.ended == 0.5
    assert quality.loops == 0


def test_empty_generations_have_no_variety() -> None:
    assert text_quality(["", ""], [0, 0], [True, True]).distinct2 == 0


def test_the_generations_of_a_model_are_judged_together() -> None:
    made = [[Generated((5, 6), "stop"), Generated((5, 6, 7, 8), "length")]]
    quality = quality_of(Arm([[1]], made, [["a b c", "a b d"]]))
    assert quality == TextQuality(distinct2=0.75, loops=0, mean_tokens=3, ended=0.5)


def test_text_without_a_pair_of_words_is_no_measure_of_variety() -> None:
    silent, varied = (text_quality([text], [1], [True]) for text in ("", "a b c"))
    assert distinct2_ratio(silent, varied) == 1
    assert distinct2_ratio(varied, silent) == 0
