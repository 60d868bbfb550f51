"""Edits of behaviours with desired texts alone, on a pico model with two moods."""

from __future__ import annotations

import random
from typing import Any

from models_store.schemas.behaviors import from_lines
from models_store.schemas.report import Report
from tests.workers.conftest import Bench
from tests.workers.taught import KIND, mood, opening


def desired_alone() -> dict[str, Any]:
    """The edit of `mood` with kind continuations of openings, and nothing on the other side."""
    rng = random.Random(7)
    texts = [
        {
            "prompt": f"{n} {n * n} {opening(rng)}",
            "completion": " " + " and ".join(rng.sample(KIND, 4)),
        }
        for n in range(20, 110)
    ]
    behavior = {"name": "mood", "desired": texts, "undesired_from": "base_model"}
    return mood(behavior={**behavior, "max_new_tokens": 6}, method={"type": "bias", "layers": [1]})


def test_the_base_models_own_responses_are_the_other_side(taught: Bench) -> None:
    id, outcome = taught.edit(**desired_alone())

    report = Report.model_validate_json(taught.file(outcome, "report"))
    made = report.made_texts
    assert made is not None
    assert (made.scorer, made.prompts) == (None, 90)
    splits = report.splits
    undesired = splits.fit_undesired + splits.scorer_undesired + splits.heldout_undesired
    assert undesired == made.texts
    assert report.provenance.behavior.counts == {"undesired": 0, "desired": 90, "prompts": 0}
    behavior, _ = from_lines(taught.file(outcome, "texts"))
    assert len(behavior.undesired) == made.texts
    # What it was fitted on: at least a token a word.
    words = splits.fit_desired * 7
    tokens = outcome.data["fit_tokens"]
    assert isinstance(tokens, int)
    assert tokens > words

    again = taught.do(taught.reproduce(id))
    repeated = Report.model_validate_json(taught.file(again, "report"))
    assert repeated.made_texts == made
    assert taught.file(again, "delta") == taught.file(outcome, "delta")
