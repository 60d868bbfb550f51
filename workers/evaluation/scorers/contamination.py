"""Why a scorer's word may count for less: what it shares with what it judges."""

from __future__ import annotations

from collections.abc import Sequence

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.data.duplicates import repeats, words_of
from workers.evaluation.data.splits import Splits, full_text

FEWEST_WORDS = 4
"""Shorter prompts begin many a text by chance."""


def contamination(
    info: ScorerInfo, splits: Splits, *, is_base: bool, teacher: str | None = None
) -> str | None:
    """What there is to say against a scorer, in whole sentences; None if there is nothing.

    Args:
        is_base: the judge is the model that is edited.
        teacher: the scorer that chose the texts, if one did.
    """
    sentences = []
    if is_base:
        sentences.append(
            "The judge is the very model that is edited, before the edit: it may be blind to "
            "what it does itself."
        )
    if info.name == teacher:
        sentences.append(
            "It chose the texts that the edit was fitted on: its AUC on them is no evidence, and "
            "a lower score may be what it errs on."
        )
    if info.learns:
        sentences.append(
            f"It learned from {len(splits.scorer)} of the behaviour's own texts: other texts than "
            "the edit was fitted on, but of one source with them."
        )
        if teacher is not None:
            sentences.append(
                f"The scorer {teacher} chose them: this one is its student, and may err as it does."
            )
        if splits.clusters_broken:
            sentences.append("Some of them nearly repeat texts that the edit was fitted on.")
        repeated = _repeated(splits)
        if repeated:
            prompts = len(splits.validate) + len(splits.test)
            sentences.append(
                f"{repeated} of {prompts} prompts nearly repeat, or begin, one of them."
            )
    return " ".join(sentences) or None


def _repeated(splits: Splits) -> int:
    """Prompts that nearly repeat a text of the scorer split, or are its beginning."""
    texts = [full_text(item) for item in splits.scorer.items]
    prompts = [prompt.text for prompt in (*splits.validate, *splits.test)]
    near = repeats(prompts, texts)
    beginnings = [" ".join(words_of(text)) for text in texts]
    return sum(place in near or _begins(prompt, beginnings) for place, prompt in enumerate(prompts))


def _begins(prompt: str, texts: Sequence[str]) -> bool:
    words = words_of(prompt)
    start = " ".join(words)
    return len(words) >= FEWEST_WORDS and any(f"{text} ".startswith(f"{start} ") for text in texts)
