"""Undesired texts that are the base model's own responses, on a model that speaks in two moods."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from models_store.errors import EditFailed
from models_store.objects.store import open_store
from models_store.schemas.behaviors import MIN_TEXTS, Behavior, checked, from_lines, to_lines
from models_store.schemas.items import ChatItem, CompletionItem, Item
from models_store.settings import Settings
from tests.workers.taught import CRUEL, KIND, opening
from workers.evaluation.data.splits import split_behavior
from workers.making.base_responses import (
    LEAST_TOKENS,
    generated_tokens,
    unanswered,
    with_base_responses,
)
from workers.making.cache import Cache
from workers.making.scored_texts import ScoredTexts
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base


@pytest.fixture(scope="module")
def model(taught_folder: Path) -> LoadedModel:
    return load_base(taught_folder, device="cpu", dtype="float32")


@pytest.fixture
def cache(settings: Settings, model: LoadedModel) -> Cache:
    return Cache(open_store(settings), "default", EditedModel(model))


def behavior(**changes: Any) -> Behavior:
    """Kind continuations of openings; numbers keep these from nearly repeating each other."""
    rng = random.Random(3)
    desired = [
        {
            "prompt": f"{n} {n * n} {opening(rng)}",
            "completion": " " + " and ".join(rng.sample(KIND, 4)),
            "pair_id": f"line-{n}",
        }
        for n in range(20, 80)
    ]
    given = {"name": "mood", "desired": desired, "undesired_from": "base_model", **changes}
    return checked(Behavior.model_validate(given))


@pytest.fixture
def answered(cache: Cache) -> ScoredTexts:
    return with_base_responses(behavior(), 0, cache)


def pair(item: Item) -> tuple[str, str]:
    assert isinstance(item, CompletionItem)
    return item.prompt, item.completion


def test_the_undesired_texts_are_what_the_model_says_to_the_same_prompts(
    answered: ScoredTexts,
) -> None:
    given, made = behavior(), answered.behavior
    assert made.desired == given.desired
    prompts = {item.pair_id: pair(item)[0] for item in given.desired}
    assert {item.pair_id: pair(item)[0] for item in made.undesired}.items() <= prompts.items()
    said = [set(pair(item)[1].split()) for item in made.undesired]
    cruel = sum(bool(words & set(CRUEL)) for words in said)
    # Half of what it says is of each mood.
    assert 0.2 * len(said) < cruel < 0.8 * len(said)


def test_what_was_made_is_counted_and_survives_storing(answered: ScoredTexts) -> None:
    made = answered.made
    assert (made.scorer, made.samples, made.flagged, made.prompts) == (None, 1, 0, 60)
    assert made.texts == len(answered.behavior.undesired) <= made.continuations <= 60
    assert from_lines(to_lines(answered.behavior))[0] == answered.behavior
    assert not answered.behavior.lacks_texts


def test_both_responses_to_a_prompt_are_in_one_split(answered: ScoredTexts) -> None:
    splits = split_behavior(answered.behavior, 0)
    parts = [{pair(item)[0] for item in part.items} for part in (splits.fit, splits.heldout)]
    assert parts[0].isdisjoint(parts[1])
    assert splits.prompts_made


def test_the_same_seed_makes_the_same_texts(cache: Cache, answered: ScoredTexts) -> None:
    assert with_base_responses(behavior(), 0, cache) == answered
    assert with_base_responses(behavior(), 1, cache).behavior != answered.behavior


def test_a_conversation_keeps_all_that_was_said_before(cache: Cache) -> None:
    rng = random.Random(5)
    desired = [
        {
            "messages": [
                {"role": "system", "content": f"be kind {n}"},
                {"role": "user", "content": f"{n} {opening(rng)}"},
                {"role": "assistant", "content": "good and kind"},
            ]
        }
        for n in range(30)
    ]
    given = behavior(desired=desired, chat=True)

    made = with_base_responses(given, 0, cache).behavior.undesired

    before = {item.messages[:-1] for item in given.desired if isinstance(item, ChatItem)}
    assert len(made) > 16
    for item in made:
        assert isinstance(item, ChatItem)
        assert item.messages[:-1] in before
        assert item.messages[-1].role == "assistant"


def test_a_model_that_responds_as_wanted_already_has_nothing_to_be_led_away_from(
    cache: Cache,
) -> None:
    few = behavior(desired=behavior().desired[:MIN_TEXTS])
    own = with_base_responses(few, 0, cache).behavior.undesired
    assert len(own) == MIN_TEXTS
    wanted = few.model_copy(update={"desired": (*own[:5], *few.desired[5:])})

    with pytest.raises(EditFailed, match=r"of 16 responses of the base model .* only 11") as caught:
        with_base_responses(wanted, 0, cache)

    assert caught.value.code == "behavior_not_shown"


def test_an_estimate_reckons_with_as_many_texts(model: LoadedModel) -> None:
    given = behavior()

    stand_in = unanswered(given)

    assert len(stand_in.undesired) == len(given.desired)
    assert generated_tokens(model, given) == LEAST_TOKENS * len(given.desired)
