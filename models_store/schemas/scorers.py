"""The scorers of generated text by name, and what is known of each; a behaviour names them.

A scorer is a module with `INFO` and a function `make`, registered as an entry point of
`scalpel.scorers`. The API loads it for `INFO`, so it imports heavy libraries where it uses them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ConfigDict

from models_store.registry import Registry
from models_store.schemas.base import DocumentedModel

DEFAULT_SCORERS: tuple[str, ...] = ("tfidf", "char-ngrams")
"""For behaviours that name none: both fit any behaviour, since they learn it from its texts."""
LEXICONS: tuple[str, ...] = (
    "profanity",
    "vader",
    "politeness-markers",
    "formality-markers",
    "refusal-phrases",
)
"""Those that learned elsewhere or from nothing: one stands in for a default that learns too
little."""


class ScorerInfo(DocumentedModel):
    """What a scorer measures, its threshold, training data and licence."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: str
    """Its name in requests."""
    measures: str
    """In a few words; the score is near 1 where there is much of it."""
    licence: str
    """Of its model or lexicon."""
    trained_on: str
    """What it learned from before it met the texts."""
    threshold: float
    """A text whose score reaches it counts as undesired. Fixed here, before any edit is made."""
    learns: bool = False
    """It learns from the behaviour's own texts."""
    turnable: bool = True
    """It is reversed for a behaviour that means its other side. Not so one that is given the
    undesired side."""
    exact: bool = False
    """It compares with what the prompt says, so held-out texts could not show how well it does."""


SCORERS: Mapping[str, ScorerInfo] = Registry("scalpel.scorers", lambda module: module.INFO)
