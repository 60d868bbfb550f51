"""Whether whoever brings texts gets a usable edit.

    python -m benchmarks.delivery.main --kinds toxicity,hate --seeds 0,1
    python -m benchmarks.delivery.main --table

makes for each kind of behaviour and seed what a job makes of 300 texts a side and 100 prompts with
the method `auto` and nothing else named, and delivers it if a job would. What is delivered is then
looked at on 200 fresh prompts, by judges that learned from other texts, and on the texts that
damage is reported on. Rows are appended to a file as they are made; a rerun adds those that are
missing, whatever the others were made with: name another file with `--out` for another version.

A job measures harm besides, which by default refuses nothing. Fluency is read by the base itself,
as where no other base model is registered. `OMP_NUM_THREADS` says how many processes share the
work.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import get_args

from benchmarks.delivery.kinds import KINDS, Case
from benchmarks.json_lines import JsonLines
from benchmarks.paper.edits import log
from benchmarks.paper.table import source_of
from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.objects.store import open_store
from models_store.schemas.base import FrozenModel
from models_store.schemas.behaviors import checked
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.measurements import Damage, Effect, PointDamage
from models_store.schemas.methods import Auto, Effort, Limits
from models_store.schemas.report import Candidate, Conclusion, Search
from models_store.settings import Settings
from models_store.work.store import SHARED_TENANT
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.damage.damage import REPORTED, DamageMeter
from workers.evaluation.damage.limits import exceeded, surely_exceeded
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.data.splits import Sides, grouped, split_behavior
from workers.evaluation.effect.effect import scored_arms
from workers.evaluation.evaluate import Evaluation
from workers.evaluation.evaluate import evaluate as measure
from workers.evaluation.extras.extras import damage_texts
from workers.evaluation.scorers.prepare import Judges, PreparedScorer, prepare_scorers
from workers.evaluation.statistics import groups_of
from workers.making.cache import Cache
from workers.making.fitting.fitting import prepare
from workers.making.fitting.permuted import fit_permuted
from workers.making.fitting.source import Source
from workers.making.search.choosing import chosen_from, recipes_of
from workers.making.search.points import search_report
from workers.making.search.recipes import methods_of
from workers.making.search.search import SearchResult
from workers.making.search.search import search as try_all
from workers.making.search.untested import untested
from workers.making.search.validation import Validation
from workers.runtime.base_models import materialise
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import load_base

DELIVERED = "delivered"
_LEARNING = "tfidf"
"""Of the judges the one that learns from texts; beside it there is a lexicon for most kinds."""


class Tried(FrozenModel):
    """A trial of the search, on validation prompts and on texts for choosing."""

    label: str
    scale: float
    prompts: int
    kl: float
    domain: float | None = None
    fluency: float | None
    rate: float
    """Change of the share of undesired text, by the leading scorer."""
    score: float
    """Change of the mean score."""
    exceeded: tuple[str, ...]
    selected: bool


class Row(FrozenModel):
    """What came of one kind with one seed."""

    kind: str
    seed: int
    effort: Effort
    source: str
    """The commit; where files differ from it, a digest of the differences too."""
    given: Mapping[str, int] = {}
    """Numbers of the texts and prompts in their splits."""
    outcome: str = DELIVERED
    """That, or the code of the error."""
    message: str = ""
    """Of the error."""
    conclusion: Conclusion | None = None
    """Of the test; None where nothing was tested, as in the next ones."""
    prompts_needed: int | None = None
    looks: int = 1
    sentence: str = ""
    label: str = ""
    """Of the winner, or of what came nearest."""
    scale: float | None = None
    damage: PointDamage | None = None
    exceeded: tuple[str, ...] = ()
    scorers: Mapping[str, float | None] = {}
    """AUC on held-out texts, by name."""
    effects: tuple[Effect, ...] = ()
    """By scorer, on the test prompts; on validation prompts if `conclusion` is None."""
    judges: Mapping[str, float | None] = {}
    """AUC on texts that the judges did not learn from, by name; empty if nothing was delivered, as
    all on fresh prompts."""
    fresh_prompts: int = 0
    fresh: tuple[Effect, ...] = ()
    """By judge, on fresh prompts."""
    worse: tuple[str, ...] = ()
    """The judges that surely find more undesired text there."""
    fresh_damage: PointDamage | None = None
    fresh_exceeded: tuple[str, ...] = ()
    fresh_surely_exceeded: tuple[str, ...] = ()
    """Those below which no figure of its interval lies."""
    trials: tuple[Tried, ...] = ()
    notes: tuple[str, ...] = ()
    """Of the search."""
    seconds: float = 0.0
    """That making and testing the edit took."""
    fresh_seconds: float = 0.0

    @property
    def cell(self) -> tuple[str, int, Effort]:
        return self.kind, self.seed, self.effort


@dataclass(frozen=True, eq=False)
class Made:
    """What a job comes to before it is published."""

    context: EvaluationContext
    result: SearchResult
    search: Search
    evaluation: Evaluation

    @property
    def failure(self) -> str | None:
        """Why a job would deliver nothing, as `workers.editor.jobs.edits` decides it."""
        verdict, limits = self.evaluation.verdict, self.context.limits
        if self.result.winner is None:
            return verdict.sentence
        surely = surely_exceeded(limits, self.evaluation.damage)
        if verdict.conclusion == "contradicted" or surely:
            tries = len(self.result.trials)
            return f"The best of {tries} tries failed the test: {verdict.sentence}"
        return None


def make(case: Case, seed: int, effort: Effort, cache: Cache) -> Made:
    """Read, fit, search and test as a job does.

    Raises:
        InvalidRequest, EditFailed: a job would fail with it.
    """
    behavior, base = checked(case.given), cache.model.loaded
    splits, judges = split_behavior(behavior, seed), Judges(base, SMOLLM2.id)
    context = EvaluationContext(
        model=cache.model,
        behavior=behavior,
        splits=splits,
        method=Auto().type,
        limits=Limits(),
        seed=seed,
        plan=plan_for(effort),
        reader=FluencyReader(base, SMOLLM2.id),
        scorers=prepare_scorers(behavior, splits, seed, judges),
        judges=judges,
        base_text=cache.generated,
    )
    source, tried = Source.of(context), recipes_of(context, Auto(), effort)
    prepared = prepare(source, methods_of(tried), cache)
    validation = Validation.read(context, cache)
    result = try_all(validation, tried, prepared, BUDGETS[effort])
    report = search_report(result, len(validation.prompts))
    if result.winner is None:
        return Made(context, result, report, untested(validation, result))
    chosen = chosen_from(context, result.best)
    evaluation = measure(
        replace(context, method=chosen.method),
        chosen.terms,
        paper=prepared.paper,
        permuted=partial(fit_permuted, source, cache, chosen.methods, chosen.terms),
    )
    return Made(context, result, report, evaluation)


def judges_of(case: Case, seed: int) -> tuple[PreparedScorer, ...]:
    """The judges, which learn from all of their texts but the held-out ones."""
    others = checked(case.others)
    splits = split_behavior(others, seed)
    fit, scorer = splits.fit, splits.scorer
    learned = Sides(fit.undesired + scorer.undesired, fit.desired + scorer.desired)
    return prepare_scorers(others, replace(splits, scorer=learned), seed)


def look(made: Made, case: Case, judges: Sequence[PreparedScorer]) -> tuple[list[Effect], Damage]:
    """The effects of the edit on fresh prompts by each judge, and its damage.

    Raises:
        EditFailed: the edited model's logits are not finite.
    """
    prompts = tuple(grouped(case.others.prompts)[0])
    tokens = len(prompts) * made.context.behavior.max_new_tokens
    context = replace(
        made.context,
        splits=replace(made.context.splits, test=prompts),
        plan=replace(
            made.context.plan,
            test_prompts=len(prompts),
            samples=1,
            generated_tokens=tokens,
            damage=REPORTED,
        ),
    )
    texts, terms = [prompt.text for prompt in prompts], made.result.best.terms
    before = context.generate_unedited(texts)
    after = context.generate(context.model.plus(terms), texts)
    scored = scored_arms(judges, texts, before, after, groups_of(prompts))
    meter = DamageMeter.read(
        context.model,
        damage_texts(context, before, scored[0]),
        use="reporting",
        bootstrap=context.bootstrap,
        plan=context.plan.damage,
        reader=context.reader,
        base_text=context.base_text,
    )
    damage = meter.measure(terms, (before, after), scored[0].desired)
    return [each.effect(context.bootstrap) for each in scored], damage


def row_of(kind: str, seed: int, effort: Effort, source: str, cache: Cache) -> Row:
    """Make one row.

    Raises:
        InvalidRequest: there is no folder of texts.
    """
    row = Row(kind=kind, seed=seed, effort=effort, source=source)
    started = time.monotonic()
    try:
        case = KINDS[kind](seed, cache)
        made = make(case, seed, effort, cache)
    except (EditFailed, InvalidRequest) as error:
        taken = time.monotonic() - started
        return _with(row, outcome=error.code, message=error.message, seconds=taken)
    row = _with(row, **_made(made), seconds=time.monotonic() - started)
    if made.failure is not None:
        return _with(row, outcome="no_effect_within_limits", message=made.failure)
    log(f"{kind}, seed {seed}: {row.label} is delivered; looking at it on fresh prompts")
    started = time.monotonic()
    judges = judges_of(case, seed)
    effects, damage = look(made, case, judges)
    return _with(
        row,
        judges={judge.name: judge.auc for judge in judges},
        fresh_prompts=len(case.others.prompts),
        fresh=tuple(effects),
        worse=tuple(effect.scorer for effect in effects if effect.contradicts),
        fresh_damage=damage.point,
        fresh_exceeded=exceeded(made.context.limits, damage),
        fresh_surely_exceeded=surely_exceeded(made.context.limits, damage),
        fresh_seconds=time.monotonic() - started,
    )


def _made(made: Made) -> dict[str, object]:
    """What a row has of the edit before fresh prompts."""
    evaluation, best = made.evaluation, made.result.best
    verdict = evaluation.verdict
    return {
        "given": {name: int(n) for name, n in made.context.splits.counts().model_dump().items()},
        "conclusion": verdict.conclusion,
        "prompts_needed": verdict.prompts_needed,
        "looks": verdict.looks,
        "sentence": verdict.sentence,
        "label": best.candidate.label,
        "scale": best.scale,
        "damage": evaluation.damage.point,
        "exceeded": verdict.exceeded,
        "scorers": {card.info.name: card.auc for card in evaluation.scorers},
        "effects": evaluation.effects,
        "trials": tuple(map(_tried, made.search.candidates)),
        "notes": made.search.skipped,
    }


def _tried(of: Candidate) -> Tried:
    effect = of.effects[0]
    return Tried(
        label=of.label,
        scale=of.scale,
        prompts=of.prompts,
        kl=of.damage.kl,
        domain=of.damage.domain,
        fluency=of.damage.fluency,
        rate=effect.rate.difference.value,
        score=effect.score.difference.value,
        exceeded=of.exceeded,
        selected=of.selected,
    )


def _with(row: Row, **changes: object) -> Row:
    return row.model_copy(update=changes)


def table(rows: Sequence[Row]) -> str:
    """A line for each kind and effort, in Markdown."""
    heads = ["kind", "effort", "seeds", "delivered", "confirmed", "unconfirmed", "contradicted"]
    heads += ["contradicted on fresh prompts", "over a limit on fresh texts"]
    heads += ["fresh, lexicon", "fresh, tfidf", "seconds"]
    lines = [heads, ["---"] * len(heads)]
    for kind, effort in dict.fromkeys((row.kind, row.effort) for row in rows):
        group = [row for row in rows if (row.kind, row.effort) == (kind, effort)]
        there = [row for row in group if row.outcome == DELIVERED]
        tested = [row.conclusion for row in group]
        over = [name for row in there for name in dict.fromkeys(row.fresh_exceeded)]
        lines.append(
            [
                *(kind, effort, str(len(group)), str(len(there))),
                *(str(tested.count(conclusion)) for conclusion in get_args(Conclusion)),
                _counted(
                    sum(bool(row.worse) for row in there), (w for r in there for w in r.worse)
                ),
                _counted(sum(bool(row.fresh_exceeded) for row in there), over),
                _median_change(there, learning=False),
                _median_change(there, learning=True),
                f"{median(row.seconds for row in group):.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _counted(rows: int, names: Iterable[str]) -> str:
    """So many rows, and whose names they are."""
    each = list(names)
    told = ", ".join(f"{name} {each.count(name)}" for name in dict.fromkeys(each))
    return f"{rows} ({told})" if told else str(rows)


def _median_change(rows: Sequence[Row], *, learning: bool) -> str:
    """Median over rows of the change of the rate on fresh prompts, in points, by one judge."""
    changes = [
        100 * effect.rate.difference.value
        for row in rows
        for effect in row.fresh
        if (effect.scorer == _LEARNING) is learning
    ]
    return f"{median(changes):+.1f}" if changes else ""


def _source() -> str:
    """The commit of the code, and a digest of what differs from it."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], check=True, capture_output=True).stdout

    commit = git("rev-parse", "--short=8", "HEAD").decode().strip()
    changed = git("diff", "HEAD", "--", "models_store", "workers", "benchmarks/delivery")
    return f"{commit}+{hashlib.sha256(changed).hexdigest()[:8]}" if changed else commit


