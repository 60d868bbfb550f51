"""What an edit will take: seconds, memory and bytes, from counts and measured speeds.

Seconds are tokens over tokens a second. The speeds come from reading and generating with the very
base model on the machine that is asked (`workers.generator.examine`); the counts are those of the
splits and of the plan (`costs`). Everything is counted as if nothing had been computed before,
and as if the editor had the machine for itself: expect a factor of two either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models_store.schemas.estimates import EstimatedSeconds
from models_store.schemas.measurements import ControlKind
from models_store.schemas.methods import (
    Attribution,
    Auto,
    Bias,
    Conditional,
    Effort,
    Method,
    ModelSurgery,
    Natural,
    NaturalBias,
)
from models_store.weights.architectures import DOWN
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import samples_each, validation_prompts
from workers.evaluation.damage.damage import REPORTED, DamagePlan
from workers.evaluation.damage.neutral import MAX_TOKENS as NEUTRAL_TOKENS
from workers.evaluation.data.splits import MOST_SPARED, enough_spared
from workers.evaluation.estimate.costs import GENERATED, HARM_SECONDS, READ, expected_seconds
from workers.runtime.likelihood import CHUNK_LOGITS
from workers.runtime.loading import BaseModel
from workers.surgery.methods import bias, natural_bias
from workers.surgery.moments import EXACT_SIZE, RANK

_MOST_CANDIDATES = 10
"""Of a search that tries all it knows."""
_SCALES = 1.5
"""At which a candidate generates until it is within the limits, on average: it goes down where the
text is not fluent."""
_FITTINGS = 3
"""Measurements of damage until a scale is found, on average."""
_TEXT_TOKENS = 25
"""Of a text that damage is measured on beside neutral ones, counted in tokens of these: the base is
not read beside the edit."""

# How many times as long as a plain forward pass over the same tokens, measured with SmolLM2:
_HEAD = 1.5
"""Likelihoods of two models."""
_STATISTICS = 1.4
"""Moments of hidden states inside of layers."""
_BACKWARD = 3.3
"""Gradients."""

_BENIGN_TOKENS = 12_000
"""Neutral text that the curvature is from."""
_FIRST_TOKENS = 1_500
_CALIBRATION_TEXTS = 128
_MEASUREMENTS = 4
"""Of the KL in a calibration, the base itself among them."""
_SOLVE_SECONDS = 5.0
_LOAD_SECONDS = 2.0
_GRADIENTS = (Natural, NaturalBias, Conditional, Attribution, Auto)
"""Methods that need backward passes."""
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
    effort: Effort,
    speed: Speed,
    *,
    tokens_per_text: float,
) -> EstimatedSeconds:
    """What each part of an edit would take; the loading of the model counts to `fit`.

    Args:
        context: with the plan of the effort.
        tokens_per_text: mean of the behaviour's texts as they are read.
    """
    fit = _LOAD_SECONDS + _fit_tokens(context, method, tokens_per_text) / speed.read
    if isinstance(method, _GRADIENTS):
        fit += _SOLVE_SECONDS
    search = _search(context, effort, speed) if isinstance(method, Auto) else 0.0
    # The sum of the plan is for a model of these two speeds.
    slower = (GENERATED / speed.generated + READ / speed.read) / 2
    parts = expected_seconds(context, _kinds(context, method))
    test = slower * (sum(parts.values()) + HARM_SECONDS)
    return EstimatedSeconds(
        fit=round(fit, 1),
        search=round(search, 1),
        test=round(test, 1),
        total=round(fit + search + test, 1),
    )


def _fit_tokens(context: EvaluationContext, method: Method, tokens_per_text: float) -> float:
    """Tokens that fitting reads, counted in tokens of a plain forward pass."""
    fit = tokens_per_text * len(context.splits.fit)
    total = fit + tokens_per_text * len(context.splits.heldout)
    if isinstance(method, Bias | NaturalBias | Conditional | Auto):
        total += _STATISTICS * fit + _FIRST_TOKENS
    if isinstance(method, Attribution | Auto):
        total += _STATISTICS * fit
    if isinstance(method, _GRADIENTS):
        total += _BACKWARD * (fit + _BENIGN_TOKENS)
    tried = isinstance(method, Auto) and tries_conditional(context)
    if tried:
        total += (_STATISTICS + _BACKWARD) * fit
    if tried or isinstance(method, Conditional):
        spared = min(len(context.preserve), MOST_SPARED)
        total += _STATISTICS * tokens_per_text * (len(context.splits.heldout) + spared)
    if not isinstance(method, ModelSurgery | Auto) and method.scale is None:
        texts = _CALIBRATION_TEXTS + min(64, len(context.preserve))
        total += _MEASUREMENTS * _HEAD * texts * NEUTRAL_TOKENS
    return total


def tries_conditional(context: EvaluationContext) -> bool:
    """Whether a search for an edit of the behaviour tries the method `conditional`."""
    return context.splits.fit.has_answers and enough_spared(context.preserve)


def _search(context: EvaluationContext, effort: Effort, speed: Speed) -> float:
    """Each candidate is scaled and generates; the best ones and the base on all prompts."""
    budget, prompts = BUDGETS[effort], len(validation_prompts(context))
    new = context.behavior.max_new_tokens
    candidates, finalists = budget.candidates or _MOST_CANDIDATES, budget.finalists
    few = min(budget.prompts or prompts, prompts)
    most = min(budget.final_prompts or prompts, prompts)
    # Only what comes to a final is tried at more than one scale, if there is a final.
    lowered = (_SCALES - 1) * few * (finalists or candidates)
    texts = candidates * few + lowered + _SCALES * finalists * most + prompts
    generated = samples_each(prompts, new) * texts * new
    read = candidates * _damage_tokens(budget.damage) + finalists * _damage_tokens(REPORTED)
    return generated / speed.generated + _HEAD * _FITTINGS * read / speed.read


def _damage_tokens(plan: DamagePlan) -> float:
    """That one measurement of damage reads, but for generated text."""
    texts = plan.own_samples + plan.heldout_texts
    return 2 * plan.neutral_each * NEUTRAL_TOKENS + _TEXT_TOKENS * texts


def _kinds(context: EvaluationContext, method: Method) -> Sequence[ControlKind]:
    """The controls of the plan that a method has."""

    def fits(kind: ControlKind) -> bool:
        if kind == "random_region":
            return isinstance(method, ModelSurgery | Attribution)
        if kind in ("paper_alpha", "paper_equal_kl"):
            return not isinstance(method, ModelSurgery)
        return True

    return [kind for kind in context.plan.controls if fits(kind)]


def delta_bytes(base: BaseModel, method: Method) -> int:
    """Size of `delta.safetensors`: 4 bytes a number of each direction, 8 bytes an edited row.

    For a search, that of the largest edit that may win: two methods together.
    """
    hidden, gates = base.hidden_size, _gate_rows(base)
    match method:
        case Auto():
            return delta_bytes(base, Natural()) + delta_bytes(base, NaturalBias())
        case Bias() | NaturalBias() | Conditional():
            terms = len(_written(base, method))
            numbers: float = terms * (4 * _width(base) + 8 * hidden)
        case ModelSurgery():
            terms = len(gates)
            numbers = 4 * hidden + 8 * method.fraction * sum(gates)
        case Natural():
            rows = gates if method.layers is None else gates[: len(method.layers)]
            terms = len(rows)
            numbers = 4 * hidden * terms + 8 * method.fraction * sum(rows)
        case Attribution():
            terms = len(gates)
            numbers = 4 * hidden * terms + 8 * method.fraction * sum(gates)
    # What the file's header says of each term.
    return int(numbers) + 350 * terms + 400


def memory_bytes(base: BaseModel, method: Method, *, conditional: bool = False) -> int:
    """The most that an editor's process would have resident, its accelerator's memory included.

    Python and libraries, the weights, blocks of logits of two models that are compared, and what
    the method keeps: moments of the inputs of layers, and for gradients the activations of one
    batch, the gradients and both factors of the curvature of every gate.

    Args:
        conditional: a search tries that method as well: see `tries_conditional`.
    """
    weights = sum(p.numel() * p.element_size() for p in base.model.parameters())
    blocks = min(CHUNK_LOGITS, base.batch_tokens * base.vocabulary)
    total = _PROCESS_BYTES + weights + 4.0 * _HEAD_BLOCKS * blocks
    hidden, rows, item = base.hidden_size, _gate_rows(base), base.dtype.itemsize
    if isinstance(method, Bias | NaturalBias | Conditional | Auto):
        # A search writes into about as many layers as this method.
        layers = _written(base, NaturalBias() if isinstance(method, Auto) else method)
        moments = 3 if isinstance(method, Auto) and conditional else 2
        total += moments * 4.0 * len(layers) * _width(base) ** 2
    if isinstance(method, _GRADIENTS):
        total += base.batch_tokens * base.layers * item * (10 * hidden + 4 * max(rows))
        total += base.batch_tokens * base.vocabulary * (item + 2 * 4)
    if isinstance(method, Natural | Attribution | Auto):
        total += sum(4.0 * hidden * own + _curvature(hidden) + _curvature(own) for own in rows)
    if isinstance(method, NaturalBias | Conditional | Auto):
        total += base.layers * _curvature(hidden)
    return int(total)


def _written(base: BaseModel, method: Bias | NaturalBias | Conditional) -> Sequence[int]:
    """Layers whose `down_proj` is written into."""
    default = bias if isinstance(method, Bias) else natural_bias
    return method.layers or default.default_layers(base.layers)


def _curvature(size: int) -> float:
    """Bytes of one factor: all of it, or its diagonal and some eigenpairs where it is large."""
    return 4.0 * size * (size if size <= EXACT_SIZE else RANK + 1)


def _gate_rows(base: BaseModel) -> list[int]:
    return [len(base.matrix(key)) for key in base.architecture.gates()]


def _width(base: BaseModel) -> int:
    """Inputs of `down_proj`, those of an expert where there is no dense one."""
    dense = next(base.architecture.matrices(DOWN), None)
    return max(_gate_rows(base)) if dense is None else int(base.matrix(dense).shape[1])
