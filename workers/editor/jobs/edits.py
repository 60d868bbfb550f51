"""Make an edit: load, read, fit, search, evaluate, publish.

A variant that is measured as it is goes the same way; nothing is fitted and nothing searched.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from models_store.operator.policy import Policy
from models_store.operator.scorers import read_scorers
from models_store.operator.suites import configured_suites
from models_store.schemas.records import EditSettings, Variant
from models_store.schemas.report import Report
from models_store.schemas.report_views import point_of
from workers import progress
from workers.editor.imports.protocol import bounded
from workers.editor.jobs import imports
from workers.editor.jobs.inputs import base_of, mixture_of, parents_of
from workers.editor.jobs.task import FailedWithOutcome, Outcome, Task
from workers.editor.steps.harm import harm_of, policy_for, with_safety
from workers.editor.steps.reader import reader_for
from workers.editor.steps.receipts import outcome_of, receipt, renamed, save_points
from workers.editor.steps.reproduce import as_recorded, earlier_report
from workers.editor.steps.tested import earlier_tests
from workers.editor.steps.texts import texts_of
from workers.editor.steps.values import Ingredients, Selected, Tested, Took
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import EvaluationContext, NamedSuites
from workers.evaluation.context.plan import plan_for
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.evaluate import evaluate as measure
from workers.evaluation.scorers.prepare import Judges, prepare_scorers
from workers.evaluation.suites.run import open_suites
from workers.making.cache import Cache
from workers.making.fitting.fitting import NOTHING, Prepared, prepare
from workers.making.fitting.permuted import fit_permuted
from workers.making.search.choosing import as_given, chosen_from, recipes_of, scaled
from workers.making.search.points import points_of
from workers.making.search.recipes import methods_of
from workers.making.search.search import search as try_all
from workers.making.search.untested import untested
from workers.making.search.validation import Validation
from workers.runtime.edits.edited_model import EditedModel
from workers.surgery.terms import Mixture

_HARM_FROM = 0.92
"""Share of the stage `evaluate` after which harm is measured."""


def run(task: Task) -> Outcome:
    """Make the edit; its outcome holds the delta, the report and the points.

    What was made elsewhere is imported: see `imports.run`.

    Raises:
        InvalidRequest: the behaviour cannot be used with this model.
        BaseModelUnavailable, CorruptArtifact, NotFound: something that it starts from is missing
            or broken.
        EditFailed: the method finds nothing to write, or the edited model breaks; with the code
            `behavior_not_shown`, a scorer is given in place of texts and finds none; with
            `no_effect_within_limits`, report and points where every edit of a search does the
            opposite or exceeds a limit; with `policy_refused` and the report where the edit does
            more harm than the operator's policy allows; `policy_changed`, as `policy_for` says.
        Unavailable: the store stayed away.
    """
    settings = task.request.settings
    assert isinstance(settings, EditSettings)
    if settings.source is not None:
        return imports.run(task)
    policy, earlier = policy_for(task), earlier_report(task)
    task = as_recorded(task, earlier)
    with progress.watch(task.report, began=task.started_at) as work:
        edit = read(task, policy, load(task), earlier)
        prepared = fit(edit)
        with edit.context.opened():
            choice = search(edit, prepared)
            tested = evaluate(edit, prepared, choice)
            with progress.step("publish"):
                took = Took(work.seconds, work.total_seconds)
                return publish(edit, prepared, choice, tested, took)


def load(task: Task) -> EditedModel:
    """The base model with the parent edits."""
    settings = task.request.settings
    assert isinstance(settings, EditSettings)
    with progress.step("load"):
        return EditedModel(base_of(task), mixture_of(task, settings.on_top_of))


def read(task: Task, policy: Policy, model: EditedModel, earlier: Report | None) -> Ingredients:
    """The texts in their splits, and all that the edit will be measured with."""
    settings = task.request.settings
    assert isinstance(settings, EditSettings)
    judges = Judges(model.loaded, task.request.base_model, read_scorers(task.settings.scorers))
    suites = configured_suites(task.settings) if settings.suites else None
    if suites is not None:
        # They are run last: a wrong line in their data must not cost the edit all its work.
        open_suites(settings.suites, suites)
    cache = Cache(task.store.objects, task.request.tenant, model)
    texts = texts_of(task, settings.seed, cache, judges, earlier)
    behavior = texts.behavior
    splits = split_behavior(behavior, settings.seed)
    context = EvaluationContext(
        model=model,
        behavior=behavior,
        splits=splits,
        method=settings.method.type,
        limits=settings.limits,
        seed=settings.seed,
        plan=plan_for(settings.effort),
        preserve=texts.preserve,
        reader=reader_for(task, model.loaded),
        scorers=prepare_scorers(behavior, splits, settings.seed, judges),
        judges=judges,
        parents=parents_of(task, settings.measures or settings.on_top_of),
        given=_given(task, settings.measures),
        suites=None if suites is None else NamedSuites(settings.suites, suites),
        base_text=cache.generated,
    )
    return Ingredients(task, settings, policy, texts, context, cache, earlier)


def _given(task: Task, variant: Variant | None) -> Mixture:
    """The edits of a variant that is measured as one edit.

    Raises:
        InvalidRequest: they have more terms than an edit may have.
        NotFound, CorruptArtifact, Unavailable: as `mixture_of`.
    """
    mixture = mixture_of(task, variant)
    bounded(sum(len(terms) for terms, _ in mixture))
    return mixture


def fit(edit: Ingredients) -> Prepared:
    """The candidates of all methods that are tried."""
    context = edit.context
    if edit.settings.measures is not None:
        return NOTHING
    tried = recipes_of(context, edit.settings.method, edit.settings.effort)
    return prepare(edit.source, methods_of(tried), edit.cache)


def search(edit: Ingredients, prepared: Prepared) -> Selected:
    """The edit of one method at the scale that is wanted, or the best of all that are tried."""
    context, method, measured = edit.context, edit.settings.method, edit.settings.measures
    if measured is not None:
        return Selected(as_given(context.given, {"variant": measured.name}))
    with progress.step("tune"):
        if not method.searches:
            return Selected(scaled(context, method, prepared))
        with progress.step("base text", 0.05):
            validation = Validation.read(context, edit.cache)
        tried = recipes_of(context, method, edit.settings.effort)
        with progress.step("search"):
            result = try_all(validation, tried, prepared, BUDGETS[edit.settings.effort])
        return Selected(chosen_from(context, result.best), (validation, result))


def evaluate(edit: Ingredients, prepared: Prepared, choice: Selected) -> Tested:
    """Test the edit, and whether it does harm; what a search failed to find is not tested."""
    chosen = choice.chosen
    with progress.step("evaluate"):
        if choice.search is not None and choice.failed:
            return Tested(untested(*choice.search))
        with progress.step("test", _HARM_FROM):
            context = replace(edit.context, method=chosen.method)
            permuted = partial(fit_permuted, edit.source, edit.cache, chosen.methods, chosen.terms)
            evaluation = measure(
                context,
                chosen.terms,
                paper=prepared.paper,
                permuted=permuted if chosen.methods else None,
            )
        with progress.step("harm"):
            return Tested(evaluation, harm_of(edit, chosen, evaluation))


def publish(
    edit: Ingredients, prepared: Prepared, choice: Selected, tested: Tested, took: Took
) -> Outcome:
    """Store the deltas and the receipt, if the operator's policy allows it.

    Raises:
        FailedWithOutcome: it does not, or every edit does the opposite or exceeds a limit, on
            validation prompts or on the test prompts.
    """
    report, data = receipt(edit, prepared, choice, tested.evaluation, took)
    if not choice.failed:
        report = report.model_copy(update={"earlier_tests": earlier_tests(edit)})
    if choice.search is None:
        points = [point_of(report)]
        report = with_safety(edit, report, tested.harm, points)
        delta = edit.task.save("delta", "delta.safetensors", data)
        # The edit is its only point, and needs no second copy of its file.
        return outcome_of(edit, report, [delta, renamed(delta, "point-0")], points)
    _, result = choice.search
    points = points_of(result)
    report = with_safety(edit, report, tested.harm, points)
    files = save_points(edit, result)
    if result.winner is not None and tested.holds(edit):
        delta = renamed(files[result.trials.index(result.winner)], "delta")
        return outcome_of(edit, report, [delta, *files], points)
    sentence = tested.evaluation.verdict.sentence
    if result.winner is not None:
        sentence = f"The best of {len(result.trials)} tries failed the test: {sentence}"
    outcome = outcome_of(edit, report, files, points)
    raise FailedWithOutcome(sentence, code="no_effect_within_limits", outcome=outcome)
