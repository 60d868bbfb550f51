"""Put the receipt together from what was asked, what was made and what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from pydantic import JsonValue

from models_store.schemas.records import EditSettings, WorkRequest
from models_store.schemas.report import (
    Cost,
    EditProvenance,
    MethodReport,
    ProbeReport,
    Report,
    Separability,
    TermReport,
)
from models_store.weights.delta import Delta
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.estimate.estimate import Features, checks
from workers.evaluation.evaluate import Evaluation
from workers.runtime.decoding.decode import BATCH_ROWS
from workers.runtime.loading import LoadedModel, cpu_capability, device_name
from workers.surgery.terms import Term

_PACKAGES = (
    "scalpel-edit",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "vaderSentiment",
    "alt-profanity-check",
)


@dataclass(frozen=True)
class Spent:
    """What making the edit has taken so far."""

    stages: Mapping[str, float]
    """Seconds by stage."""
    total_seconds: float
    load_seconds: float | None
    """From the start of the process to the model ready for its first batch."""
    peak_memory_bytes: int
    device_memory_bytes: int | None


@dataclass(frozen=True, eq=False)
class MadeEdit:
    """The edit itself, and what its method tells of it."""

    terms: Sequence[Term]
    delta: Delta
    delta_bytes: int
    """Size of the file."""
    probe: ProbeReport | None
    alpha: float | None
    relative_alpha: float | None
    details: dict[str, JsonValue]


def build_report(
    request: WorkRequest,
    context: EvaluationContext,
    made: MadeEdit,
    evaluation: Evaluation,
    spent: Spent,
    features: Features | None,
) -> Report:
    """The receipt of an edit.

    Args:
        request: of an edit, with its behaviour and base model pinned.
        features: of the texts that were fitted on and of those held out; None if nothing was.
    """
    settings = request.settings
    assert isinstance(settings, EditSettings)
    extras = evaluation.extras
    checked = checks(
        context.behavior, context.splits, features, seed=context.seed, plan=context.plan
    )
    separability = checked.separability
    return Report(
        verdict=evaluation.verdict,
        provenance=_provenance(request, settings, context, made, evaluation),
        method=MethodReport(
            type=settings.method.type,
            settings=settings.method.model_dump(mode="json", exclude={"type"}),
            alpha=made.alpha,
            relative_alpha=made.relative_alpha,
            details=made.details,
            terms=tuple(map(_term, made.terms)),
        ),
        limits=settings.limits.model_dump(),
        splits=context.splits.counts(),
        separability=Separability(
            probe_auc=separability.probe_auc,
            words_auc=separability.words_auc,
            length_auc=separability.length_auc,
            note=separability.note,
        ),
        warnings=checked.warnings,
        probe=made.probe,
        scorers=evaluation.scorers,
        effects=evaluation.effects,
        damage=evaluation.damage,
        controls=evaluation.controls,
        samples=evaluation.samples,
        cost=_cost(context.model.loaded, evaluation, spent),
        effort=settings.effort,
        doses=extras.doses,
        side_effects=extras.side_effects,
        long_form=extras.long_form,
        selectivity=extras.selectivity,
        composition=extras.composition,
        suites=extras.suites,
    )


def versions() -> dict[str, str]:
    """Of everything that numbers in a receipt may depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            # Scalpel itself, when it runs from a checkout that was not installed.
            versions[name] = "not installed"
    return versions


def _provenance(
    request: WorkRequest,
    settings: EditSettings,
    context: EvaluationContext,
    made: MadeEdit,
    evaluation: Evaluation,
) -> EditProvenance:
    assert request.behavior is not None
    return EditProvenance(
        edit_id=request.id,
        created_at=request.created_at,
        base_model=request.base_model,
        base_fingerprint=made.delta.base_fingerprint,
        on_top_of=None if settings.on_top_of is None else settings.on_top_of.name,
        measures=None if settings.measures is None else settings.measures.name,
        behavior=request.behavior,
        seed=context.seed,
        seeds={**context.splits.seeds, **evaluation.seeds},
        terms_sha256=made.delta.terms_sha256,
        delta_bytes=made.delta_bytes,
        versions=versions(),
        decoding=evaluation.decoding,
        request=request.body if isinstance(request.body, dict) else {},
    )


def _term(term: Term) -> TermReport:
    return TermReport(
        layer=term.layer,
        module=term.module,
        expert=term.expert,
        rows=len(term.rows),
        # In fp64, where the product of two large fp32 norms is still finite.
        norm=float(term.direction.double().norm() * term.coefficients.double().norm()),
    )


def _cost(base: LoadedModel, evaluation: Evaluation, spent: Spent) -> Cost:
    return Cost(
        stages=dict(spent.stages),
        evaluation=evaluation.seconds,
        total_seconds=spent.total_seconds,
        load_seconds=spent.load_seconds,
        peak_memory_bytes=spent.peak_memory_bytes,
        device_memory_bytes=spent.device_memory_bytes,
        threads=base.threads,
        device=device_name(base.device),
        dtype=str(base.dtype).removeprefix("torch."),
        cpu_capability=cpu_capability(),
        batch_tokens=base.batch_tokens,
        batch_rows=BATCH_ROWS,
    )
