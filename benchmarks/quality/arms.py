"""The arms of the quality table: Scalpel's edits, the paper's method, and other baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite

from torch import Tensor

from benchmarks.quality.recipes import AUTO, selected_recipes
from benchmarks.quality.setting import Setting
from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.measurements import ProbeKind
from models_store.schemas.methods import Auto
from workers.evaluation.context.budget import BUDGETS, Budget
from workers.evaluation.controls.alternatives import ablation_terms
from workers.evaluation.controls.baselines import (
    PAPER_METHOD,
    BaselineKind,
    RandomKind,
    as_it_is,
    at_equal_kl,
    chooses_rows,
    draw,
    equal_kl_scales,
)
from workers.evaluation.controls.prompt_only import Wording, best_wording
from workers.evaluation.damage.damage import REPORTED
from workers.evaluation.damage.neutral import KlMeter, encode_neutral
from workers.evaluation.seeds import derive
from workers.making.fitting.fitting import Prepared, prepare
from workers.making.search.choosing import recipes_of
from workers.making.search.recipes import Recipe
from workers.making.search.search import SearchResult, search
from workers.making.search.tuning import kl_target
from workers.making.search.validation import Trial
from workers.runtime.edits.steering import steered
from workers.surgery.methods.bias import Bias
from workers.surgery.terms import Term


@dataclass(frozen=True, eq=False)
class PreparedArm:
    """An arm that is ready to be measured."""

    arm: str
    label: str
    terms: Sequence[Term] = ()
    within: Callable[[], AbstractContextManager[object]] = nullcontext
    """Changes the base model, such as by hooks, for as long as the block lasts."""
    wording: Wording | None = None
    """Given with each prompt."""
    scale: float | None = None
    target_kl: float | None = None
    scaled_kl: float | None = None
    """The KL that was reached, if there is a target."""


class Arms:
    """Makes the arms of one behaviour and seed."""

    def __init__(self, setting: Setting, wanted: Sequence[str]) -> None:
        """Args:
        wanted: see `names`.
        """
        self._setting = setting
        self._auto = AUTO in wanted
        layers = setting.base.layers
        self._recipes = {recipe.label: recipe for recipe in selected_recipes(wanted, layers)}
        self._alone: dict[Recipe, Trial] = {}
        """Scaled recipes."""

    def make(self, arm: str) -> PreparedArm:
        """One arm, scaled.

        Raises:
            EditFailed, InvalidRequest: it is not possible with this model or these texts.
        """
        if arm in self._recipes:
            recipe = self._recipes[arm]
            if self._setting.options.equal_kl is not None:
                return self._recipe_at_equal_kl(arm, recipe)
            return self._of_trial(arm, self._trial(recipe))
        kind, _, number = arm.partition("/")
        match kind:
            case "base":
                return PreparedArm(arm, "no edit")
            case "auto":
                return self._winner(arm)
            case "paper":
                terms = self._paper_terms("converged")
                return self._equal(arm, "paper_equal_kl", terms, "Model Surgery, converged probe")
            case "paper_alpha":
                return self._paper_alpha(arm)
            case "paper_9_epochs":
                terms = self._paper_terms("paper")
                return self._equal(arm, "paper_alpha", terms, "Model Surgery as in the paper")
            case "random_direction":
                trial = self._reference
                label = f"random directions in place of those of {trial.candidate.label}"
                terms = self._drawn("random_direction", trial.terms, trial.candidate.method, number)
                return self._equal(arm, "random_direction", terms, label)
            case "random_region":
                return self._region(arm, number)
            case "steering":
                return self._steering(arm)
            case "ablation":
                layer, vector = self._middle
                terms = ablation_terms(self._setting.base, vector)
                return PreparedArm(arm, f"difference of means after layer {layer} ablated", terms)
            case "prompt":
                context = self._setting.context
                assert context.scorers is not None
                wording = best_wording(context, context.scorers[0])
                return PreparedArm(arm, "best of three wordings", wording=wording)
            case _:
                raise InvalidRequest(f"there is no arm {arm!r}")

    @cached_property
    def _tried(self) -> list[Recipe]:
        """What `auto` tries at this effort."""
        if not self._auto:
            return []
        return recipes_of(self._setting.context, Auto(), self._setting.options.effort)

    @cached_property
    def _prepared(self) -> Prepared:
        wanted = [*self._tried, *self._recipes.values()]
        methods = [method for recipe in wanted for method in recipe.methods]
        every = list(dict.fromkeys([*methods, Bias()]))
        setting = self._setting
        return prepare(setting.source, every, setting.cache)

    @cached_property
    def _meter(self) -> KlMeter:
        """Measures KL on the texts that the table reports, to scale baselines to equal KL there.
        Nothing else is chosen by it."""
        each = self._setting.context.plan.damage.neutral_each
        base = self._setting.base
        texts = encode_neutral(base, "reporting", each=each)
        return KlMeter.read(self._setting.model, texts.parts)

    @cached_property
    def _searched(self) -> SearchResult:
        budget = self._budget(BUDGETS[self._setting.options.effort])
        return search(self._setting.validation, self._tried, self._prepared, budget)

    def _winner(self, arm: str) -> PreparedArm:
        """The winner of the service's search.

        Raises:
            EditFailed: nothing within the limits helps on validation prompts.
        """
        winner = self._searched.winner
        if winner is None:
            raise EditFailed("nothing that was tried helps within the limits on validation prompts")
        return self._of_trial(arm, winner)

    def _trial(self, recipe: Recipe) -> Trial:
        """A recipe scaled to about 0.9 of the limits, as in a search."""
        if recipe not in self._alone:
            budget = Budget(None, 40, finalists=1, final_prompts=None, damage=REPORTED)
            result = search(
                self._setting.validation, [recipe], self._prepared, self._budget(budget)
            )
            self._alone[recipe] = result.best
        return self._alone[recipe]

    def _recipe_at_equal_kl(self, arm: str, recipe: Recipe) -> PreparedArm:
        if len(recipe.methods) > 1:
            raise EditFailed("a pair has no scale of its own before it is searched for")
        (method,) = recipe.methods
        failure = self._prepared.failures.get(method)
        if failure is not None:
            raise failure
        made = self._prepared.made[method]
        return self._equal(arm, "paper_equal_kl", made.at(made.guess), made.label)

    def _budget(self, budget: Budget) -> Budget:
        """The budget with no more validation prompts than test prompts."""
        most = self._setting.options.prompts
        return replace(
            budget,
            prompts=min(budget.prompts or most, most),
            final_prompts=min(budget.final_prompts or most, most),
        )

    def _of_trial(self, arm: str, trial: Trial) -> PreparedArm:
        return PreparedArm(arm, trial.candidate.label, trial.terms, scale=trial.scale)

    @cached_property
    def _reference(self) -> Trial:
        """The edit that controls are derived from: the best of `auto`, else the first recipe.

        Raises:
            InvalidRequest: neither is among the arms.
        """
        if self._auto:
            return self._searched.best
        if not self._recipes:
            raise InvalidRequest("random controls need auto or a recipe among the arms")
        return self._trial(next(iter(self._recipes.values())))

    @cached_property
    def _target(self) -> float:
        """The KL to which baselines are scaled."""
        if self._setting.options.equal_kl is not None:
            return self._setting.options.equal_kl
        if not (self._auto or self._recipes):
            return kl_target(self._setting.context.limits)
        return self._meter.kl(self._reference.terms)

    def _paper_terms(self, probe: ProbeKind) -> Sequence[Term]:
        paper = self._prepared.paper
        if paper is None:
            raise EditFailed("the paper's method cannot be fitted here")
        return paper[probe]

    def _paper_alpha(self, arm: str) -> PreparedArm:
        terms = self._paper_terms("paper")
        if as_it_is("paper_alpha", terms, self._meter) is None:
            raise EditFailed("at its own alpha the paper's setting leaves no model that computes")
        return PreparedArm(arm, "Model Surgery as in the paper, at its alpha", terms, scale=1.0)

    def _drawn(
        self, kind: RandomKind, terms: Sequence[Term], method: str, number: str
    ) -> list[Term]:
        seed = derive(self._setting.context.seeds[kind], f"draw/{number or 1}")
        return draw(self._setting.base, kind, terms, method, seed)

    def _region(self, arm: str, number: str) -> PreparedArm:
        """Random rows in place of those of the edit, or of `paper` if the edit chooses none."""
        terms: Sequence[Term] = self._reference.terms
        of, method = self._reference.candidate.label, self._reference.candidate.method
        if not chooses_rows(self._setting.base, terms):
            terms, of, method = self._paper_terms("converged"), "the paper's method", PAPER_METHOD
        drawn = self._drawn("random_region", terms, method, number)
        return self._equal(arm, "random_region", drawn, f"random rows in place of those of {of}")

    def _equal(
        self, arm: str, kind: BaselineKind, terms: Sequence[Term], label: str
    ) -> PreparedArm:
        """A baseline at the KL of the edit.

        Raises:
            EditFailed: no scale leaves a model that computes.
        """
        matched = at_equal_kl(kind, terms, self._meter, self._target)
        if matched is None:
            raise EditFailed("no scale of it leaves a model that computes")
        return PreparedArm(
            arm,
            f"{label}, equal KL",
            matched.terms,
            scale=matched.scale,
            target_kl=self._target,
            scaled_kl=matched.kl,
        )

    @cached_property
    def _means(self) -> Mapping[int, Tensor]:
        """Difference of means of the residual stream after the layers that `bias` writes into."""
        failure = self._prepared.failures.get(Bias())
        if failure is not None:
            raise failure
        # A term of `bias` is r aᵀ, with the difference of means r as coefficients of all rows.
        return {term.layer: term.coefficients for term in self._prepared.made[Bias()].terms}

    @property
    def _middle(self) -> tuple[int, Tensor]:
        layers = sorted(self._means)
        layer = layers[len(layers) // 2]
        return layer, self._means[layer]

    def _steering(self, arm: str) -> PreparedArm:
        def at(scale: float) -> dict[int, Tensor]:
            return {layer: scale * vector for layer, vector in self._means.items()}

        scales = equal_kl_scales(self._target, guess=self._prepared.made[Bias()].guess)
        for scale in scales:
            with steered(self._setting.base, at(scale)):
                scales.measured(self._meter.kl(()))
        scale, nearest = scales.nearest()
        if not isfinite(nearest):
            raise EditFailed("no scale of it leaves a model that computes")
        layers = ", ".join(map(str, sorted(self._means)))
        return PreparedArm(
            arm,
            f"difference of means added after layers {layers}, equal KL",
            within=lambda: steered(self._setting.base, at(scale)),
            scale=scale,
            target_kl=self._target,
            scaled_kl=nearest,
        )
