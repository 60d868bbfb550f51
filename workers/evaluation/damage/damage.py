"""What an edit changes that it should not: neutral text, desired text, what users notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from models_store.schemas.items import Item, Prompt, text_of
from models_store.schemas.measurements import (
    Contrast,
    Damage,
    Interval,
    KindKl,
    PointDamage,
    Preserved,
    value_of,
)
from workers import progress
from workers.evaluation.damage.domain import (
    LEAST_SAMPLES,
    DomainMeter,
    LikelihoodMeter,
    heldout_meter,
    own_samples,
    require_finite,
)
from workers.evaluation.damage.fluency import Fluency, answers_of, fluency_of
from workers.evaluation.damage.generation_meter import GenerationMeter
from workers.evaluation.damage.neutral import KlMeter, Use, encode_neutral, places_of
from workers.evaluation.damage.quality import distinct2_ratio, quality_of
from workers.evaluation.damage.reader import FluencyReader
from workers.evaluation.data.splits import drawn
from workers.evaluation.effect.generations import Arm, Generate
from workers.evaluation.statistics import Bools, Bootstrap, Floats
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import Divergence
from workers.runtime.tokens import encode
from workers.surgery.terms import Term

PRESERVED_TOKENS = 64
"""An item to preserve is cut after so many tokens."""
WORST = 10
"""Items to preserve that are shown."""
EXCERPT_CHARACTERS = 160


@dataclass(frozen=True)
class DamagePlan:
    """How much damage is measured on: more takes longer and says it more exactly."""

    neutral_each: int = 44
    """Neutral plain texts and answers, so many of each: 88 texts of about 4,170 positions."""
    own_samples: int = 100
    """Continuations by the base that domain damage is measured on, at most."""
    heldout_texts: int = 60
    """Desired texts that domain damage is measured on beside or in place of them, at most; fluency
    is compared with as many answers."""
    preserved: int = 200
    """Items to preserve, at most."""
    fluency_pairs: int = 100
    """Generations of each model that are read, at most."""
    long_texts: int = 0
    """Of each model, which may loop."""
    harmless_requests: int = 0
    """That each model may refuse."""


REPORTED = DamagePlan(long_texts=16, harmless_requests=32)
SEARCHED = DamagePlan(
    neutral_each=10, own_samples=32, heldout_texts=24, preserved=16, fluency_pairs=60
)
"""For searches, which measure many edits."""


@dataclass(frozen=True, eq=False)
class DamageTexts:
    """What damage is measured on beside neutral text."""

    chat: bool = False
    """Prompts pass through the chat template."""
    prompts: Sequence[Prompt] = ()
    """Those that generations are made from, in random order."""
    base_text: Arm | None = None
    """What the model without the edit makes of them."""
    base_desired: Bools | None = None
    """`[prompts, samples]`: which of that the leading scorer calls desired."""
    heldout: Sequence[Item] = ()
    """Desired texts that no method has seen: held-out ones to report on, others to calibrate."""
    preserve: Sequence[Item] = ()
    """What must stay as it is."""


@dataclass(frozen=True, eq=False)
class DamageMeter:
    """Measures the damage of edits against one model, which has read everything once."""

    texts: DamageTexts
    plan: DamagePlan
    bootstrap: Bootstrap
    reader: FluencyReader
    """Judges fluency."""
    neutral: KlMeter
    kinds: Sequence[str]
    """Of the neutral plain texts."""
    domain: DomainMeter
    preserved: _Preserved | None
    answers: Sequence[tuple[str, str]]
    """Prompts with desired answers to them, which fluency may be compared with."""
    generation: GenerationMeter

    @classmethod
    def read(
        cls,
        model: EditedModel,
        texts: DamageTexts,
        *,
        use: Use,
        bootstrap: Bootstrap,
        plan: DamagePlan = REPORTED,
        reader: FluencyReader | None = None,
        base_text: Generate | None = None,
    ) -> DamageMeter:
        """Read all that edits will be compared on.

        Args:
            model: what the edits go on top of.
            use: of the neutral texts: one set to choose edits by, another to report on.
            reader: judges fluency; by default the base itself.
            base_text: gives what the model without the edits makes of prompts; by default it is
                generated.

        Raises:
            InvalidRequest: a text has no tokens.
        """
        with progress.step("neutral", 0.5):
            neutral = encode_neutral(model.loaded, use, each=plan.neutral_each)
            kl_meter = KlMeter.read(model, neutral.parts)
        with progress.step("samples", 0.25):
            samples = _samples_meter(model, texts, plan)
        with progress.step("held-out", 0.1):
            heldout = heldout_meter(
                model, texts.heldout, chat=texts.chat, at_most=plan.heldout_texts
            )
            domain = DomainMeter(samples, heldout)
        with progress.step("preserved"):
            preserved = _Preserved.read(model, texts, plan)
        return cls(
            texts=texts,
            plan=plan,
            bootstrap=bootstrap,
            reader=reader or FluencyReader(model.loaded, "the base itself"),
            neutral=kl_meter,
            kinds=neutral.kinds,
            domain=domain,
            preserved=preserved,
            answers=drawn(answers_of(texts.heldout), plan.heldout_texts),
            generation=GenerationMeter.of(
                model,
                use,
                texts=plan.long_texts,
                requests=plan.harmless_requests,
                base_text=base_text,
            ),
        )

    def fewer(self, plan: DamagePlan) -> DamageMeter:
        """The same on fewer of the texts; nothing is read again."""
        samples, heldout = self.domain.samples, self.domain.heldout
        return replace(
            self,
            plan=plan,
            neutral=self.neutral.of(
                [range(part.stop - part.start)[: plan.neutral_each] for part in self.neutral.parts]
            ),
            kinds=self.kinds[: plan.neutral_each],
            domain=DomainMeter(
                samples and samples.fewer(max(plan.own_samples, LEAST_SAMPLES)),
                heldout and heldout.fewer(plan.heldout_texts),
            ),
            preserved=self.preserved and self.preserved.fewer(plan.preserved),
            answers=drawn(self.answers, plan.heldout_texts),
        )

    def kl(self, terms: Sequence[Term], strength: float = 1.0) -> float:
        """The larger of the mean KL on neutral text and on what is to be preserved.

        It is infinite for a model whose logits are not finite.
        """
        meters = [self.neutral]
        if self.preserved is not None:
            meters.append(self.preserved.meter)
        return max(meter.kl(terms, strength) for meter in meters)

    def quick(self, terms: Sequence[Term], strength: float = 1.0) -> PointDamage:
        """What can be measured without generating anything, without intervals.

        Raises:
            EditFailed: the edited model's logits are not finite.
        """
        neutral = check_finite(self.neutral.divergence(terms, strength))
        kept, leading = None, self.domain.leading
        if self.preserved is not None:
            meter = self.preserved.meter
            kept = max(meter.means(check_finite(meter.divergence(terms, strength))))
        return PointDamage(
            kl=max(self.neutral.means(neutral)),
            perplexity_ratio=neutral.perplexity_ratio,
            domain=None if leading is None else leading.mean(leading.rises(terms, strength)),
            fluency=None,
            distinct2_ratio=None,
            kl_preserve=kept,
            kl_p95=neutral.kl_p95,
            changed_choices=neutral.mean(neutral.changed),
        )

    @property
    def fluency(self) -> Callable[[tuple[Arm, Arm], tuple[Bools, Bools]], Fluency]:
        """Compares generations from the first of the prompts, as the reader sees them.

        It takes the arms without and with the edit, and which of each are desired,
        `[prompts, samples]`.
        """
        return partial(
            fluency_of,
            self.reader,
            self.texts.prompts,
            bootstrap=self.bootstrap,
            chat=self.texts.chat,
            at_most=self.plan.fluency_pairs,
            answers=self.answers,
        )

    def measure(
        self,
        terms: Sequence[Term],
        arms: tuple[Arm, Arm],
        desired: tuple[Bools, Bools],
    ) -> Damage:
        """Everything, with intervals. See `fluency`.

        Args:
            terms: the edit that made the second arm, at strength 1.

        Raises:
            EditFailed: the edited model's logits are not finite.
        """
        with progress.step("neutral", 0.25):
            neutral = check_finite(self.neutral.divergence(terms))
        with progress.step("long_texts", 0.5):
            generation = self.generation.measure(terms, self.bootstrap)
        with progress.step("domain", 0.1):
            domain = self.domain.measure(terms, self.bootstrap)
        kept: Interval | None = None
        worst: tuple[Preserved, ...] = ()
        if self.preserved is not None:
            with progress.step("preserved", 0.05):
                measured = check_finite(self.preserved.meter.divergence(terms))
            kept = self.preserved.interval(measured, self.bootstrap)
            worst = self.preserved.worst(measured)
        with progress.step("fluency"):
            fluency = self.fluency(arms, desired)
        intervals = [kl_interval(neutral, self.bootstrap, part) for part in self.neutral.parts]
        plain, chat = intervals[0], intervals[1] if len(intervals) > 1 else None
        base_quality, edited_quality = map(quality_of, arms)
        return Damage(
            kl=max(part.value for part in intervals),
            kl_plain=plain,
            kl_chat=chat,
            neutral_texts=len(neutral.positions),
            neutral_positions=int(neutral.positions.sum()),
            perplexity_ratio=exponential(
                text_mean(neutral.edited_nll - neutral.base_nll, neutral, self.bootstrap)
            ),
            domain=domain.judged,
            domain_source=domain.source,
            domain_samples=domain.samples,
            domain_heldout=domain.heldout,
            fluency=fluency.rise,
            fluency_reader=fluency.reader,
            fluency_pairs=fluency.pairs,
            fluency_source=fluency.source,
            fluency_against_base=fluency.against_base,
            base=base_quality,
            edited=edited_quality,
            distinct2_ratio=distinct2_ratio(base_quality, edited_quality),
            kl_preserve=kept,
            preserve_items=0 if self.preserved is None else len(self.preserved.names),
            preserve_worst=worst,
            kl_by_kind={
                kind: KindKl(kl=kl_interval(neutral, self.bootstrap, places), texts=len(places))
                for kind, places in places_of(self.kinds).items()
            },
            kl_p95=kl_p95(neutral, self.bootstrap),
            changed_choices=text_mean(neutral.changed, neutral, self.bootstrap),
            loops=generation.get("loops"),
            repetition=generation.get("repetition"),
            long_texts=self.generation.number("loops"),
            harmless_refusals=generation.get("harmless_refusals"),
            harmless_requests=self.generation.number("harmless_refusals"),
        )


@dataclass(frozen=True, eq=False)
class _Preserved:
    """The items to preserve that have something to predict, and where their answers start.

    A mean over a long answer hides whether it would be given at all, which its first token decides:
    the larger of the mean over all tokens and that over the first tokens of answers counts.
    """

    names: Sequence[str]
    """The first characters of each."""
    answers: Sequence[int]
    """Which of them are answers to prompts."""
    meter: KlMeter
    """Reads all items, then the answers up to their first tokens."""

    @classmethod
    def read(cls, model: EditedModel, texts: DamageTexts, plan: DamagePlan) -> _Preserved | None:
        items = drawn(texts.preserve, plan.preserved)
        encoded = encode(model.loaded, items, max_tokens=PRESERVED_TOKENS, chat=texts.chat)
        kept = [i for i, text in enumerate(encoded) if any(text.scored[1:])]
        if not kept:
            return None
        whole = [encoded[i] for i in kept]
        answers = [place for place, text in enumerate(whole) if text.prompt_length]
        starts = [whole[place].start(1) for place in answers]
        names = [text_of(items[i])[:EXCERPT_CHARACTERS] for i in kept]
        return cls(names, answers, KlMeter.read(model, (whole, starts)))

    def fewer(self, most: int) -> _Preserved:
        some = drawn(range(len(self.names)), most)
        answers = [place for place, item in enumerate(some) if item in self.answers]
        starts = [self.answers.index(some[place]) for place in answers]
        parts = [some, starts][: len(self.meter.parts)]
        return _Preserved([self.names[item] for item in some], answers, self.meter.of(parts))

    def interval(self, measured: Divergence, bootstrap: Bootstrap) -> Interval:
        both = (kl_interval(measured, bootstrap, part) for part in self.meter.parts)
        return max(both, key=lambda interval: interval.value)

    def worst(self, measured: Divergence) -> tuple[Preserved, ...]:
        """The items that changed most, each by what counts of it."""
        kl = measured.kl[: len(self.names)].copy()
        kl[self.answers] = np.maximum(kl[self.answers], measured.kl[len(self.names) :])
        order = np.argsort(-kl, kind="stable")[:WORST]
        return tuple(Preserved(text=self.names[i], kl=float(kl[i])) for i in order.tolist())


def with_text(point: PointDamage, fluency: Fluency, arms: tuple[Arm, Arm]) -> PointDamage:
    """`point` with what the generations of both arms show: fluency and variety."""
    return point.model_copy(
        update={
            "fluency": fluency.rise.value,
            "fluency_source": fluency.source,
            "distinct2_ratio": distinct2_ratio(*map(quality_of, arms)),
        }
    )


def with_generation_figures(point: PointDamage, figures: Mapping[str, Contrast]) -> PointDamage:
    """`point` with what an `GenerationMeter` measured."""
    return point.model_copy(update={name: value_of(of) for name, of in figures.items()})


def _samples_meter(
    model: EditedModel, texts: DamageTexts, plan: DamagePlan
) -> LikelihoodMeter | None:
    if texts.base_text is None or texts.base_desired is None:
        return None
    own, groups = own_samples(texts.base_text, texts.base_desired, texts.prompts, plan.own_samples)
    if len(own) < LEAST_SAMPLES:
        return None
    return LikelihoodMeter.read(model, own, groups)


def check_finite(measured: Divergence) -> Divergence:
    """Refuse to report on a model that no longer computes.

    Raises:
        EditFailed: the edited model gives infinite or undefined probabilities.
    """
    for values in (measured.kl, measured.base_nll, measured.edited_nll):
        require_finite(values)
    return measured


def kl_interval(measured: Divergence, bootstrap: Bootstrap, part: slice | list[int]) -> Interval:
    """Mean KL over all positions of some of the texts; texts are resampled."""
    counts = measured.positions[part].astype(np.float64)
    return bootstrap.ratio(measured.kl[part] * counts, counts)


def kl_p95(measured: Divergence, bootstrap: Bootstrap) -> Interval:
    """The KL that 95 % of all positions do not exceed; texts are resampled."""
    owners = np.repeat(np.arange(len(measured.positions)), measured.positions)
    return bootstrap.quantile(measured.position_kl, owners, 0.95)


def text_mean(values: Floats, measured: Divergence, bootstrap: Bootstrap) -> Interval:
    """Mean over all positions of values of the texts; texts are resampled."""
    counts = measured.positions.astype(np.float64)
    return bootstrap.ratio(values * counts, counts)


def exponential(of: Interval) -> Interval:
    """The interval of `exp` of a value: a rise of nats as a ratio of perplexities."""
    value, low, high = np.exp([of.value, of.low, of.high])
    return Interval(value=float(value), low=float(low), high=float(high))
