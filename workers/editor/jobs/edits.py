"""Make an edit: the stages in order, from the model's files to the receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from models_store.errors import PolicyRefused
from models_store.operator.policy import read_policy
from models_store.operator.scorers import read_scorers
from models_store.operator.suites import configured_suites
from models_store.schemas.measurements import Safety, SafetyCheck
from models_store.schemas.methods import FixedMethod
from models_store.schemas.records import Artifact, EditSettings, json_object
from models_store.schemas.report import Report
from models_store.schemas.report import Search as SearchReport
from models_store.schemas.report_views import Point, point_of, summary_of
from models_store.weights.delta import dump_delta
from models_store.work.store import SHARED_TENANT
from workers.editor.jobs.inputs import base_of, mixture_of, parents_of
from workers.editor.jobs.reader import reader_for
from workers.editor.jobs.reproduce import as_recorded, earlier_report, with_reproduction
from workers.editor.jobs.task import FailedWithOutcome, Outcome, Task
from workers.evaluation.context.arms import base_arm
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import AskedSuites, EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.damage.limits import surely_exceeded
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.effect.generations import Arm
from workers.evaluation.evaluate import Evaluation, evaluate
from workers.evaluation.extras.safety import harm_told, measure_harm
from workers.evaluation.progress import Progress, span
from workers.evaluation.receipt import Made, Spent, build_report
from workers.evaluation.scorers.prepare import Judges, prepare_scorers
from workers.evaluation.suites.run import open_suites
from workers.making.cache import Cache
from workers.making.fitting.fitting import Prepared, prepare
from workers.making.fitting.readings import Source
from workers.making.search.choosing import Chosen, chosen_from, recipes_of, scaled_as_asked
from workers.making.search.points import delta_of, points_of, search_report
from workers.making.search.recipes import Recipe, methods_of
from workers.making.search.search import search
from workers.making.search.untested import untested
from workers.making.search.validation import Trial, Validation
from workers.making.stages import Stages, device_memory_bytes, peak_memory_bytes
from workers.runtime.deltas import to_delta
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode_prompt

_HARM_FROM = 0.92
"""Share of the stage `evaluate` after which harm is measured."""


def run(task: Task) -> Outcome:
    """Make the edit; its outcome holds the delta, the report and the points.

    Raises:
        InvalidRequest: the behaviour cannot be used with this model.
        BaseModelUnavailable, CorruptArtifact, NotFound: something that it starts from is missing
            or broken.
        EditFailed: the method finds nothing to write, or the edited model breaks; with the code
            `no_effect_within_limits`, report and points where a search finds nothing that helps
            within the limits; with `policy_refused` and the report where the edit does more harm
            than the operator's policy allows.
        Unavailable: the store stayed away.
    """
    earlier = earlier_report(task)
    return _Edit(as_recorded(task, earlier), earlier).run()


class _Edit:
    """One edit: what its steps share."""

    def __init__(self, task: Task, earlier: Report | None) -> None:
        """Args:
        earlier: the receipt of the edit that this one repeats.
        """
        settings = task.request.settings
        assert isinstance(settings, EditSettings)
        self.task = task
        self.settings = settings
        self.policy = read_policy(task.settings)
        self.earlier = earlier
        self.stages = Stages(task.report, task.started_at)
        with self.stages.stage("load"):
            self.base = base_of(task)
        behavior, preserve = task.texts()
        self.on_top = mixture_of(task, settings.on_top_of)
        self.cache = Cache(task.store.objects, task.request.tenant, self.base, self.on_top)
        self.reader = reader_for(task, self.base)
        splits = split_behavior(behavior, settings.seed)
        judges = Judges(self.base, task.request.base_model, read_scorers(task.settings.scorers))
        suites = configured_suites(task.settings) if settings.suites else None
        if suites is not None:
            # They are run last: a wrong line in their data must not cost the edit all its work.
            open_suites(settings.suites, suites)
        self.context = EvaluationContext(
            base=self.base,
            behavior=behavior,
            splits=splits,
            method=settings.method.type,
            limits=settings.limits,
            seed=settings.seed,
            on_top=self.on_top,
            plan=plan_for(settings.effort),
            preserve=preserve,
            reader=self.reader,
            scorers=prepare_scorers(behavior, splits, settings.seed, judges),
            judges=judges,
            parents=parents_of(task, settings.on_top_of),
            suites=None if suites is None else AskedSuites(settings.suites, suites),
        )

    def run(self) -> Outcome:
        method = self.settings.method
        tried = recipes_of(self.context, method, self.settings.effort)
        prepared = prepare(self._source(), methods_of(tried), self.cache, self.stages)
        with self.reader.opened():
            if method.searches:
                return self._search(tried, prepared)
            return self._alone(method, prepared)

    def _alone(self, method: FixedMethod, prepared: Prepared) -> Outcome:
        """Make the edit of one method, and test it."""
        with self.stages.stage("tune") as progress:
            chosen = scaled_as_asked(self.context, method, prepared, progress)
        with self.stages.stage("evaluate") as progress:
            evaluation = self._evaluated(chosen, prepared, span(progress, 0.0, _HARM_FROM))
            harm = self._harm(chosen, evaluation, span(progress, _HARM_FROM, 1.0))
        with self.stages.stage("publish"):
            report, data = self._report(chosen, prepared, evaluation, None)
            report = self._judged(report, harm, [point_of(report)])
            delta = self.task.save("delta", "delta.safetensors", data)
            # The edit is its only point, and needs no second copy of its file.
            return self._outcome(report, [delta, _named(delta, "point-0")], [point_of(report)])

    def _search(self, tried: Sequence[Recipe], prepared: Prepared) -> Outcome:
        """Try everything on validation prompts, then test the best: once, and whatever comes of it.

        Raises:
            FailedWithOutcome: nothing helps within the limits, there or on the test prompts.
        """
        with self.stages.stage("tune") as progress:
            side = SidePath(self.base)
            validation = Validation(self.context, self.cache, side, span(progress, 0.0, 0.05))
            budget = BUDGETS[self.settings.effort]
            found = search(validation, tried, prepared, budget, span(progress, 0.05, 1.0))
            chosen = chosen_from(self.context, found.best)
        harm: tuple[SafetyCheck, ...] = ()
        with self.stages.stage("evaluate") as progress:
            if found.winner is None:
                evaluation = untested(validation, found, progress)
            else:
                evaluation = self._evaluated(chosen, prepared, span(progress, 0.0, _HARM_FROM))
                harm = self._harm(chosen, evaluation, span(progress, _HARM_FROM, 1.0))
        with self.stages.stage("publish"):
            found_report = search_report(found, len(validation.prompts))
            report, _ = self._report(chosen, prepared, evaluation, found_report)
            points = points_of(found)
            report = self._judged(report, harm, points)
            files = _save_points(self.task, found.trials, self.base.fingerprint)
            if found.winner is None or not self._holds(evaluation):
                sentence = evaluation.verdict.sentence
                if found.winner is not None:
                    sentence = f"The best of {len(found.trials)} tries failed the test: {sentence}"
                raise FailedWithOutcome(
                    sentence,
                    code="no_effect_within_limits",
                    outcome=self._outcome(report, files, points),
                )
            delta = _named(files[found.trials.index(found.winner)], "delta")
            return self._outcome(report, [delta, *files], points)

    def _source(self) -> Source:
        return Source(
            base=self.base,
            splits=self.context.splits,
            chat=self.context.behavior.chat,
            on_top=self.context.on_top,
            seed=self.settings.seed,
            preserve=self.context.preserve,
        )

    def _evaluated(self, chosen: Chosen, prepared: Prepared, progress: Progress) -> Evaluation:
        """Test the edit."""
        context = replace(self.context, method=chosen.method)
        return evaluate(
            context,
            chosen.terms,
            progress=progress,
            paper=prepared.paper,
            before=lambda share: self._before(context, share),
        )

    def _harm(
        self, chosen: Chosen, evaluation: Evaluation, progress: Progress
    ) -> tuple[SafetyCheck, ...]:
        """Whether the edit, with all that it is on top of, does harm; empty where the policy has
        nothing measured."""
        margins = self.policy.margins
        if not margins.prompts:
            return ()
        shared = Cache(self.task.store.objects, SHARED_TENANT, self.base)
        told = harm_told(
            evaluation.effects,
            evaluation.scorers,
            evaluation.extras.side_effects,
            len(self.context.prompts),
            margins,
        )
        measured = measure_harm(
            self.base,
            [*self.on_top, (chosen.terms, 1.0)],
            margins,
            remembered=shared.remembered_arm,
            bootstrap=self.context.bootstrap,
            progress=progress,
        )
        return (*measured, *told)

    def _judged(
        self, report: Report, harm: tuple[SafetyCheck, ...], points: Sequence[Point]
    ) -> Report:
        """The receipt with what the operator's policy says of the edit. No delta may be stored
        before this.

        Raises:
            FailedWithOutcome: `policy_refused`, with the receipt and nothing else.
        """
        if not harm:
            return report
        safety = Safety(checks=harm, published=True)
        request = self.task.request
        log = partial(
            self.task.store.audit.append,
            tenant=request.tenant,
            actor=request.actor,
            id=request.id,
            beyond=[one.name for one in harm if one.exceeded],
        )
        try:
            self.policy.require_harmless(safety, request.actor.scopes)
        except PolicyRefused as error:
            refused = partial(log, "policy.refused", reason=error.message)
            self.task.patiently(refused)
            held = safety.model_copy(update={"published": False})
            outcome = self._outcome(report.model_copy(update={"safety": held}), [], points)
            raise FailedWithOutcome(error.message, code=error.code, outcome=outcome) from error
        self.task.patiently(partial(log, "policy.allowed"))
        return report.model_copy(update={"safety": safety})

    def _before(self, context: EvaluationContext, progress: Progress) -> Arm:
        """What the model without the edit makes of the test prompts, from an earlier edit if it
        can be had."""
        chat = context.behavior.chat
        prompts = [encode_prompt(self.base, prompt.text, chat=chat) for prompt in context.prompts]
        return self.cache.remembered_arm(
            prompts, context.decoding, lambda: base_arm(context, progress)
        )

    def _holds(self, evaluation: Evaluation) -> bool:
        """Whether the test bears the search out: an effect, and no limit surely exceeded."""
        surely = surely_exceeded(self.settings.limits, evaluation.damage)
        return evaluation.verdict.success and not surely

    def _report(
        self,
        chosen: Chosen,
        prepared: Prepared,
        evaluation: Evaluation,
        search: SearchReport | None,
    ) -> tuple[Report, bytes]:
        """The receipt, and the file of the delta that it is about."""
        delta = to_delta(chosen.terms, self.base.fingerprint, chosen.method)
        data = dump_delta(delta)
        made = Made(
            terms=chosen.terms,
            delta=delta,
            delta_bytes=len(data),
            probe=prepared.probe,
            alpha=chosen.alpha,
            relative_alpha=chosen.relative_alpha,
            details=chosen.details,
        )
        spent = Spent(
            stages=self.stages.seconds,
            total_seconds=self.stages.total_seconds,
            load_seconds=self.stages.seconds["load"],
            peak_memory_bytes=peak_memory_bytes(),
            device_memory_bytes=device_memory_bytes(self.base.device),
        )
        report = build_report(
            self.task.request, self.context, made, evaluation, spent, prepared.features
        )
        cached = tuple(dict.fromkeys(self.cache.found))
        cost = report.cost.model_copy(update={"cached": cached})
        return report.model_copy(update={"search": search, "cost": cost}), data

    def _outcome(
        self, report: Report, files: Sequence[Artifact], points: Sequence[Point]
    ) -> Outcome:
        compared = with_reproduction(report, self.earlier)
        saved = self.task.save("report", "report.json", compared.model_dump_json().encode())
        return Outcome(
            (*files, saved),
            {
                "points": [json_object(point) for point in points],
                "report_summary": json_object(summary_of(compared)),
            },
        )


def _save_points(task: Task, trials: Sequence[Trial], base_fingerprint: str) -> list[Artifact]:
    """Store the delta of every trial.

    Raises:
        Unavailable: the store stayed away, or full.
    """
    return [
        task.save(f"point-{index}", f"points/{index}.safetensors", data)
        for index, data in enumerate(
            dump_delta(delta_of(trial, base_fingerprint)) for trial in trials
        )
    ]


def _named(artifact: Artifact, name: str) -> Artifact:
    """The same file under another name."""
    return artifact.model_copy(update={"name": name})
