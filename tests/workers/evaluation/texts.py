"""Behaviours made by program, big enough to split."""

from __future__ import annotations

import random
from typing import Any

from models_store.schemas.behaviors import Behavior

_PEOPLE = [
    "waiter",
    "neighbour",
    "teacher",
    "plumber",
    "driver",
    "doctor",
    "singer",
    "baker",
    "guard",
    "clerk",
    "coach",
    "painter",
]
_PLACES = [
    "station",
    "garden",
    "market",
    "office",
    "library",
    "harbour",
    "school",
    "bridge",
    "museum",
    "bakery",
]
_KIND = [
    "lovely",
    "kind",
    "warm",
    "helpful",
    "pleasant",
    "charming",
    "gentle",
    "bright",
    "happy",
    "wonderful",
]
_CRUEL = [
    "awful",
    "rude",
    "bitter",
    "nasty",
    "dreadful",
    "horrid",
    "gloomy",
    "cruel",
    "sour",
    "miserable",
]
_FILLERS = [
    "yesterday",
    "morning",
    "again",
    "while",
    "rain",
    "fell",
    "outside",
    "quite",
    "early",
    "before",
    "lunch",
    "during",
    "summer",
    "after",
    "dinner",
    "near",
    "noon",
    "without",
    "warning",
    "since",
    "Monday",
    "despite",
    "traffic",
]


def sentences(side: str, count: int, seed: int = 0) -> list[str]:
    """Different sentences of one side (`kind` or `cruel`), no two of them near-duplicates."""
    rng = random.Random(f"{side}/{seed}")
    tone = _KIND if side == "kind" else _CRUEL
    made: dict[str, None] = {}
    while len(made) < count:
        words = [rng.choice(_PEOPLE), *rng.sample(tone, 2), rng.choice(_PLACES)]
        words += rng.sample(_FILLERS, 5)
        rng.shuffle(words)
        made[" ".join(words)] = None
    return list(made)


def behavior(texts: int = 40, **fields: Any) -> Behavior:
    """Cruel against kind sentences, `texts` a side."""
    return Behavior.model_validate(
        {
            "name": "kinder",
            "undesired": sentences("cruel", texts),
            "desired": sentences("kind", texts),
            **fields,
        }
    )
