"""A search from the request to the artifacts, on a pico model that has a trait to lose."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.domain.variants.names import delta_artifact
from models_store.errors import NotFound
from models_store.schemas.behaviors import Behavior
from models_store.schemas.measurements import Contrast, Effect, Interval
from models_store.schemas.methods import Limits
from models_store.schemas.records import STAGES, AttemptEnd, ErrorInfo, Stage
from models_store.schemas.report import Candidate, Report
from models_store.weights.delta import load_delta
from models_store.work.store import Place
from tests.workers.conftest import Bench
from tests.workers.taught import CRUEL, KIND, mood, sentence
from workers import progress
from workers.editor.jobs import edits
from workers.editor.jobs.task import FailedWithOutcome, Outcome, Task
from workers.editor.steps.harm import policy_for
from workers.editor.steps.values import Ingredients, Selected, Took
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.validation_prompts import validation_prompts
from workers.evaluation.damage.limits import surely_exceeded
from workers.evaluation.data.splits import full_text, split_behavior
from workers.making.fitting.fitting import Prepared
from workers.making.search.tuning import used
from workers.runtime.edits.deltas import from_delta
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import load_base

TOOK = Took({"load": 1.0}, 2.0)


@dataclass
class Searched:
    id: str
    outcome: Outcome
    report: Report
    told: list[tuple[Stage, float]]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        assert self.report.search is not None
        return self.report.search.candidates


@pytest.fixture(scope="module")
def searched(taught: Bench) -> Searched:
    """An edit by `auto` that succeeded."""
    id, outcome = taught.edit(**mood())
    report = Report.model_validate_json(taught.file(outcome, "report"))
    return Searched(id, outcome, report, list(taught.told))


def test_the_winner_is_within_every_limit_and_has_the_largest_bound(searched: Searched) -> None:
    (winner,) = [one for one in searched.candidates if one.selected]
    assert winner.exceeded == ()
    assert winner.damage.kl <= 0.3
    # The last that was tried of each that came to the final, where it was tried once more.
    tries = Counter(one.label for one in searched.candidates)
    last = {one.label: one for one in searched.candidates if tries[one.label] > 1}
    able = [one for one in last.values() if not one.exceeded]
    limits = Limits.model_validate(searched.report.limits)
    roomy = [one for one in able if used(limits, one.damage) < 0.945]
    falls = [one.effects[0].least_fall for one in roomy or able]
    assert winner.effects[0].least_fall == max(falls)
    assert winner.effects[0].rate.edited < winner.effects[0].rate.base
    assert [effect.scorer for effect in winner.effects] == ["tfidf"]


def test_the_receipt_of_a_search_tests_the_winner_once(searched: Searched) -> None:
    report = searched.report
    assert report.verdict.success
    assert report.method.type == "auto"
    (winner,) = [one for one in searched.candidates if one.selected]
    assert report.method.details["label"] == winner.label
    assert report.method.details["scale"] == winner.scale
    assert report.provenance.decoding["prompts"] == report.splits.test_prompts == 42
    assert {effect.scorer for effect in report.effects} == {"tfidf", "char-ngrams"}
    assert report.effects[0].rate.difference.high < 0


def test_every_point_can_be_had_by_its_index(taught: Bench, searched: Searched) -> None:
    points = searched.outcome.data["points"]
    assert isinstance(points, list)
    assert len(points) == len(searched.candidates)
    edit = taught.read(Place("edit", "default", searched.id))
    for index, (point, candidate) in enumerate(zip(points, searched.candidates, strict=True)):
        artifact = delta_artifact(edit, index)
        data = taught.store.objects.read(artifact.path)
        assert hashlib.sha256(data).hexdigest() == artifact.sha256
        delta = load_delta(data)
        assert delta.method == candidate.method
        assert from_delta(delta)
        assert isinstance(point, dict)
        assert (point["index"], point["selected"]) == (index, candidate.selected)
    served = load_delta(taught.store.objects.read(delta_artifact(edit, None).path))
    assert served.terms_sha256 == searched.report.provenance.terms_sha256


def test_a_point_is_served_and_exported_by_its_index(taught: Bench, searched: Searched) -> None:
    other = next(one.index for one in searched.candidates if not one.selected)
    variant = taught.store.variants.resolve(
        "default", f"taught:{searched.id}~{other}@0.5", actor=None
    )
    (term,) = variant.terms
    assert (
        term.sha256
        == delta_artifact(taught.read(Place("edit", "default", searched.id)), other).sha256
    )


def test_progress_of_a_search_never_goes_back(searched: Searched) -> None:
    entered = tuple(dict.fromkeys(stage for stage, _ in searched.told))
    assert entered == STAGES
    for name in STAGES:
        shares = [share for stage, share in searched.told if stage == name]
        assert shares == sorted(shares)
        assert shares[-1] <= 1
    assert len([1 for stage, _ in searched.told if stage == "tune"]) > 20


def test_the_same_search_finds_the_same_edit_in_what_is_remembered(
    taught: Bench, searched: Searched
) -> None:
    _, again = taught.edit(**mood())
    report = Report.model_validate_json(taught.file(again, "report"))
    assert searched.report.cost.cached == ()
    assert report.cost.cached == ("first tokens", "shift curvature", "generations")
    assert report.provenance.terms_sha256 == searched.report.provenance.terms_sha256
    assert report.effects == searched.report.effects


def test_a_search_of_which_every_edit_does_the_opposite_fails_with_report_and_points(
    taught: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Texts that an edit surely moves the wrong way are hard to make up.
    monkeypatch.setattr(Effect, "contradicts", property(lambda effect: True))
    place = taught.submit_edit(**mood())
    with pytest.raises(FailedWithOutcome) as failed:
        taught.do(place)
    assert failed.value.code == "no_effect_within_limits"
    assert "Every edit makes undesired text likelier" in failed.value.message
    outcome = failed.value.outcome
    report = Report.model_validate_json(taught.file(outcome, "report"))
    assert report.search is not None
    assert report.search.candidates
    assert not report.verdict.success
    assert isinstance(outcome.data["points"], list)
    assert len(outcome.data["points"]) == len(report.search.candidates)
    names = {artifact.name for artifact in outcome.artifacts}
    assert names == {"report", *(f"point-{one.index}" for one in report.search.candidates)}

    end = AttemptEnd(
        attempt=1,
        outcome="failed",
        error=ErrorInfo(code=failed.value.code, message=failed.value.message),
        artifacts=outcome.artifacts,
        outcome_data=outcome.data,
    )
    assert taught.store.work.publish(place, end)
    for point in (None, 0):
        with pytest.raises(NotFound) as refused:
            delta_artifact(taught.read(place), point)
        assert refused.value.code == "no_delta"


def test_what_cannot_be_moved_is_tested_all_the_same_and_unconfirmed(taught: Bench) -> None:
    rng = random.Random(5)
    # Both sides are alike, so there is nothing to find.
    texts = [sentence(rng, rng.choice((KIND, CRUEL))) for _ in range(120)]
    body = mood()
    body["behavior"] |= {"undesired": texts[:60], "desired": texts[60:]}
    _, outcome = taught.edit(**body)
    report = Report.model_validate_json(taught.file(outcome, "report"))
    assert report.verdict.conclusion == "unconfirmed"
    assert not report.verdict.success
    assert report.search is not None
    assert any(one.selected for one in report.search.candidates)


@contextmanager
def search_for(
    bench: Bench, body: dict[str, Any]
) -> Iterator[tuple[Ingredients, Prepared, Selected]]:
    """The steps of an edit up to its search, and what they came to."""
    task = task_of(bench, bench.submit_edit(**body), lambda stage, share: None)
    with progress.watch(task.report):
        edit = edits.read(task, policy_for(task), edits.load(task), None)
        prepared = edits.fit(edit)
        with edit.context.opened():
            yield edit, prepared, edits.search(edit, prepared)


def test_a_winner_that_surely_exceeds_a_limit_on_the_test_is_no_edit(taught: Bench) -> None:
    with search_for(taught, mood()) as (edit, prepared, choice):
        tested = edits.evaluate(edit, prepared, choice)
        assert tested.holds(edit)
        limits = Limits(max_kl=1e-6)
        strict = replace(edit, settings=edit.settings.model_copy(update={"limits": limits}))
        with pytest.raises(FailedWithOutcome, match="tries failed the test") as failed:
            edits.publish(strict, prepared, choice, tested, TOOK)
    assert failed.value.code == "no_effect_within_limits"
    report = Report.model_validate_json(taught.file(failed.value.outcome, "report"))
    assert surely_exceeded(limits, report.damage)[0] == "max_kl"


def test_where_nothing_was_tested_a_weak_scorer_proves_nothing(taught: Bench) -> None:
    body = mood()
    rng = random.Random(5)
    texts = [sentence(rng, rng.choice((KIND, CRUEL))) for _ in range(120)]
    body["behavior"] |= {"undesired": texts[:60], "desired": texts[60:]}
    with search_for(taught, body) as (edit, prepared, choice):
        assert choice.search is not None
        validation, found = choice.search
        # An effect that all the same exceeds a limit, by a scorer that cannot tell the sides apart.
        falls = Contrast(base=0.5, edited=0.1, difference=Interval(value=-0.4, low=-0.5, high=-0.3))
        effect = found.best.effect.model_copy(update={"rate": falls})
        trials = tuple(replace(one, effect=effect, exceeded=("max_kl",)) for one in found.trials)
        nothing = replace(found, trials=trials, winner=None)
        choice = replace(choice, search=(validation, nothing))
        tested = edits.evaluate(edit, prepared, choice)
        assert tested.evaluation.effects[0].improved
        with pytest.raises(FailedWithOutcome) as failed:
            edits.publish(edit, prepared, choice, tested, TOOK)
    report = Report.model_validate_json(taught.file(failed.value.outcome, "report"))
    assert "none was tested" in report.verdict.sentence
    assert not report.scorers[0].headline
    assert not report.verdict.distinguishable
    assert report.verdict.underpowered


def test_a_search_can_be_stopped_in_its_midst(taught: Bench) -> None:
    class Canceled(Exception):
        pass

    told: list[float] = []

    def tell(stage: Stage, share: float) -> None:
        if stage == "tune":
            told.append(share)
            if share > 0.3:
                raise Canceled

    place = taught.submit_edit(**mood())
    with pytest.raises(Canceled):
        edits.run(task_of(taught, place, tell))
    assert told[-1] < 0.6
    names = [info.path for info in taught.store.objects.files(f"{place.folder}/attempts")]
    assert [name.rpartition("/")[2] for name in names] == ["claim.json"]


def test_a_search_without_validation_prompts_does_not_touch_the_test_prompts(
    taught: Bench, taught_folder: Path
) -> None:
    body = mood()["behavior"]
    few = Behavior.model_validate({**body, "prompts": ["this food was", "this film was"]})
    splits = split_behavior(few, seed=0)
    assert splits.validate == ()
    context = EvaluationContext(
        model=EditedModel(load_base(taught_folder, device="cpu", dtype="auto")),
        behavior=few,
        splits=splits,
        method="auto",
        limits=Limits(),
        seed=0,
    )
    prompts = {prompt.text for prompt in validation_prompts(context)}
    assert len(prompts) > 20  # openings of the texts, each once
    assert prompts.isdisjoint(prompt.text for prompt in splits.test)
    seen = [full_text(item) for item in (*splits.fit.undesired, *splits.fit.desired)]
    assert all(any(text.startswith(prompt) for text in seen) for prompt in prompts)


def task_of(bench: Bench, place: Place, tell: Callable[[Stage, float], None]) -> Task:
    claim = bench.store.work.claim(place, "bench")
    assert claim is not None
    return Task(
        request=bench.read(place).request,
        attempt=claim.attempt,
        store=bench.store.work,
        settings=bench.settings,
        report=tell,
    )
