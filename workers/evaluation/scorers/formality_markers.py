"""Informal language by the words and spellings that give it away."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.statistics import Floats

INFO = ScorerInfo(
    name="formality-markers",
    measures="informal language, by lists of informal and formal words and spellings",
    licence="Apache-2.0 (part of Scalpel)",
    trained_on="nothing: lists of words",
    # A text without any marker has 0.5 and is not called informal.
    threshold=0.55,
)

# Spellings matter here, so these are matched with regard to case where it says so.
_INFORMAL = re.compile(
    r"""
      \b(?:gonna|wanna|gotta|kinda|sorta|dunno|lemme|gimme|ain't|y'all|cuz|coz|'cause|'em
        |yeah|yep|yup|nope|nah|hey|hi|hiya|yo|oops|whoa|wow|ugh|meh|duh|hmm+|haha+|lol|lmao|omg
        |btw|fyi|idk|imo|tbh|asap|thx|pls|plz|u|ur
        |guys?|folks|buddy|dude|mate|pal|bro|kids?|mom|dad|stuff|thingy|things|bunch|loads|tons
        |super|totally|basically|honestly|literally|really|pretty|awesome|cool|crazy|insane
        |nuts|weird|gross|lame|sucks?|bummed|okay|ok|alright|anyway|anyways|no\ worries|no\ way
        |right\ now|a\ lot|lots|big\ time|for\ sure|kind\ of|sort\ of|you\ know|hang\ on|hold\ on
        |check\ out|mess\ up|messed\ up|figure\ out|hit\ me\ up|no\ biggie|heads\ up|just)\b
    | \b\w+(?:n't|'re|'ve|'ll|'d|'m)\b            # contractions
    | \b(?:it|that|what|there|here|who|he|she|let|how|where)'s\b
    | !+ | \?\?+ | \.\.\.+                         # marks of speech
    | (?<![:/\w])[:;]-?[)(DPp]                     # smileys
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FORMAL = re.compile(
    r"""
      \b(?:furthermore|moreover|therefore|thus|hence|consequently|accordingly|nevertheless
        |nonetheless|notwithstanding|whereas|whereby|herein|hereby|thereof|therein|pursuant
        |regarding|concerning|respectively|subsequently|prior\ to|in\ accordance|in\ addition
        |with\ respect\ to|with\ regard\ to|in\ order\ to|due\ to|as\ well\ as|upon|per
        |shall|must|ought|may|kindly|sincerely|regards|respectfully|cordially|dear
        |please|request(?:s|ed|ing)?|inquir(?:y|e|ies)|inform(?:s|ed|ing)?|advis(?:e|ed|es)
        |assist(?:s|ed|ance)?|obtain(?:s|ed)?|acquir(?:e|ed)|provid(?:e|ed|es|ing)
        |requir(?:e|ed|es|ement|ements)|ensur(?:e|es|ed|ing)|commenc(?:e|es|ed|ing)
        |conclud(?:e|ed|es)|demonstrat(?:e|ed|es)|indicat(?:e|ed|es)|establish(?:es|ed)?
        |facilitat(?:e|es|ed)|implement(?:s|ed|ation)?|utili[sz](?:e|ed|es|ing)
        |sufficient|numerous|additional|appropriate|significant|substantial|considerable
        |individuals?|residents?|participants?|personnel|committee|department|management
        |documentation|correspondence|procedures?|regulations?|attendance|notification
        |cannot|do\ not|does\ not|did\ not|is\ not|are\ not|will\ not|would\ not|have\ not)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CARELESS = re.compile(r"[.!?]\s+[a-z]|\bi\b(?!\.)|\b[A-Z]{4,}\b")
"""A sentence or an "I" without its capital, a word that shouts: with regard to case."""


class FormalityMarkers:
    """`(1 + informal) / (2 + informal + formal)`: 0.5 without any marker."""

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        return np.array([_informality(text) for text in texts], dtype=np.float64)


def _informality(text: str) -> float:
    plain = text.replace("’", "'").strip()
    # A continuation may begin in the middle of a sentence, so its first letter says nothing.
    informal = len(_INFORMAL.findall(plain)) + len(_CARELESS.findall(plain))
    formal = len(_FORMAL.findall(plain))
    return (1 + informal) / (2 + informal + formal)


def make(training: Training) -> FormalityMarkers:
    return FormalityMarkers()
