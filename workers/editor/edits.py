"""Make an edit: the stages in order, from the model's files to the receipt."""

from __future__ import annotations

from models_store.delta import Delta, dump_delta
from models_store.records import EditSettings, json_object
from models_store.report import Report, point_of, summary_of
from workers.editor.fitting import Fit, Fitted, fit
from workers.editor.inputs import base_of, mixture_of
from workers.editor.stages import Stages, device_memory_bytes, peak_memory_bytes
from workers.editor.task import Outcome, Task
from workers.evaluation.context import EvaluationContext
from workers.evaluation.evaluate import Evaluation, evaluate
from workers.evaluation.report import Made, Spent, build_report
from workers.evaluation.splits import split_behavior
from workers.runtime.deltas import to_delta


def run(task: Task) -> Outcome:
    """Make the edit; its outcome holds the delta, the report and the one point that there is.

    Raises:
        InvalidRequest: the behaviour cannot be used with this model.
        BaseModelUnavailable, CorruptArtifact, NotFound: something that it starts from is missing
            or broken.
        EditFailed: the method finds nothing to write, or the edited model breaks.
        Unavailable: the store stayed away.
    """
    settings = task.request.settings
    assert isinstance(settings, EditSettings)
    stages = Stages(task.report, task.started_at)
    with stages.stage("load"):
        base = base_of(task)
    behavior, preserve = task.texts()
    splits = split_behavior(behavior, settings.seed)
    on_top = mixture_of(task, settings.on_top_of)
    fitted = fit(
        Fit(
            base=base,
            splits=splits,
            chat=behavior.chat,
            preserve=preserve,
            on_top=on_top,
            limits=settings.limits,
            seed=settings.seed,
        ),
        settings.method,
        stages,
    )
    context = EvaluationContext(
        base=base,
        behavior=behavior,
        splits=splits,
        method=settings.method.type,
        limits=settings.limits,
        seed=settings.seed,
        on_top=on_top,
    )
    with stages.stage("evaluate") as progress:
        evaluation = evaluate(context, fitted.terms, progress=progress)
    with stages.stage("publish"):
        delta = to_delta(fitted.terms, base.fingerprint, settings.method.type)
        data = dump_delta(delta)
        report = _report(task, context, fitted, delta, len(data), evaluation, stages)
        saved = task.save("delta", "delta.safetensors", data)
        artifacts = (
            saved,
            # The edit is its only point so far, and needs no second copy of its file.
            saved.model_copy(update={"name": "point-0"}),
            task.save("report", "report.json", report.model_dump_json().encode()),
        )
    return Outcome(
        artifacts,
        {
            "points": [json_object(point_of(report))],
            "report_summary": json_object(summary_of(report)),
        },
    )


def _report(
    task: Task,
    context: EvaluationContext,
    fitted: Fitted,
    delta: Delta,
    delta_bytes: int,
    evaluation: Evaluation,
    stages: Stages,
) -> Report:
    made = Made(
        terms=fitted.terms,
        delta=delta,
        delta_bytes=delta_bytes,
        probe=fitted.probe,
        alpha=fitted.alpha,
        relative_alpha=fitted.relative_alpha,
        details=fitted.details,
    )
    spent = Spent(
        stages=stages.seconds,
        total_seconds=stages.total_seconds,
        load_seconds=stages.seconds["load"],
        peak_memory_bytes=peak_memory_bytes(),
        device_memory_bytes=device_memory_bytes(context.base.device),
    )
    return build_report(task.request, context, made, evaluation, spent)
