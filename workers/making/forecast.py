"""What an edit will take: seconds, memory and bytes, from what its methods read and write.

Seconds are those of earlier edits like it on such a machine, by the numbers of texts and tokens.
Where there are none they are tokens over tokens a second: the speeds come from reading and
generating with the very base model on the same machine (`workers.generator.examine`); the
counts are those of the splits, of the readings and of the plan
(`workers.evaluation.estimate.costs`), as if nothing had been computed before, and as if the editor
had the machine for itself. Expect a factor of two either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from models_store.schemas.estimates import EstimatedSeconds, PastCost
from models_store.schemas.method_base import FixedMethod, Sizes
from models_store.schemas.methods import Effort, Method
from models_store.schemas.records import STAGES
from models_store.weights.architectures import DOWN
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import samples_each, validation_prompts
from workers.evaluation.damage.damage import DamagePlan
from workers.evaluation.damage.neutral import MAX_TOKENS as NEUTRAL_TOKENS
from workers.evaluation.data.splits import MOST_PRESERVED
from workers.evaluation.estimate.costs import (
    GENERATED,
    HARM_SECONDS,
    READ,
    expected_seconds,
    generation_meter_tokens,
)
from workers.making.fitting.readings import READINGS, Counts, Wanted, reading_tokens, wanted_by
from workers.making.fitting.shipped import shipped_curvature
from workers.making.search.recipes import Recipe, methods_of
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, cpu_capability, device_name

_SCALES = 1.5
"""At which a candidate generates until it is within the limits, on average: it goes down where the
text is not fluent."""
_FITTINGS = 2
"""Measurements of damage until the scale of a final is found, on average."""
_COARSE_FITTINGS = 1.5
"""The same of a race, whose scales are coarse."""
_RACED = 0.7
"""Share of its prompts that a candidate continues in a race, on average."""
_TEXT_TOKENS = 25
"""Of a text that damage is measured on beside neutral ones, counted in tokens of these: the base is
not read beside the edit."""
_SHARED = 1.4
"""Times as fast as several threads, of which speeds are measured, are as many processes that share
an edit's work."""
_HEAD = 1.5
"""Times as long as a plain forward pass that likelihoods of two models take."""
_CALIBRATION_TEXTS = 128
_MEASUREMENTS = 4
"""Of the KL in a calibration, the base itself among them."""
_LOAD_SECONDS = 2.0
_PROCESS_BYTES = 550e6
"""Python with torch, transformers and scikit-learn, before a model is loaded."""
_HEAD_BLOCKS = 6
"""Blocks of logits that are held at once while two models are compared."""


@dataclass(frozen=True)
class Speed:
    """Tokens a second of a base model on one machine."""

    read: float
    """Forward passes of texts as long as the behaviour's."""
    generated: float
    """Of all rows of a batch together, the time for prompts included."""


def seconds(
    context: EvaluationContext,
    method: Method,
    tried: Sequence[Recipe],
    effort: Effort,
    speed: Speed,
    *,
    tokens_per_text: float,
    generated_first: int = 0,
    past: Sequence[PastCost] = (),
) -> EstimatedSeconds:
    """What each part of an edit would take; the loading of the model counts to `fit`.

    Args:
        context: with the plan of the effort.
        tried: what comes of the method: itself, or the rows of a search.
        tokens_per_text: mean of the behaviour's texts as they are read.
        generated_first: tokens that are generated to make texts.
        past: what earlier edits with the same base model, method and effort took, on any machine.
    """
    here = device_name(context.model.loaded.device), _dtype(context.model.loaded), cpu_capability()
    past = [cost for cost in past if (cost.device, cost.dtype, cost.cpu_capability) == here]
    if past:
        return _as_before(context, past, searches=method.searches, makes_texts=generated_first > 0)
    if context.model.loaded.device.type == "cpu" and torch.get_num_threads() > 1:
        speed = Speed(_SHARED * speed.read, _SHARED * speed.generated)
    methods = methods_of(tried)
    tokens = _fit_tokens(context, methods, tokens_per_text)
    if not method.searches and method.given_scale is None:
        texts = _CALIBRATION_TEXTS + min(64, len(context.preserve))
        tokens += _MEASUREMENTS * _HEAD * texts * NEUTRAL_TOKENS
    fit = _LOAD_SECONDS + generated_first / speed.generated + tokens / speed.read
    fit += max(fitted.solve_seconds for fitted in methods)
    search = _search(context, len(tried), effort, speed) if method.searches else 0.0
    # The sum of the plan is for a model of these two speeds.
    slower = (GENERATED / speed.generated + READ / speed.read) / 2
    parts = expected_seconds(context, context.plan.controls)
    test = slower * (sum(parts.values()) + HARM_SECONDS)
    return _rounded(fit, search, test)


