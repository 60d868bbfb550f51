"""The scorers of generated text by name, and what is known of each; a behaviour names them.

What they do is in `workers.evaluation.scorers`; a scorer is added by a row here and a file there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

DEFAULT_SCORERS: tuple[str, ...] = ("tfidf", "char-ngrams")
"""For behaviours that name none: both fit any behaviour, since they learn it from its texts."""


class ScorerInfo(BaseModel):
    """What a scorer measures, its threshold, training data and licence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    measures: str
    """In a few words; the score is near 1 where there is much of it."""
    licence: str
    trained_on: str
    threshold: float
    """A text whose score reaches it counts as undesired. Fixed here, before any edit is made."""
    learns: bool = False
    """It learns from the behaviour's own texts."""
    turnable: bool = True
    """It is turned around for a behaviour that means its other side. Not so one that is told
    which side is undesired."""
    exact: bool = False
    """It compares with what the prompt says, so there is nothing that held-out texts could tell
    of how well it does."""


_ALL = (
    ScorerInfo(
        name="tfidf",
        measures="likeness to the undesired texts, by words and runs of letters",
        licence="Apache-2.0 (part of Scalpel; uses scikit-learn, BSD-3-Clause)",
        trained_on="a quarter of the behaviour's own texts, which the edit is not fitted on",
        threshold=0.5,
        learns=True,
    ),
    ScorerInfo(
        name="char-ngrams",
        measures="likeness to the undesired texts, by runs of letters, classified another way",
        licence="Apache-2.0 (part of Scalpel; uses scikit-learn, BSD-3-Clause)",
        trained_on="the same texts as tfidf, so the two are related and may err alike",
        threshold=0.5,
        learns=True,
    ),
    ScorerInfo(
        name="vader",
        measures="negative sentiment, by a lexicon and rules",
        licence="MIT (vaderSentiment)",
        trained_on="nothing of ours: a lexicon of 7,500 words rated by people",
        # VADER's own limit for negative: a compound score of -0.05.
        threshold=0.525,
    ),
    ScorerInfo(
        name="profanity",
        measures="profane or offensive language, by a linear classifier over words",
        licence="MIT (alt-profanity-check)",
        trained_on="public tweets (Davidson et al.) and Wikipedia comments (Jigsaw)",
        threshold=0.5,
    ),
    ScorerInfo(
        name="refusal-phrases",
        measures="a refusal, by phrases within the first 200 characters",
        licence="Apache-2.0 (part of Scalpel)",
        trained_on="nothing: a list of phrases",
        threshold=0.5,
    ),
    ScorerInfo(
        name="formality-markers",
        measures="informal language, by lists of informal and formal words and spellings",
        licence="Apache-2.0 (part of Scalpel)",
        trained_on="nothing: lists of words",
        # A text without any marker has 0.5 and is not called informal.
        threshold=0.55,
    ),
    ScorerInfo(
        name="length",
        measures="long answers, by the number of words",
        licence="Apache-2.0 (part of Scalpel)",
        trained_on="a quarter of the behaviour's own texts: the length midway between the sides",
        threshold=0.5,
        learns=True,
    ),
    ScorerInfo(
        name="politeness-markers",
        measures="impoliteness, by lists of polite and rude ways to put things",
        licence="Apache-2.0 (part of Scalpel)",
        trained_on="nothing: lists of words",
        # A text without any marker has 0.5 and is not called rude.
        threshold=0.55,
    ),
    ScorerInfo(
        name="yes-no",
        measures="yes to the behaviour's question, by the base model's own probabilities",
        licence="Apache-2.0 (part of Scalpel); what the base model says is under its own licence",
        trained_on="nothing: the unedited base model is asked, so it judges as well as that can",
        threshold=0.5,
        turnable=False,
    ),
    ScorerInfo(
        name="answer-match",
        measures="whether an answer begins with the one that its prompt calls undesired",
        licence="Apache-2.0 (part of Scalpel)",
        trained_on="nothing: it compares",
        # 0.5 is neither that answer nor its opposite.
        threshold=0.75,
        turnable=False,
        exact=True,
    ),
)

SCORERS: Mapping[str, ScorerInfo] = MappingProxyType({info.name: info for info in _ALL})
