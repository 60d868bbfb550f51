from __future__ import annotations

from dataclasses import replace
from typing import Any

from models_store.schemas.items import Prompt, text_of
from models_store.schemas.scorers import SCORERS
from tests.workers.evaluation.texts import behavior
from workers.evaluation.data.splits import Splits, split_behavior
from workers.evaluation.scorers.contamination import contamination
from workers.evaluation.scorers.prepare import prepare_scorers


def _splits(**changes: Any) -> Splits:
    made = behavior(40, prompts=["It was the last day", "How are things there"])
    return replace(split_behavior(made, seed=0), **changes)


def _said(name: str, splits: Splits, *, is_base: bool = False) -> str:
    return contamination(SCORERS[name], splits, is_base=is_base) or ""


def test_a_scorer_that_learned_nothing_from_these_texts_has_nothing_against_it() -> None:
    for name in ("vader", "profanity", "refusal-phrases", "politeness-markers", "answer-match"):
        assert _said(name, _splits()) == ""


def test_a_scorer_that_learned_from_the_behaviours_texts_says_from_how_many() -> None:
    splits = _splits()
    for name in ("tfidf", "char-ngrams", "length"):
        assert f"learned from {len(splits.scorer)} of the behaviour's own texts" in _said(
            name, splits
        )
        assert "prompts" not in _said(name, splits)


def test_prompts_that_repeat_texts_of_the_scorers_are_counted() -> None:
    splits = _splits()
    text = text_of(splits.scorer.undesired[0])
    beginning = " ".join(text.upper().split()[:4])
    almost = " ".join([*text.split()[1:], "indeed"])
    too_short = text.split()[0]
    prompts = tuple(
        Prompt(text=p) for p in (beginning, almost, too_short, "Another one altogether")
    )
    splits = replace(splits, test=prompts, validate=())
    assert "2 of 4 prompts nearly repeat, or begin, one of them" in _said("tfidf", splits)
    assert _said("vader", splits) == ""


def test_a_broken_split_is_told() -> None:
    assert "nearly repeat texts that the edit" in _said("tfidf", _splits(clusters_broken=True))


def test_a_judge_that_is_the_edited_model_is_told() -> None:
    assert "the very model that is edited" in _said("yes-no", _splits(), is_base=True)


def test_the_card_of_a_scorer_carries_it() -> None:
    made = behavior(40, scorers=("tfidf", "vader"))
    learned, lexicon = prepare_scorers(made, split_behavior(made, seed=0), seed=0)
    assert "learned from" in str(learned.card(1.0).contamination)
    assert lexicon.card(1.0).contamination is None
