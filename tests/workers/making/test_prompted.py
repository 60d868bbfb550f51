"""A model's answers with an instruction, and the edit that is trained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models_store.objects.store import open_store
from models_store.schemas.behaviors import Behavior
from models_store.settings import Settings
from tests.workers.evaluation.contexts import small_context
from tests.workers.taught import mood
from workers.evaluation.data.splits import drawn, made_prompts, split_behavior
from workers.making.cache import Cache
from workers.making.fitting.fitting import prepare
from workers.making.fitting.prompted import ANSWERS, prompted_answers
from workers.making.fitting.source import Source
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import encode_prompt
from workers.surgery.methods.prompt_distilled import PromptDistilled

KINDLY = "the kind and lovely people"


@pytest.fixture(scope="module")
def model(taught_folder: Path) -> LoadedModel:
    return load_base(taught_folder, device="cpu", dtype="float32")


@pytest.fixture
def source(model: LoadedModel) -> Source:
    splits = split_behavior(Behavior.model_validate(mood()["behavior"]), seed=0)
    return Source(
        EditedModel(model), splits, chat=False, seed=0, max_new_tokens=6, instruction=KINDLY
    )


@pytest.fixture
def cache(settings: Settings, model: LoadedModel) -> Cache:
    return Cache(open_store(settings), "default", EditedModel(model))


def test_answers_come_after_their_prompts_with_and_without_the_instruction(
    source: Source, cache: Cache, model: LoadedModel
) -> None:
    answers = prompted_answers(source, cache, "be kind")
    prompts = [prompt.text for prompt in drawn(made_prompts(source.splits.fit), ANSWERS)]
    assert len(answers) >= ANSWERS
    without = {tuple(encode_prompt(model, prompt, chat=False)) for prompt in prompts}
    told = {tuple(encode_prompt(model, f"be kind\n\n{prompt}", chat=False)) for prompt in prompts}
    for with_it, asked in answers:
        assert with_it.ids[: with_it.prompt_length] in told
        assert asked.ids[: asked.prompt_length] in without
        answer = asked.ids[asked.prompt_length :]
        assert answer == with_it.ids[with_it.prompt_length :]
        assert 0 < len(answer) <= source.max_new_tokens
    by_default = prompted_answers(source, cache, "")
    assert [one for one, _ in by_default] == [
        one for one, _ in prompted_answers(source, cache, KINDLY)
    ]
    assert [one for one, _ in by_default] != [one for one, _ in answers]


def test_two_prompts_are_distilled_side_by_side(source: Source, cache: Cache) -> None:
    methods = [PromptDistilled(), PromptDistilled(prompt="be cruel", layers=(1,))]
    prepared = prepare(source, methods, cache)
    assert not prepared.failures
    first, second = (prepared.made[method] for method in methods)
    assert [term.layer for term in second.terms] == [1]
    assert len(first.terms) == len(methods[0].layers_in(source.model.loaded.layers))
    assert all(torch.isfinite(term.coefficients).all() for term in first.terms)
    losses = first.details["kl_to_prompted"]
    assert losses["edited"] < losses["base"]
    assert first.label.startswith("prompt_distilled, layer")


def test_by_default_the_instruction_is_the_behaviours_description(model: LoadedModel) -> None:
    context = small_context(model)
    described = context.behavior.model_copy(update={"description": "Be kind to all."})
    source = Source.of(replace(context, behavior=described))
    assert source.instruction.startswith("Be kind to all.")
