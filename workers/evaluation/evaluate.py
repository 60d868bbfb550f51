"""Measure an edit on prompts and texts that took no part in making it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from models_store.items import Prompt
from models_store.report import Control, Damage, Effect, Interval, Sample, ScorerCard, Verdict
from workers.evaluation.context import EvaluationContext
from workers.evaluation.controls import Rival, kinds_for, make_rival
from workers.evaluation.damage import check_finite, fluency, gather, nll_rise
from workers.evaluation.effect import Scored, edit_against_rival, score_grid
from workers.evaluation.generations import Arm, generate_arm
from workers.evaluation.neutral import KlMeter, calibration_meter, encode_neutral
from workers.evaluation.progress import Parts, Progress
from workers.evaluation.scorers import prepare_scorers
from workers.evaluation.statistics import smallest_visible
from workers.evaluation.verdict import verdict
from workers.runtime.likelihood import divergence, read
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode, encode_prompt
from workers.surgery.terms import Mixture, Term

MAX_TEXT_TOKENS = 100
"""Held-out texts are cut at so many tokens."""
MEASURABLE_KL = 1e-5
"""Below this, in nats a token, rounding is most of what is measured."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out; `workers.evaluation.report` makes the receipt of it."""

    scorers: tuple[ScorerCard, ...]
    effects: tuple[Effect, ...]
    damage: Damage
    controls: tuple[Control, ...]
    samples: tuple[Sample, ...]
    verdict: Verdict
    decoding: dict[str, JsonValue]
    seeds: dict[str, int]
    seconds: dict[str, float]
    """By part."""


def evaluate(
    context: EvaluationContext, terms: Sequence[Term], *, progress: Progress
) -> Evaluation:
    """Measure effect, damage and controls of an edit.

    Args:
        terms: the edit at strength 1.

    Raises:
        EditFailed: the edited model's logits are not finite.
        InvalidRequest: the behaviour names a scorer that there is not.
    """
    return _Evaluator(context, terms, progress).run()


