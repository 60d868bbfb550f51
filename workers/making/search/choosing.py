"""From candidates to the edit: the stage `tune`, for one method and for a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from models_store.schemas.methods import Effort, FixedMethod, Given, Method
from models_store.weights.architectures import DOWN
from workers import progress
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.damage.damage import REPORTED, DamageMeter, DamageTexts
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.data.splits import enough_preserved
from workers.making.fitting.fitting import Prepared
from workers.making.search.points import times
from workers.making.search.recipes import Recipe, recipes
from workers.making.search.tuning import calibrated, details_of
from workers.making.search.validation import Trial
from workers.runtime.reading.residuals import spread
from workers.surgery.terms import Mixture, Term, folded

_SPREAD_TEXTS = 4
"""Neutral texts of each kind at most."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The edit, and what the receipt tells of how it came about."""

    terms: Sequence[Term]
    method: str
    """Type of the method; of a pair both."""
    methods: tuple[FixedMethod, ...]
    """With their settings."""
    alpha: float | None
    relative_alpha: float | None
    details: dict[str, JsonValue]


def recipes_for(
    method: Method, effort: Effort, layers: int, *, responses: bool = False, preserved: bool = False
) -> list[Recipe]:
    """What is tried: the method, or the rows of the table that the effort pays for.

    Args:
        layers: of the model.
        responses: whether the behaviour's texts are responses to prompts.
        preserved: whether enough preserved texts are such responses.
    """
    if not method.searches:
        return [Recipe((method,), (1.0,))]
    rows = recipes(layers, method.max_tokens, responses=responses, preserved=preserved)
    return rows[: BUDGETS[effort].candidates]


def recipes_of(context: EvaluationContext, method: Method, effort: Effort) -> list[Recipe]:
    """`recipes_for` the model and the texts of a request."""
    return recipes_for(
        method,
        effort,
        context.model.loaded.layers,
        responses=context.splits.fit.has_responses,
        preserved=enough_preserved(context.preserve),
    )


def scaled(context: EvaluationContext, method: FixedMethod, prepared: Prepared) -> Chosen:
    """The edit of one method: at the scale that is given, else at 0.9 of the KL limit.

    Raises:
        InvalidRequest, EditFailed: the method has nothing to write, or no scale stays within it.
    """
    failure = prepared.failures.get(method)
    if failure is not None:
        raise failure
    candidate = prepared.made[method]
    scale = method.given_scale
    calibration: JsonValue = None
    if scale is None:
        with progress.step("meter", 0.2):
            meter = _kl_meter(context)
        with progress.step("scales"):
            result = calibrated(meter, candidate, context.limits)
        scale, calibration = result.scale, details_of(result, context.limits)
    terms = candidate.at(scale)
    return Chosen(
        terms=terms,
        method=candidate.method,
        methods=candidate.methods,
        alpha=times(scale, candidate.alpha),
        relative_alpha=times(scale, candidate.relative_alpha),
        details={
            **candidate.details,
            "scale": scale,
            "calibration": calibration,
            **_spread(context, terms),
        },
    )


def as_given(mixture: Mixture, details: dict[str, JsonValue]) -> Chosen:
    """The edits of a variant as one edit, with their strengths in its coefficients."""
    return Chosen(folded(mixture), Given().type, (), None, None, details)


def chosen_from(context: EvaluationContext, trial: Trial) -> Chosen:
    """The edit that a search came to."""
    candidate = trial.candidate
    return Chosen(
        terms=trial.terms,
        method=candidate.method,
        methods=candidate.methods,
        alpha=times(trial.scale, candidate.alpha),
        relative_alpha=times(trial.scale, candidate.relative_alpha),
        details={
            "method": candidate.method,
            "label": candidate.label,
            "scale": trial.scale,
            **candidate.details,
            **_spread(context, trial.terms),
        },
    )


def _spread(context: EvaluationContext, terms: Sequence[Term]) -> dict[str, JsonValue]:
    """How far from constant is what terms of `down_proj` add, on neutral text that is reported on:
    `a · h` by layer and kind, 1 where it is perfect. Nothing without such terms."""
    directions = {term.layer: term.direction for term in terms if term.module == DOWN}
    if not directions:
        return {}
    neutral = encode_neutral(context.model.loaded, "reporting")
    rows: list[JsonValue] = []
    with context.model.active():
        for kind, texts in neutral.by_kind(_SPREAD_TEXTS).items():
            by_layer = spread(context.model.loaded, directions, texts)
            rows += [
                {"layer": layer, "kind": kind, **asdict(row)} for layer, row in by_layer.items()
            ]
    return {"spread": rows}


def _kl_meter(context: EvaluationContext) -> DamageMeter:
    """Measures on neutral texts that nothing is reported on, and on what is to be preserved."""
    return DamageMeter.read(
        context.model,
        DamageTexts(chat=context.behavior.chat, preserve=context.preserve),
        use="calibration",
        bootstrap=context.bootstrap,
        plan=REPORTED,
    )
