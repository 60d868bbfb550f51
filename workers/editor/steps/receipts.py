"""The receipt of an edit, the file of its delta, and the outcome that holds both."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

import torch

from models_store.cards.decision import decided
from models_store.schemas.items import MAX_TEXT_CHARACTERS
from models_store.schemas.records import Artifact, json_object
from models_store.schemas.report import Report
from models_store.schemas.report_views import Point, summary_of
from models_store.weights.delta import dump_delta
from workers.editor.jobs.task import Outcome
from workers.editor.steps.reproduce import with_reproduction
from workers.editor.steps.values import Ingredients, Selected, Took
from workers.evaluation.evaluate import Evaluation
from workers.evaluation.receipt import MadeEdit, Spent, build_report
from workers.making.fitting.fitting import Prepared
from workers.making.search.points import delta_of, search_report
from workers.making.search.search import SearchResult
from workers.runtime import ranks
from workers.runtime.edits.deltas import to_delta
from workers.runtime.tokens import encode


def receipt(
    edit: Ingredients, prepared: Prepared, choice: Selected, evaluation: Evaluation, took: Took
) -> tuple[Report, bytes]:
    """The receipt, and the file of the delta that it is about."""
    chosen, loaded = choice.chosen, edit.context.model.loaded
    delta = to_delta(chosen.terms, loaded.fingerprint, chosen.method)
    data = dump_delta(delta)
    made = MadeEdit(
        terms=chosen.terms,
        delta=delta,
        delta_bytes=len(data),
        probe=prepared.probe,
        alpha=chosen.alpha,
        relative_alpha=chosen.relative_alpha,
        details=chosen.details,
    )
    spent = Spent(
        stages=took.stages,
        total_seconds=took.total_seconds,
        load_seconds=took.stages["load"],
        peak_memory_bytes=_peak_memory_bytes(),
        device_memory_bytes=_device_memory_bytes(loaded.device),
    )
    request = edit.task.request
    report = build_report(request, edit.context, made, evaluation, spent, prepared.features)
    cached = tuple(dict.fromkeys(edit.cache.reused))
    updates: dict[str, object] = {
        "made_texts": edit.texts.made,
        "cost": report.cost.model_copy(update={"cached": cached}),
    }
    if choice.search is not None:
        validation, result = choice.search
        updates["search"] = search_report(result, len(validation.prompts))
    return report.model_copy(update=updates), data


def save_points(edit: Ingredients, result: SearchResult) -> list[Artifact]:
    """Store the delta of every trial.

    Raises:
        Unavailable: the store stayed away, or full.
    """
    fingerprint = edit.context.model.loaded.fingerprint
    return [
        edit.task.save(
            f"point-{index}",
            f"points/{index}.safetensors",
            dump_delta(delta_of(trial, fingerprint)),
        )
        for index, trial in enumerate(result.trials)
    ]


def outcome_of(
    edit: Ingredients, report: Report, files: Sequence[Artifact], points: Sequence[Point]
) -> Outcome:
    """Store the receipt; it, the files, and what the API shows of them.

    Raises:
        Unavailable: the store stayed away, or full.
    """
    compared = with_reproduction(decided(report), edit.earlier)
    saved = edit.task.save("report", "report.json", compared.model_dump_json().encode())
    made = () if edit.texts.file is None else (edit.texts.file,)
    return Outcome(
        (*files, *made, saved),
        {
            "points": [json_object(point) for point in points],
            "report_summary": json_object(summary_of(compared)),
            "fit_tokens": _fit_tokens(edit),
        },
    )


def _fit_tokens(edit: Ingredients) -> int:
    """Tokens of the texts that the edit was fitted on, with their prompts; 0 if nothing was."""
    context = edit.context
    if edit.settings.measures is not None:
        return 0
    texts = encode(
        context.model.loaded,
        context.splits.fit.items,
        max_tokens=MAX_TEXT_CHARACTERS,
        chat=context.behavior.chat,
    )
    return sum(map(len, texts))


def renamed(artifact: Artifact, name: str) -> Artifact:
    """The same file under another name."""
    return artifact.model_copy(update={"name": name})


def _peak_memory_bytes() -> int:
    """The most memory that this process has had resident, with that of processes that shared its
    work."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) + ranks.most_bytes


def _device_memory_bytes(device: torch.device) -> int | None:
    """The most memory taken on all accelerators together; None without one."""
    if device.type != "cuda":
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
