"""What generated text looks like, whatever it says: variety, loops, length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from models_store.schemas.measurements import TextQuality
from workers.evaluation.data.duplicates import words_of
from workers.evaluation.effect.generations import Arm

LONGEST_LOOP = 8
"""Words of the longest run that is looked for."""
LEAST_REPEATS = 3
LEAST_WORDS = 6
"""Words that a loop covers at least: "no, no, no" is speech."""


def quality_of(arm: Arm) -> TextQuality:
    """Judge all generations of one model."""
    made = arm.flat_made()
    return text_quality(
        arm.flat_texts(),
        [len(text.ids) for text in made],
        [text.finish_reason == "stop" for text in made],
    )


def text_quality(
    texts: Sequence[str], lengths: Sequence[int], ended: Sequence[bool]
) -> TextQuality:
    """Judge the generations of one model together.

    Args:
        texts: at least one.
        lengths: tokens of each.
        ended: whether the model ended each by itself.
    """
    words = [words_of(text) for text in texts]
    pairs = [pair for text in words for pair in pairwise(text)]
    return TextQuality(
        distinct2=len(set(pairs)) / len(pairs) if pairs else 0.0,
        loops=sum(map(has_loop, words)) / len(words),
        mean_tokens=sum(lengths) / len(lengths),
        ended=sum(ended) / len(ended),
    )


def distinct2_ratio(base: TextQuality, edited: TextQuality) -> float:
    """Variety of the edited model's text over that of the base's; 1 where that has none."""
    return edited.distinct2 / base.distinct2 if base.distinct2 else 1.0


def repetition(words: Sequence[str]) -> float:
    """Share of the pairs of neighbouring words that stood in the text before: `seq-rep-2` of
    Welleck et al. 2019 (arXiv 1908.04319), of words; 0 without any pair."""
    pairs = list(pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def has_loop(words: Sequence[str]) -> bool:
    """Whether a run of up to 8 words stands 3 times or more in a row, 6 words or more in all."""
    for length in range(1, LONGEST_LOOP + 1):
        same = 0
        for place in range(length, len(words)):
            same = same + 1 if words[place] == words[place - length] else 0
            covered = same + length
            if covered >= max(LEAST_REPEATS * length, LEAST_WORDS):
                return True
    return False
