"""Measure the arms of the quality table: their text, and their harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.arms import PreparedArm
from benchmarks.quality.data import REFUSED
from benchmarks.quality.rows import BASE, ArmRow, Harm, ScorerValues, Sheet, digests
from benchmarks.quality.setting import TEST, Setting
from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.measurements import Damage, Interval
from workers.evaluation.controls.prompt_only import Wording, kl_of_wording
from workers.evaluation.damage.damage import DamageMeter
from workers.evaluation.damage.quality import distinct2_ratio, quality_of
from workers.evaluation.effect.effect import Scored, score_grid
from workers.evaluation.effect.generations import Arm
from workers.evaluation.extras.extras import damage_texts
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.statistics import Floats, groups_of
from workers.evaluation.suites.scoring import SuiteScorer, suite_scorer

Measured = tuple[dict[str, Sheet], Harm]


@dataclass(frozen=True)
class _Judge:
    """A scorer as the table uses it."""

    scorer: PreparedScorer | SuiteScorer
    counts: Callable[[Floats], NDArray[np.bool_]]


class Measure:
    """Measures arms against the base, whose text is generated and read once."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._prompts = setting.prompts
        self._before = {name: setting.before(texts) for name, texts in self._prompts.items()}
        scorers = setting.context.scorers
        assert scorers is not None
        self._leading = scorers[0]
        self._measured: dict[frozenset[str], Measured] = {}
        """By edit, since the winner of `auto` is also a recipe."""
        if TEST in self._prompts:
            self._judges = [_Judge(scorer, scorer.undesired) for scorer in scorers]
        else:
            # Refusals are desired in some sets only, so here they are just counted.
            plain = suite_scorer(REFUSED, "scorer")
            self._judges = [_Judge(plain, lambda scores: scores >= plain.threshold)]

    def row(self, row: ArmRow, make: Callable[[str], PreparedArm]) -> ArmRow:
        """`row` with what its arm, made and measured now, comes to, or why it cannot be had."""
        started = time.monotonic()
        try:
            made = make(row.arm)
            sheets, harm = self.measure(made)
        except (EditFailed, InvalidRequest) as error:
            changes: dict[str, object] = {"failed": error.message}
        else:
            changes = {
                "label": made.label,
                "sheets": sheets,
                "harm": harm,
                "scale": made.scale,
                "target_kl": made.target_kl,
                "scaled_kl": made.scaled_kl,
                "aucs": self._setting.aucs if row.arm == BASE else {},
            }
        return row.model_copy(update={**changes, "seconds": time.monotonic() - started})

    def measure(self, made: PreparedArm) -> Measured:
        """The scorers' results for an arm's text, and its harm.

        Raises:
            EditFailed: the model no longer computes.
        """
        if made.arm == BASE:
            return self._sheets(self._before), self._text_harm(self._main(self._before))
        edit = frozenset(term.digest for term in made.terms)
        if edit and edit in self._measured:
            return self._measured[edit]
        with made.within():
            after = {name: self._written(made, texts) for name, texts in self._prompts.items()}
        self._measured[edit] = self._sheets(after), self._harm(made, self._main(after))
        return self._measured[edit]

    def _main(self, arms: dict[str, Arm]) -> Arm:
        """The arm on the prompts that damage is measured on."""
        return next(iter(arms.values()))

    def _written(self, made: PreparedArm, texts: Sequence[str]) -> Arm:
        wording, context = made.wording, self._setting.context
        prompts = texts if wording is None else [wording.with_prompt(text) for text in texts]
        return context.generate(context.model.plus(made.terms), prompts)

    def _sheets(self, arms: dict[str, Arm]) -> dict[str, Sheet]:
        return {
            name: Sheet(
                prompts=digests(prompts),
                clusters=digests(self._setting.templates.get(prompt, prompt) for prompt in prompts),
                scorers={
                    judge.scorer.name: _scores(judge, prompts, arms[name]) for judge in self._judges
                },
            )
            for name, prompts in self._prompts.items()
        }

    def _harm(self, made: PreparedArm, after: Arm) -> Harm:
        if made.wording is not None:
            return self._prompted_harm(made.wording, after)
        desired = (self._desired(self._main(self._before)), self._desired(after))
        arms = (self._main(self._before), after)
        # If the base is the reader, it must read before it is steered; the result is cached.
        self._meter.fluency(arms, desired)
        with made.within():
            damage = self._meter.measure(made.terms, arms, desired)
        return harm_of(damage)

    def _prompted_harm(self, wording: Wording, after: Arm) -> Harm:
        """The harm of a prompt: to the base's text, and its KL."""
        setting, before = self._setting, self._main(self._before)
        each = setting.context.plan.control_neutral_each
        kl = kl_of_wording(setting.model, wording, each=each)
        desired = (self._desired(before), self._desired(after))
        rise = self._meter.fluency((before, after), desired)
        harm = self._text_harm(after)
        return harm.model_copy(update={"kl": kl, "fluency": rise.rise.value})

    def _text_harm(self, after: Arm) -> Harm:
        """The harm that is visible in the text alone."""
        edited, base = quality_of(after), quality_of(self._main(self._before))
        return Harm(
            distinct2_ratio=distinct2_ratio(base, edited),
            loops=edited.loops,
            mean_tokens=edited.mean_tokens,
            ended=edited.ended,
        )

    @cached_property
    def _meter(self) -> DamageMeter:
        context, before = self._setting.context, self._main(self._before)
        scores = self._led(before)
        leading = Scored(self._leading, scores, scores, groups_of(context.prompts))
        return DamageMeter.read(
            context.model,
            damage_texts(context, before, leading),
            use="reporting",
            bootstrap=context.bootstrap,
            plan=context.plan.damage,
            reader=context.reader,
        )

    def _led(self, arm: Arm) -> Floats:
        return score_grid(self._leading, next(iter(self._prompts.values())), arm.texts)

    def _desired(self, arm: Arm) -> NDArray[np.bool_]:
        return ~self._leading.undesired(self._led(arm))


def harm_of(damage: Damage) -> Harm:
    """The figures of a receipt's damage, without their intervals."""

    def value(figure: Interval | None) -> float | None:
        return None if figure is None else figure.value

    return Harm(
        kl=damage.kl,
        kl_preserve=value(damage.kl_preserve),
        perplexity_ratio=damage.perplexity_ratio.value,
        domain=value(damage.domain),
        domain_source=damage.domain_source,
        domain_samples=value(damage.domain_samples),
        domain_heldout=value(damage.domain_heldout),
        fluency=damage.fluency.value,
        fluency_against_base=value(damage.fluency_against_base),
        distinct2_ratio=damage.distinct2_ratio,
        loops=damage.edited.loops,
        mean_tokens=damage.edited.mean_tokens,
        ended=damage.edited.ended,
    )


def _scores(judge: _Judge, prompts: Sequence[str], arm: Arm) -> ScorerValues:
    texts = [text for row in arm.texts for text in row]
    samples = len(arm.texts[0])
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    grid = judge.scorer.score(repeated, texts).reshape(len(prompts), samples)
    counted = judge.counts(grid).astype(np.float64)
    return ScorerValues(rate=counted.mean(axis=1).tolist(), score=grid.mean(axis=1).tolist())
