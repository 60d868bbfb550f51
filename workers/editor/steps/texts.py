"""The texts of an edit: those that came with the request, those that a scorer chooses, or the base
model's own responses."""

from __future__ import annotations

from dataclasses import dataclass

from models_store.schemas.behaviors import Behavior, to_lines, with_preserved
from models_store.schemas.items import Item
from models_store.schemas.records import Artifact
from models_store.schemas.report import MadeTexts, Report
from workers import progress
from workers.editor.jobs.task import Task
from workers.evaluation.scorers.prepare import Judges
from workers.making.base_responses import with_base_responses
from workers.making.cache import Cache
from workers.making.scored_texts import scored_texts

_SHARE = 0.8
"""Of the stage `extract`: generating takes longer than reading."""


@dataclass(frozen=True)
class Texts:
    """What an edit is fitted on and tested with."""

    behavior: Behavior
    """With texts."""
    preserve: tuple[Item, ...]
    made: MadeTexts | None = None
    """How its texts were made; None if they were given."""
    file: Artifact | None = None
    """Those that this attempt made, in the form of an edit's `texts.jsonl`: a repeat of the edit
    begins with them."""


def texts_of(task: Task, seed: int, cache: Cache, judges: Judges, earlier: Report | None) -> Texts:
    """The texts of the request, or made by its scorer or the base model, and stored.

    Args:
        earlier: the receipt of the edit that this one repeats.

    Raises:
        EditFailed: `behavior_not_shown`, the base model hardly ever shows one of the sides.
        InvalidRequest, CorruptArtifact, NotFound, Unavailable: as `Task`, `scored_texts` and
            `with_base_responses` say.
    """
    behavior, preserve = task.texts()
    if not behavior.lacks_texts:
        return Texts(behavior, preserve, earlier.made_texts if earlier is not None else None)
    with progress.step("extract"), progress.step("base text", _SHARE):
        if behavior.undesired_from is not None:
            texts = with_base_responses(behavior, seed, cache)
        else:
            texts = scored_texts(behavior, seed, cache, judges)
    lines = with_preserved(to_lines(texts.behavior), preserve)
    file = task.save("texts", "texts.jsonl", lines)
    return Texts(texts.behavior, preserve, texts.made, file)
