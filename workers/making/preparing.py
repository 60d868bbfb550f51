"""Make what depends on a base model alone before an edit asks for it.

What is made is what edits look up in the cache: the statistics that `auto` needs, and what the base
makes of the prompts that come with Scalpel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from models_store.operator.policy import Margins
from models_store.presets import load_preset
from models_store.schemas.methods import Auto, Effort, Limits
from models_store.schemas.records import EditSettings
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.damage.generation_meter import GenerationMeter
from workers.evaluation.damage.neutral import Use
from workers.evaluation.data.splits import Splits, split_behavior
from workers.evaluation.effect.generations import Arm
from workers.evaluation.extras.safety import harm_prompts
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.making.cache import Cache
from workers.making.fitting.model_readings import ModelInputs, ModelReading
from workers.making.fitting.readings import READINGS, wanted_by
from workers.making.search.choosing import recipes_for
from workers.making.search.recipes import methods_of
from workers.making.search.validation import Validation

_DEFAULTS = EditSettings(method=Auto())
"""Of an edit that names a base model and a behaviour only."""
_OTHER_EFFORTS: tuple[Effort, ...] = ("quick",)
"""Those besides the default whose text is made too; `thorough` has three times as much."""
_METER_USES: tuple[Use, ...] = ("calibration", "reporting")
"""The neutral texts whose beginnings are continued, in searches and in tests."""
T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """A part of the preparation, which is either kept as a whole or made again."""

    name: str
    make: Callable[[], object]
    """Does nothing where all that it makes is there.

    Raises:
        InvalidRequest, EditFailed: this model has no such thing.
    """


def preparation(cache: Cache, margins: Margins, behaviors: Sequence[str]) -> Iterator[Unit]:
    """What is to be made for a base model, what most edits need first.

    Of equal rank, units come in random order: two editors that prepare one base seldom make the
    same.

    Args:
        cache: of the base, for everybody.
        margins: of the operator's policy, which say how many prompts harm is tried on.
        behaviors: the presets whose prompts are continued.
    """
    presets = [_Preset(cache, name) for name in behaviors]
    yield from _shuffled(_statistics(cache))
    yield from _shuffled(
        [
            *_harm(cache, margins),
            *_long_texts(cache),
            *(unit for preset in presets for unit in preset.units()),
        ]
    )
    yield from _shuffled(
        [preset.test_text(effort) for preset in presets for effort in _OTHER_EFFORTS]
    )


def _statistics(cache: Cache) -> list[Unit]:
    layers = cache.model.loaded.layers
    tried = recipes_for(Auto(), "thorough", layers, responses=True, preserved=True)
    wanted = wanted_by(methods_of(tried), layers)
    inputs = ModelInputs(cache)

    def make(reading: ModelReading[object, object], layers: Sequence[int]) -> None:
        with cache.model.active():
            reading.fill(inputs, layers)

    return [
        Unit(name, partial(make, reading, want.layers))
        for name, want in wanted.items()
        if (reading := READINGS[name].of_model) is not None
    ]


def _harm(cache: Cache, margins: Margins) -> list[Unit]:
    if not margins.prompts:
        return []
    return [
        Unit(f"harm: {asked.preset}", partial(cache.generated, asked.ids, asked.decoding))
        for asked in harm_prompts(cache.model.loaded, margins)
    ]


def _long_texts(cache: Cache) -> list[Unit]:
    plan = plan_for(_DEFAULTS.effort).damage

    def text(use: Use) -> list[Arm]:
        meter = GenerationMeter.of(
            cache.model,
            use,
            texts=plan.long_texts,
            requests=plan.harmless_requests,
        )
        return [cache.generated(prompts.ids, prompts.decoding) for prompts in meter.prompt_sets]

    return [Unit(f"long texts: {use}", partial(text, use)) for use in _METER_USES]


@dataclass(frozen=True)
class _Preset:
    """What a base makes of the prompts of a preset, in an edit with the default seed."""

    cache: Cache
    name: str

    def units(self) -> list[Unit]:
        """The text that an edit with the default effort needs."""

        def validation_text() -> None:
            context = self._context(_DEFAULTS.effort)
            scorers = prepare_scorers(context.behavior, context.splits, context.seed)
            Validation.read(replace(context, scorers=scorers), self.cache)

        return [Unit(f"{self.name}: validation", validation_text), self.test_text(_DEFAULTS.effort)]

    def test_text(self, effort: Effort) -> Unit:
        def make() -> None:
            context = self._context(effort)
            context.generate_unedited([prompt.text for prompt in context.prompts])

        return Unit(f"{self.name}: test, {effort}", make)

    def _context(self, effort: Effort) -> EvaluationContext:
        return EvaluationContext(
            model=self.cache.model,
            behavior=load_preset(self.name),
            splits=self._splits,
            method=_DEFAULTS.method.type,
            limits=Limits(),
            seed=_DEFAULTS.seed,
            plan=plan_for(effort),
            base_text=self.cache.generated,
        )

    @cached_property
    def _splits(self) -> Splits:
        return split_behavior(load_preset(self.name), _DEFAULTS.seed)


def _shuffled(units: Sequence[T]) -> list[T]:
    return [units[place] for place in np.random.default_rng().permutation(len(units))]