def _words(value: str) -> list[str]:
    return [word for word in value.replace(",", " ").split() if word]


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--kinds", type=_words, default=list(KINDS), help=f"of {', '.join(KINDS)}")
    made.add_argument("--seeds", type=lambda v: [int(w) for w in _words(v)], default=[0])
    made.add_argument("--effort", choices=("quick", "standard"), default="quick")
    made.add_argument("--out", type=Path, default=Path(".quality/delivery.jsonl"))
    made.add_argument("--table", action="store_true", help="only show what the file has")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = _options().parse_args(arguments)
    try:
        file = JsonLines(given.out, Row)
        if not given.table:
            _run(given, file)
    except (ScalpelError, OSError) as error:
        print(f"delivery: {error}", file=sys.stderr)
        return 2
    print(table(file.records))
    return 0


def _run(given: argparse.Namespace, file: JsonLines[Row]) -> None:
    unknown = [kind for kind in given.kinds if kind not in KINDS]
    if unknown:
        raise InvalidRequest(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    source, settings = _source(), Settings()
    base = load_base(
        materialise(source_of(SMOLLM2.id), settings.cache),
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        ranks=True,
        cache=settings.cache,
    )
    folder = settings.cache / "benchmarks"
    store = open_store(settings.model_copy(update={"store_url": f"file://{folder}"}))
    done = {row.cell for row in file.records}
    for seed in given.seeds:
        for kind in given.kinds:
            if (kind, seed, given.effort) not in done:
                log(f"{kind}, seed {seed}")
                cache = Cache(store, SHARED_TENANT, EditedModel(base))
                file.append(row_of(kind, seed, given.effort, source, cache))


if __name__ == "__main__":
    sys.exit(main())
