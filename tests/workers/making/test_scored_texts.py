"""Texts that a scorer chooses of what a model says, on a model that speaks in two moods."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from models_store.errors import EditFailed, InvalidRequest
from models_store.objects.store import open_store
from models_store.schemas.behaviors import Behavior, checked, from_lines, to_lines
from models_store.schemas.items import CompletionItem
from models_store.settings import Settings
from tests.workers.taught import CRUEL, KIND, by_scorer, opening
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.scorers.prepare import NOBODY, prepare_scorers
from workers.making.cache import Cache
from workers.making.scored_texts import (
    CHOSEN,
    SAMPLES,
    ScoredTexts,
    divided,
    generated_tokens,
    scored_texts,
    stand_in,
)
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base


@pytest.fixture(scope="module")
def model(taught_folder: Path) -> LoadedModel:
    return load_base(taught_folder, device="cpu", dtype="float32")


@pytest.fixture
def cache(settings: Settings, model: LoadedModel) -> Cache:
    return Cache(open_store(settings), "default", EditedModel(model))


def behavior(**changes: Any) -> Behavior:
    return checked(Behavior.model_validate(by_scorer(**changes)["behavior"]))


@pytest.fixture
def scored(cache: Cache) -> ScoredTexts:
    return scored_texts(behavior(), 0, cache, NOBODY)


def prompts_of(items: Any) -> list[str]:
    assert all(isinstance(item, CompletionItem) for item in items)
    return [item.prompt for item in items]


def test_cruel_continuations_are_undesired_and_kind_ones_of_the_same_prompts_are_not(
    scored: ScoredTexts,
) -> None:
    made = scored.behavior
    assert prompts_of(made.undesired) == prompts_of(made.desired)
    for items, words, others in ((made.undesired, CRUEL, KIND), (made.desired, KIND, CRUEL)):
        said = [set(item.completion.split()) for item in items if isinstance(item, CompletionItem)]
        assert sum(bool(text & set(words)) for text in said) > 0.9 * len(said)
        assert sum(bool(text & set(others)) for text in said) < 0.3 * len(said)


def test_what_was_found_is_counted(scored: ScoredTexts) -> None:
    made, of = scored.made, scored.behavior
    assert (made.scorer, made.samples) == ("vader", SAMPLES)
    assert made.texts == len(of.undesired) == len(of.desired)
    assert made.texts <= CHOSEN * made.prompts_used
    assert made.prompts_used == len(set(prompts_of(of.undesired))) <= made.prompts
    assert 0 < made.flagged < made.continuations <= made.prompts * SAMPLES


def test_no_text_is_made_of_a_prompt_for_validation_or_test(scored: ScoredTexts) -> None:
    given, made = behavior(), scored.behavior
    learned = set(prompts_of((*made.undesired, *made.desired)))
    others = {prompt.text for prompt in made.prompts}
    assert learned.isdisjoint(others)
    assert learned | others <= {prompt.text for prompt in given.prompts}
    splits = split_behavior(made, 0)
    assert splits.prompts_dropped == 0
    assert {prompt.text for prompt in (*splits.validate, *splits.test)} == others


def test_prompts_that_name_a_split_are_never_continued_nor_are_those_of_their_template() -> None:
    rng = random.Random(4)
    free = [{"text": f"{opening(rng)} in year {n}", "split": None} for n in range(60)]
    free[:3] = [{**prompt, "template": "t"} for prompt in free[:3]]
    named = [
        {"text": f"item {n} is said to be {n * n}", "split": split, "template": template}
        for n, (split, template) in enumerate([("test", "t"), ("validate", None), ("test", None)])
    ]
    made = behavior(prompts=[*free, *named, "one more"])
    learned, others = divided(made.prompts, 0)
    assert len(learned) <= 32
    assert {prompt.text for prompt in others} >= {str(one["text"]) for one in (*free[:3], *named)}
    assert divided(made.prompts, 0) == (learned, others)
    assert divided(made.prompts, 1) != (learned, others)


def test_prompts_that_nearly_repeat_each_other_are_on_one_side() -> None:
    alike = [f"please tell us what you think of the very big house number {n}" for n in range(20)]
    made = behavior(prompts=[*alike, *(prompt.text for prompt in behavior().prompts)])
    learned, _ = divided(made.prompts, 0)
    assert len({prompt.text for prompt in learned} & set(alike)) in (0, 20)


def test_prompts_of_one_template_cannot_be_divided() -> None:
    alike = [f"please tell us what you think of the very big house number {n}" for n in range(70)]
    with pytest.raises(InvalidRequest, match="0 prompts could be continued") as caught:
        divided(behavior(prompts=alike).prompts, 0)
    assert caught.value.errors[0].pointer == "/behavior/prompts"


def test_a_model_that_never_shows_a_side_is_said_to(cache: Cache) -> None:
    told = r"formality-markers flags 0 of \d+ continuations of \d+ prompts .* \(0 %\)"
    with pytest.raises(EditFailed, match=told) as caught:
        scored_texts(behavior(scorer="formality-markers"), 0, cache, NOBODY)
    assert caught.value.code == "behavior_not_shown"


def test_the_scorer_leads_and_its_student_says_whose_it_is(scored: ScoredTexts) -> None:
    splits = split_behavior(scored.behavior, 0)
    vader, tfidf = prepare_scorers(scored.behavior, splits, 0)
    assert (vader.name, tfidf.name) == ("vader", "tfidf")
    assert not vader.reversed
    assert vader.contamination is not None
    assert vader.contamination.startswith("It chose the texts")
    assert tfidf.contamination is not None
    assert "The scorer vader chose them: this one is its student" in tfidf.contamination


def test_the_second_time_the_continuations_come_from_the_cache(cache: Cache) -> None:
    first = scored_texts(behavior(), 0, cache, NOBODY)
    assert (cache.made, cache.reused) == (["generations"], [])
    assert scored_texts(behavior(), 0, cache, NOBODY) == first
    assert cache.reused == ["generations"]


def test_made_texts_can_be_written_and_read(scored: ScoredTexts) -> None:
    read, _ = from_lines(to_lines(scored.behavior))
    assert read == scored.behavior
    assert read.scorer == "vader"
    assert not read.lacks_texts


def test_an_estimate_counts_what_would_be_generated_at_most() -> None:
    given = behavior()
    learned, others = divided(given.prompts, 0)
    assert generated_tokens(given, 0) == len(learned) * SAMPLES * given.max_new_tokens
    made = stand_in(given, 0)
    assert len(made.undesired) == len(made.desired) == CHOSEN * len(learned)
    assert made.prompts == tuple(others)
