"""The edits of the paper's table: Model Surgery, its controls, and Scalpel's methods."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models_store.objects.store import open_store
from models_store.schemas.behaviors import Behavior
from models_store.schemas.methods import Auto, FixedMethod, Limits
from models_store.settings import Settings
from models_store.work.store import SHARED_TENANT
from workers.evaluation.context.budget import Budget
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.controls.baselines import BaselineKind, at_equal_kl, draw
from workers.evaluation.damage.neutral import calibration_meter
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.making.cache import Cache
from workers.making.fitting.fitting import Prepared, prepare
from workers.making.fitting.source import Source
from workers.making.search.choosing import recipes_for
from workers.making.search.recipes import Recipe
from workers.making.search.search import SearchResult
from workers.making.search.tuning import kl_target
from workers.making.search.validation import Validation
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.calibrate import Scales
from workers.surgery.fitted import FittedEdit
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.terms import Term

Search = Callable[[Validation, Sequence[Recipe], Prepared, Budget], SearchResult]

PAPER_ALPHA = 1.08
"""The paper's for detoxification; 1 for everything else."""
PAPER = ModelSurgery(probe="paper", alpha=PAPER_ALPHA)


@dataclass(frozen=True, eq=False)
class Edit:
    """A row of the table."""

    name: str
    terms: Sequence[Term]
    published: str | None = None
    """Its row of the paper's table, if there is one."""


class Fitting:
    """All edits, fitted on the texts of one behaviour with one seed."""

    def __init__(
        self,
        base: LoadedModel,
        behavior: Behavior,
        settings: Settings,
        *,
        seed: int,
        neutral_each: int | None,
    ) -> None:
        """Args:
        neutral_each: number of plain texts, and of responses, that KL is matched on.
        """
        self.base = base
        self.seed = seed
        model = EditedModel(base)
        splits = split_behavior(behavior, seed)
        folder = settings.cache / "benchmarks"
        store = open_store(settings.model_copy(update={"store_url": f"file://{folder}"}))
        self.cache = Cache(store, SHARED_TENANT, model)
        self.context = EvaluationContext(
            model=model,
            behavior=behavior,
            splits=splits,
            method="bias",
            limits=Limits(),
            seed=seed,
            plan=plan_for("standard"),
            scorers=prepare_scorers(behavior, splits, seed),
        )
        self.meter = calibration_meter(model, each=neutral_each)

    def edits(self, *, auto: bool, search: Search, budget: Budget) -> list[Edit]:
        """Every row but the base; those at equal KL have the KL of Scalpel's last edit.

        Args:
            auto: include the search, which takes minutes.
            search: what finds the edit of that row.
            budget: of the search.
        """
        bias = Bias()
        tried = recipes_for(Auto(), "standard", self.base.layers) if auto else []
        searched = [method for recipe in tried for method in recipe.methods]
        methods: list[FixedMethod] = list(dict.fromkeys([PAPER, bias, *searched]))
        log("reading the texts and fitting")
        source = Source(
            model=self.context.model,
            splits=self.context.splits,
            chat=self.context.behavior.chat,
            seed=self.seed,
        )
        prepared = prepare(source, methods, self.cache)
        for method in (PAPER, bias):
            if method in prepared.failures:
                raise prepared.failures[method]
        ours = [Edit("bias", self._calibrated(prepared.made[bias]))]
        if auto:
            log("searching")
            validation = Validation.read(self.context, self.cache)
            result = search(validation, tried, prepared, budget)
            if result.winner is None:
                log("auto finds nothing that helps within its limits: no row for it")
            else:
                winner = result.winner
                ours.append(Edit(f"auto ({winner.candidate.label})", winner.terms))
        target = self.meter.kl(ours[-1].terms)
        assert prepared.paper is not None  # as PAPER could be fitted
        converged = prepared.paper["converged"]
        return [*self._paper_rows(prepared.made[PAPER].terms, converged, target), *ours]

    def _calibrated(self, candidate: FittedEdit) -> list[Term]:
        """The edit at the KL to which the service would scale it."""
        log("calibrating")
        scales = Scales(kl_target(self.context.limits), guess=candidate.guess)
        for scale in scales:
            scales.measured(self.meter.kl(candidate.at(scale)))
        return candidate.at(scales.calibration().scale)

    def _paper_rows(
        self, paper: Sequence[Term], converged: Sequence[Term], target: float
    ) -> list[Edit]:
        log("scaling the paper's setting and its controls")
        region = draw(self.base, "random_region", paper, "model_surgery", self.seed)
        direction = draw(self.base, "random_direction", paper, "model_surgery", self.seed)
        rows = [
            Edit(f"Model Surgery, alpha {PAPER_ALPHA}", paper, "surgery"),
            Edit("random region, same alpha", region, "region"),
            Edit("random direction, same alpha", direction, "direction"),
        ]
        baselines: list[tuple[str, BaselineKind, Sequence[Term]]] = [
            ("Model Surgery, converged probe, equal KL", "paper_equal_kl", converged),
            ("Model Surgery, equal KL", "paper_alpha", paper),
            ("random region, equal KL", "random_region", region),
            ("random direction, equal KL", "random_direction", direction),
        ]
        for name, kind, terms in baselines:
            baseline = at_equal_kl(kind, terms, self.meter, target)
            if baseline is not None:
                mark = "" if baseline.matched else f" (nearest: {baseline.kl:.2g} of {target:.2g})"
                rows.append(Edit(name + mark, baseline.terms))
        return rows


class _Log:
    """Prints the steps on standard error."""

    def __call__(self, what: str) -> None:
        print(f"… {what}", file=sys.stderr, flush=True)


log = _Log()