def _as_before(
    context: EvaluationContext, past: Sequence[PastCost], *, searches: bool, makes_texts: bool
) -> EstimatedSeconds:
    """The seconds of earlier edits, for as many texts and tokens as there are now; how many texts
    an edit will make is not known."""
    texts = len(context.splits.fit) + len(context.splits.heldout)
    generated = len(context.prompts) * context.plan.samples * context.behavior.max_new_tokens

    def seconds(cost: PastCost) -> tuple[float, float, float]:
        more = generated / max(1, cost.generated)
        taken: dict[str, float] = {**dict.fromkeys(STAGES, 0.0), **cost.stages}
        extract = taken["extract"] * (1 if makes_texts else texts / max(1, cost.texts))
        fit = taken["load"] + extract
        fit += taken["probe"] + taken["select"] + (0.0 if searches else taken["tune"])
        search = taken["tune"] * more if searches else 0.0
        return fit, search, taken["evaluate"] * more + taken["publish"]

    return _rounded(*map(median, zip(*map(seconds, past), strict=True)))


def _rounded(fit: float, search: float, test: float) -> EstimatedSeconds:
    return EstimatedSeconds(
        fit=round(fit, 1),
        search=round(search, 1),
        test=round(test, 1),
        total=round(fit + search + test, 1),
    )


def _dtype(base: LoadedModel) -> str:
    return str(base.dtype).removeprefix("torch.")


def _fit_tokens(
    context: EvaluationContext, methods: Sequence[FixedMethod], tokens_per_text: float
) -> float:
    """Tokens that fitting reads, counted in tokens of a plain forward pass."""
    splits = context.splits
    fit, heldout, preserved = (
        tokens_per_text * count
        for count in (
            len(splits.fit),
            len(splits.heldout),
            min(len(context.preserve), MOST_PRESERVED),
        )
    )
    wanted = wanted_by(methods, context.model.loaded.layers)
    known = [name for name, want in wanted.items() if _is_shipped(context.model, name, want)]
    return reading_tokens(Counts(fit, heldout, preserved), wanted, known)


def _is_shipped(model: EditedModel, name: str, wanted: Wanted) -> bool:
    """Whether the package has a reading for all layers."""
    if name != "shift curvature" or model.mixture:
        return False
    return len(shipped_curvature(model.loaded, wanted.layers)) == len(wanted.layers)


def _search(context: EvaluationContext, candidates: int, effort: Effort, speed: Speed) -> float:
    """Each candidate is scaled and generates; the best ones and the base on all prompts."""
    budget, prompts = BUDGETS[effort], len(validation_prompts(context))
    new = context.behavior.max_new_tokens
    few = min(budget.prompts or prompts, prompts)
    most = min(budget.final_prompts or prompts, prompts)
    texts = _RACED * candidates * few + _SCALES * budget.finalists * most + prompts
    generated = samples_each(prompts, new) * texts * new
    generated += 2 * generation_meter_tokens(context, budget.final_damage)
    read = _COARSE_FITTINGS * candidates * _damage_tokens(budget.damage)
    read += _FITTINGS * budget.finalists * _damage_tokens(budget.final_damage)
    return generated / speed.generated + _HEAD * read / speed.read


def _damage_tokens(plan: DamagePlan) -> float:
    """That one measurement of damage reads, but for generated text."""
    texts = plan.own_samples + plan.heldout_texts
    return 2 * plan.neutral_each * NEUTRAL_TOKENS + _TEXT_TOKENS * texts


def delta_bytes(base: LoadedModel, tried: Sequence[Recipe]) -> int:
    """Size of `delta.safetensors`; for a search, that of the largest edit that may win."""
    sizes = sizes_of(base)
    return max(sum(method.delta_bytes(sizes) for method in recipe.methods) for recipe in tried)


def memory_bytes(base: LoadedModel, methods: Sequence[FixedMethod]) -> int:
    """The most that an editor's process would have resident, its accelerator's memory included.

    Python and libraries, the weights, blocks of logits of two models that are compared, what is
    read for the methods, and for gradients the activations of one batch.
    """
    sizes = sizes_of(base)
    weights = sum(p.numel() * p.element_size() for p in base.model.parameters())
    blocks = min(base.chunk_logits, base.batch_tokens * base.vocabulary)
    total = _PROCESS_BYTES + weights + 4.0 * _HEAD_BLOCKS * blocks
    wanted = wanted_by(methods, base.layers)
    total += sum(READINGS[name].memory(sizes, want) for name, want in wanted.items())
    if any(READINGS[name].backward for name in wanted):
        item, batch = base.dtype.itemsize, base.batch_tokens
        total += batch * base.layers * item * (10 * sizes.hidden + 4 * max(sizes.gates))
        total += batch * base.vocabulary * (item + 2 * 4)
    return int(total)


def sizes_of(base: LoadedModel) -> Sizes:
    """What the cost of an edit of a base model depends on."""
    gates = tuple(len(base.matrix(key)) for key in base.architecture.gates())
    dense = next(base.architecture.matrices(DOWN), None)
    # Inputs of an expert's `down_proj` where there is no dense one.
    width = max(gates) if dense is None else int(base.matrix(dense).shape[1])
    return Sizes(layers=base.layers, hidden=base.hidden_size, width=width, gates=gates)
