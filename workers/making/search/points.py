"""What was tried: a row in the receipt, a point in the API, a delta."""

from __future__ import annotations

from models_store.schemas.report import Candidate, Search
from models_store.schemas.report_views import Point, PointEffect
from models_store.weights.delta import Delta
from workers.making.search.search import SearchResult
from workers.making.search.validation import FEW_PROMPTS, Trial
from workers.runtime.edits.deltas import to_delta


def search_report(result: SearchResult, prompts: int) -> Search:
    """The search as the receipt tells it.

    Args:
        prompts: validation prompts that there are.
    """
    notes = result.skipped
    if prompts < FEW_PROMPTS:
        notes = (
            *notes,
            f"the choice rests on {prompts} validation prompts: give more prompts for a better one",
        )
    candidates = tuple(
        _candidate(index, trial, trial is result.winner)
        for index, trial in enumerate(result.trials)
    )
    return Search(candidates=candidates, skipped=notes)


def points_of(result: SearchResult) -> list[Point]:
    """The points, all of them as they did on validation prompts, so that they can be compared."""
    return [
        Point(
            index=index,
            method=trial.candidate.method,
            relative_alpha=times(trial.scale, trial.candidate.relative_alpha),
            effect=PointEffect(
                scorer=trial.effect.scorer,
                base=trial.effect.rate.base,
                edited=trial.effect.rate.edited,
                low=trial.effect.rate.difference.low,
                high=trial.effect.rate.difference.high,
            ),
            damage=trial.damage,
            selected=trial is result.winner,
        )
        for index, trial in enumerate(result.trials)
    ]


def delta_of(trial: Trial, base_fingerprint: str) -> Delta:
    return to_delta(trial.terms, base_fingerprint, trial.candidate.method)


def times(scale: float, factor: float | None) -> float | None:
    """A factor of `model_surgery` at a scale; None of other methods."""
    return None if factor is None else scale * factor


def _candidate(index: int, trial: Trial, selected: bool) -> Candidate:
    return Candidate(
        index=index,
        method=trial.candidate.method,
        label=trial.candidate.label,
        scale=trial.scale,
        prompts=trial.prompts,
        effects=(trial.effect,),
        gain_low=trial.gain_low,
        damage=trial.damage,
        exceeded=trial.exceeded,
        selected=selected,
        relative_alpha=times(trial.scale, trial.candidate.relative_alpha),
        seconds=trial.seconds,
    )