class _Evaluator:
    """One evaluation: what its parts share."""

    def __init__(
        self, context: EvaluationContext, terms: Sequence[Term], progress: Progress
    ) -> None:
        self.context = context
        self.base = context.base
        self.plan = context.plan
        self.bootstrap = context.bootstrap
        self.terms = list(terms)
        self.mixture = self._with(self.terms)
        self.side = SidePath(self.base)
        self.kinds = kinds_for(context.method, self.plan.controls)
        self.parts = Parts(self._weights(), progress)

    def run(self) -> Evaluation:
        context = self.context
        with self.parts.part("base_text") as progress:
            before = self._generate(context.prompts, context.on_top, progress)
        with self.parts.part("edited_text") as progress:
            after = self._generate(context.prompts, self.mixture, progress)
        with self.parts.part("scores"):
            scored = self._score(before, after)
            effects = tuple(one.effect(self.bootstrap) for one in scored)
        damage = self._damage(before, after)
        controls = tuple(self._controls(scored))
        cards = tuple(one.scorer.card(one.agreement(scored[0])) for one in scored)
        return Evaluation(
            scorers=cards,
            effects=effects,
            damage=damage,
            controls=controls,
            samples=self._samples(before, after),
            verdict=verdict(
                effects,
                cards,
                damage,
                controls,
                max_kl=context.limits.max_kl,
                prompts=len(context.prompts),
                visible=smallest_visible(scored[0].rate_differences()),
            ),
            decoding=self._decoding(),
            seeds=context.seeds,
            seconds=self.parts.seconds,
        )

    def _weights(self) -> dict[str, float]:
        """Expected cost of each part, about in tokens that pass through the model."""
        plan, new = self.plan, self.context.behavior.max_new_tokens
        text = 4.0 * len(self.context.prompts) * plan.samples * new
        read_text = 2 * 2.0 * plan.fluency_prompts * new
        reading = 2 * 60.0 * plan.neutral_each
        rival_reading = 2 * 60.0 * plan.control_neutral_each
        rival_text = 4.0 * plan.control_prompts * plan.control_samples * new
        return {
            "base_text": text,
            "edited_text": text,
            "scores": 1000.0,
            "neutral": 2 * reading,
            "domain": 2 * 20.0 * plan.heldout_texts,
            "fluency": read_text,
            "controls_kl": 2 * rival_reading,
            **dict.fromkeys(self.kinds, 4 * rival_reading + rival_text),
        }

    def _with(self, terms: Sequence[Term]) -> Mixture:
        return [*self.context.on_top, (terms, 1.0)]

    def _generate(
        self, prompts: Sequence[Prompt], mixture: Mixture, progress: Progress, samples: int = 0
    ) -> Arm:
        """Continue the prompts with a model; `samples` of each, by default the plan's number."""
        chat = self.context.behavior.chat
        return generate_arm(
            self.base,
            [encode_prompt(self.base, prompt.text, chat=chat) for prompt in prompts],
            mixture,
            replace(self.context.decoding, samples=samples or self.plan.samples),
            side=self.side,
            progress=progress,
        )

    def _score(self, before: Arm, after: Arm) -> list[Scored]:
        context = self.context
        asked = [prompt.text for prompt in context.prompts]
        return [
            Scored(scorer, *(score_grid(scorer, asked, arm.texts) for arm in (before, after)))
            for scorer in prepare_scorers(context.behavior, context.splits, context.seed)
        ]

    def _damage(self, before: Arm, after: Arm) -> Damage:
        with self.parts.part("neutral") as progress:
            meter = KlMeter(
                self.base,
                encode_neutral(self.base, "reporting", each=self.plan.neutral_each),
                on_top=self.context.on_top,
                side=self.side,
                progress=lambda share: progress(share / 2),
            )
            neutral = check_finite(
                meter.divergence(self.terms, progress=lambda share: progress((1 + share) / 2))
            )
        with self.parts.part("domain"):
            domain = self._domain()
        with self.parts.part("fluency"):
            few = self.plan.fluency_prompts
            rise = fluency(self.base, before.first(few), after.first(few), self.bootstrap)
        return gather(meter, neutral, domain, rise, (before, after), self.bootstrap)

    def _domain(self) -> Interval | None:
        items = self.context.splits.heldout.desired[: self.plan.heldout_texts]
        texts = encode(
            self.base, items, max_tokens=MAX_TEXT_TOKENS, chat=self.context.behavior.chat
        )
        if not any(any(text.scored[1:]) for text in texts):
            return None
        before = read(self.base, texts, self.context.on_top, side=self.side)
        found = divergence(self.base, texts, self.mixture, reference=before, side=self.side)
        return nll_rise(check_finite(found), self.bootstrap)

    def _controls(self, scored: Sequence[Scored]) -> Iterator[Control]:
        """Scale each rival to the edit's KL and measure what it does."""
        if not self.kinds:
            return
        with self.parts.part("controls_kl"):
            meter = calibration_meter(
                self.base,
                on_top=self.context.on_top,
                each=self.plan.control_neutral_each,
                side=self.side,
            )
            target = meter.kl(self.terms)
        if target < MEASURABLE_KL:
            # An edit that changes nothing has no rivals.
            return
        for kind in self.kinds:
            with self.parts.part(kind) as progress:
                rival = make_rival(
                    self.base,
                    kind,
                    self.context.method,
                    self.terms,
                    meter,
                    target_kl=target,
                    seed=self.context.seeds[kind],
                    progress=lambda share: progress(0.7 * share),
                )
                yield self._measure(rival, scored, lambda share: progress(0.7 + 0.3 * share))

    def _measure(self, rival: Rival, scored: Sequence[Scored], progress: Progress) -> Control:
        prompts = self.context.prompts[: self.plan.control_prompts]
        samples = min(self.plan.control_samples, self.plan.samples)
        arm = self._generate(prompts, self._with(rival.terms), progress, samples)
        asked = [prompt.text for prompt in prompts]
        edits = [one.first(len(prompts), samples) for one in scored]
        rivals = [edit.with_rival(score_grid(edit.scorer, asked, arm.texts)) for edit in edits]
        return Control(
            kind=rival.kind,
            draw=0,
            scale=rival.scale,
            kl=rival.kl,
            target_kl=rival.target_kl,
            matched=rival.matched,
            evaluations=rival.evaluations,
            effects=tuple(one.effect(self.bootstrap) for one in rivals),
            versus_edit=edit_against_rival(edits[0], rivals[0], self.bootstrap),
        )

    def _samples(self, before: Arm, after: Arm) -> tuple[Sample, ...]:
        """Some prompts at random with the first continuation of each model."""
        prompts = self.context.prompts
        order = np.random.default_rng(self.context.seeds["shown"]).permutation(len(prompts))
        return tuple(
            Sample(
                prompt=prompts[index].text,
                base=before.texts[index][0],
                edited=after.texts[index][0],
            )
            for index in order[: self.plan.shown].tolist()
        )

    def _decoding(self) -> dict[str, JsonValue]:
        decoding = self.context.decoding
        return {
            "prompts": len(self.context.prompts),
            "samples": decoding.samples,
            "max_new_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "chat": self.context.behavior.chat and self.base.has_chat_template,
            "resamples": self.plan.resamples,
        }
