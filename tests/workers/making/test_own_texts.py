"""The model's own continuations as texts to learn from, on a model that speaks in two moods."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.objects.store import open_store
from models_store.schemas.behaviors import Behavior
from models_store.settings import Settings
from tests.workers.taught import CRUEL, KIND, mood, sentence
from workers.evaluation.data.splits import split_behavior
from workers.making.cache import Cache
from workers.making.fitting.fitting import prepare
from workers.making.fitting.own_texts import OwnTexts, own_texts
from workers.making.fitting.source import Source
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.reading.passes import read_texts
from workers.runtime.reading.shifts import WeightedShifts
from workers.surgery.methods.natural_bias import NaturalBias
from workers.surgery.terms import Term


@pytest.fixture(scope="module")
def model(taught_folder: Path) -> LoadedModel:
    return load_base(taught_folder, device="cpu", dtype="float32")


@pytest.fixture
def source(model: LoadedModel) -> Source:
    return source_of(model, mood()["behavior"])


@pytest.fixture
def cache(settings: Settings, model: LoadedModel) -> Cache:
    return Cache(open_store(settings), "default", EditedModel(model))


def source_of(model: LoadedModel, behavior: dict[str, Any], **changes: Any) -> Source:
    splits = split_behavior(Behavior.model_validate(behavior), seed=0)
    return Source(EditedModel(model), splits, chat=False, seed=0, max_new_tokens=6, **changes)


def found(source: Source, cache: Cache) -> OwnTexts:
    own = own_texts(source, cache)
    assert own is not None
    return own


def written(own: OwnTexts, model: LoadedModel) -> list[str]:
    return [model.tokenizer.decode(text.ids[text.prompt_length :]) for text in own.texts]


def test_cruel_continuations_weigh_less_than_kind_ones(
    source: Source, cache: Cache, model: LoadedModel
) -> None:
    own = found(source, cache)
    cruel, kind = [], []
    for text, weight in zip(written(own, model), own.weights.tolist(), strict=True):
        words = set(text.split())
        if words & set(CRUEL) and not words & set(KIND):
            cruel.append(weight)
        elif words & set(KIND) and not words & set(CRUEL):
            kind.append(weight)
    assert min(len(cruel), len(kind)) > 10
    # A prompt may have more of one kind than stand for its side.
    assert sum(cruel) < 0 < sum(kind)
    assert max(map(abs, cruel)) == min(map(abs, kind))
    assert own.weights.sum().abs() < 1e-6
    assert len(own.texts) == len({text.ids[: text.prompt_length] for text in own.texts}) * 8


def test_prompts_are_of_fit_texts_alone(source: Source, cache: Cache, model: LoadedModel) -> None:
    own = found(source, cache)
    prompts = {
        model.tokenizer.decode(text.ids[: text.prompt_length], skip_special_tokens=True)
        for text in own.texts
    }
    fit = source.splits.fit.texts
    assert all(any(text.startswith(prompt) for text in fit) for prompt in prompts)
    other = replace(source.splits, test=(), validate=(), scorer=source.splits.heldout)
    again = found(replace(source, splits=other), cache)
    assert [text.ids for text in again.texts] == [text.ids for text in own.texts]
    assert torch.equal(again.weights, own.weights)


def test_the_second_time_they_come_from_the_cache(source: Source, cache: Cache) -> None:
    first = found(source, cache)
    assert cache.reused == []
    assert [text.ids for text in found(source, cache).texts] == [text.ids for text in first.texts]
    assert set(cache.reused) == {"generations"}


def test_an_edit_lowers_the_score_of_what_the_model_says(
    source: Source, cache: Cache, model: LoadedModel
) -> None:
    method = NaturalBias(source="own")
    fitted = prepare(source, [method], cache).made[method]
    assert fitted.label.endswith("own continuations")
    assert cruel_share(model, fitted.at(0.5 * fitted.guess)) < 0.8 * cruel_share(model, [])
    assert cruel_share(model, fitted.at(-0.5 * fitted.guess)) > cruel_share(model, [])


def cruel_share(model: LoadedModel, terms: list[Term]) -> float:
    edited = EditedModel(model).plus(terms) if terms else EditedModel(model)
    prompts = model.tokenizer(["this day of the film was"] * 300)["input_ids"]
    made = edited.generate(prompts, max_new_tokens=6, temperature=1.0, seeds=list(range(300)))
    texts = [model.tokenizer.decode(list(text.ids)).split() for text in made]
    return sum(bool(set(text) & set(CRUEL)) for text in texts) / len(texts)


def test_gradients_are_those_of_all_texts_by_their_weights(
    source: Source, cache: Cache, model: LoadedModel
) -> None:
    own = found(source, cache)
    texts, weights = own.texts[:6], own.weights[:6]
    together = WeightedShifts(model, weights, [1])
    read_texts(model, texts, [together])
    alone = torch.zeros(model.hidden_size)
    for text, weight in zip(texts, weights.tolist(), strict=True):
        one = WeightedShifts(model, torch.ones(1), [1])
        read_texts(model, [text], [one])
        alone += weight * one.gradients[1]
    assert torch.allclose(together.gradients[1], alone, atol=1e-6)


def test_texts_stand_in_where_the_sides_are_alike(model: LoadedModel, cache: Cache) -> None:
    rng = random.Random(5)
    texts = sorted({sentence(rng, rng.choice((KIND, CRUEL))) for _ in range(120)})
    rng.shuffle(texts)
    body = mood()["behavior"] | {"undesired": texts[:55], "desired": texts[55:110]}
    alike = source_of(model, body)
    assert own_texts(alike, cache) is None
    own, of_texts = NaturalBias(source="own"), NaturalBias()
    made = prepare(alike, [own, of_texts], cache).made
    digests = [[term.digest for term in made[method].terms] for method in (own, of_texts)]
    assert digests[0] == digests[1]


def test_texts_stand_in_where_the_model_never_shows_a_side(
    model: LoadedModel, cache: Cache
) -> None:
    body = mood()["behavior"]
    # Nothing that it says is like the one side, and all is like the other.
    foreign = [f"{number} plus {number + 1} is {2 * number + 1}" for number in range(60)]
    assert own_texts(source_of(model, body | {"undesired": foreign}), cache) is None
