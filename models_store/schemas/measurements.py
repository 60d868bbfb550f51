"""The measurements in a receipt: effects, damage, baselines, doses, side effects, harm, suites.

Effects and damage are measured on texts and prompts that took no part in fitting or tuning.
Intervals are of 95 %, from bootstrap resamples; those of few independent prompts are wider. Where
a test may go on (`verdict.looks`), 95 % are for both looks together: each alone has 97.5 %.
Differences are edited minus base, so those of an edit that works are negative.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ConfigDict, Field

from models_store.schemas.base import DocumentedModel
from models_store.schemas.scorers import ScorerInfo


class ReceiptPart(DocumentedModel):
    """A part of a receipt."""

    model_config = ConfigDict(allow_inf_nan=False)


class Interval(ReceiptPart):
    """A measured value with its 95 % interval."""

    value: float
    """As measured."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


class Contrast(ReceiptPart):
    """One measure of the base and the edited model, on the same prompts."""

    base: float
    """Of the base model."""
    edited: float
    """Of the edited model."""
    difference: Interval
    """Edited minus base."""


class Effect(ReceiptPart):
    """Undesired text by a scorer, in generations from the test prompts."""

    scorer: str
    """Name of the scorer."""
    rate: Contrast
    """Share of generations whose score reaches the scorer's threshold."""
    score: Contrast
    """Mean score, in [0, 1]."""

    @property
    def improved(self) -> bool:
        """The rate falls significantly: its interval is below zero."""
        return self.rate.difference.high < 0

    @property
    def worsened(self) -> bool:
        return self.rate.difference.low > 0

    @property
    def gains(self) -> bool:
        """There is less undesired text; the mean score decides where the rate stays."""
        rate, score = self.rate.difference.value, self.score.difference.value
        return rate < 0 or (rate == 0 and score < 0)

    @property
    def contradicts(self) -> bool:
        """There is surely more undesired text; the mean score decides where the rate does not
        fall."""
        surely_higher = self.score.difference.low > 0 and self.rate.difference.value >= 0
        return self.worsened or surely_higher

    @property
    def least_fall(self) -> float:
        """Lower bound of the fall of the mean score."""
        return -self.score.difference.high


class ReadAgreement(ReceiptPart):
    """How a scorer calls generations that were read and labelled, those left out that the reader
    could not tell."""

    texts: int
    """Number of generations."""
    undesired: int
    """What the reader calls undesired."""
    flagged: int
    """What the scorer calls undesired."""
    both: int
    """What both do: over `flagged` it is the precision, over `undesired` the recall."""
    auc: float | None
    """Area under the ROC curve; None where the reader calls all the same."""


class ScorerCard(ReceiptPart):
    """A scorer as it was used for this edit."""

    info: ScorerInfo
    """What the scorer is."""
    reversed: bool
    """A high score means desired for this behaviour, so 1 - score is used."""
    auc: float | None
    """Area under the ROC curve on held-out texts; None for a scorer that only compares with the
    prompt's undesired answer, which these texts lack."""
    heldout_texts: int
    """Number of texts that the AUC is from."""
    headline: bool
    """Whether the AUC is high enough (0.75) to draw conclusions from."""
    agreement: float
    """Share of generated texts on which it agrees with the leading scorer."""
    contamination: str | None = None
    """Why it is not independent: what it was trained on, or shares with the models it judges."""
    chose_texts: bool = False
    """The behaviour named it in place of texts, and it divided those that the edit made."""
    stands_in_for: str | None = None
    """The default scorer in whose place it is, since the behaviour's texts taught that too little;
    of the lexicons it separates those texts best."""
    read: ReadAgreement | None = None
    """How far it agrees with a reader; None for a behaviour of which no generations were read, so
    all but presets."""


def relied_on(headline: Iterable[bool]) -> int:
    """Index of the scorer that conclusions are drawn from: the first that is not weak, else 0.

    Args:
        headline: of each scorer's card.
    """
    return next((index for index, good in enumerate(headline) if good), 0)


class TextQuality(ReceiptPart):
    """Quality of generated text, whatever it says."""

    distinct2: float
    """Distinct word bigrams over all bigrams, in all generations together."""
    loops: float
    """Share of generations that repeat a run of words over and over."""
    mean_tokens: float
    """Mean number of tokens of a generation."""
    ended: float
    """Share of generations that the model ended within the limit of tokens."""


FluencySource = Literal["desired", "heldout", "all"]


class PointDamage(ReceiptPart):
    kl: float
    """KL(base ‖ edited) in nats a token."""
    perplexity_ratio: float | None
    """Of neutral text, edited over base."""
    domain: float | None
    """Rise of the negative log-likelihood of desired text, nats a token."""
    fluency: float | None
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""
    distinct2_ratio: float | None
    """Distinct word bigrams, edited over base."""
    kl_preserve: float | None = None
    """KL on the texts to preserve; null without any."""
    fluency_source: FluencySource | None = None
    """As in `damage`, from which it may differ where there were fewer prompts."""
    kl_p95: float | None = None
    """KL that 95 % of positions do not exceed, in nats."""
    changed_choices: float | None = None
    """Share of positions with another likeliest token."""
    loops: float | None = None
    """This and the next two as differences, edited minus base. Of the trials of a search only the
    preferred ones have them."""
    repetition: float | None = None
    """Rise of the share of repeated word bigrams in long texts."""
    harmless_refusals: float | None = None
    """Rise of the share of harmless requests that are refused."""


class Preserved(ReceiptPart):
    """One of the preserved texts."""

    text: str
    """The beginning."""
    kl: float
    """KL(base ‖ edited), nats a token."""


class KindKl(ReceiptPart):
    """KL on neutral plain text of one kind."""

    kl: Interval
    """Nats a token."""
    texts: int
    """Number of texts."""


class Damage(ReceiptPart):
    """What else the edit changed."""

    kl: float
    """The larger of the two below: mean KL(base ‖ edited) in nats a token, full vocabulary."""
    kl_plain: Interval | None
    """On plain texts."""
    kl_chat: Interval | None
    """On responses in conversations; None for a model without a chat template."""
    neutral_texts: int
    """Number of neutral texts."""
    neutral_positions: int
    """Number of their tokens."""
    perplexity_ratio: Interval
    """Perplexity of neutral text under the edited model over that under the base."""
    domain: Interval | None
    """Compared with the limit: rise of the negative log-likelihood of desired text, nats a token;
    on samples of the base if there are enough, else on held-out texts."""
    domain_source: Literal["samples", "heldout"] | None = None
    """Which of the two below `domain` is."""
    domain_samples: Interval | None = None
    """On continuations of the prompts by the base that the leading scorer calls desired."""
    domain_heldout: Interval | None = None
    """On held-out desired texts of the behaviour."""
    fluency: Interval
    """Compared with the limit: negative log-likelihood of edited generations minus that of the
    texts that they are compared with, nats a token."""
    fluency_reader: str | None = None
    """The base model that computes the likelihoods: another one than the edited if there is one."""
    fluency_pairs: int = 0
    """Number of pairs of generations that were compared."""
    fluency_source: FluencySource = "desired"
    """Which pairs of generations were compared: `desired`, those that the leading scorer both calls
    desired; `all`, if those are too few; `heldout`, all too, but generations that the edit made
    desired are compared with held-out desired responses and not with the base's text."""
    fluency_against_base: Interval | None = None
    """The rise against the base's text alone, if `fluency_source` is `heldout`."""
    base: TextQuality
    """Of the base model's generations."""
    edited: TextQuality
    """Of the edited model's generations."""
    distinct2_ratio: float
    """Distinct word bigrams, edited over base."""
    kl_preserve: Interval | None = None
    """Mean KL on the texts to preserve: over all their tokens or over the first tokens of
    responses, whichever is larger; None without such texts."""
    preserve_items: int = 0
    """How many texts it was measured on."""
    preserve_worst: tuple[Preserved, ...] = ()
    """The ten that changed most."""
    kl_by_kind: dict[str, KindKl] = Field(default_factory=dict)
    """`kl_plain` by kind of text, such as `code`; empty in early receipts."""
    kl_p95: Interval | None = None
    """The KL that 95 % of all positions of neutral text do not exceed. This and what follows is
    None in receipts from before it was measured."""
    changed_choices: Interval | None = None
    """Share of positions of neutral text at which another token is the most likely one."""
    loops: Contrast | None = None
    """Share of long texts that repeat a run of words over and over."""
    repetition: Contrast | None = None
    """Mean share of the word bigrams of a long text that stood in it before."""
    long_texts: int = 0
    """How many long texts of each model there are: of 128 tokens at most, about neutral matters."""
    harmless_refusals: Contrast | None = None
    """Share of harmless requests that are refused; None for a model without a chat template."""
    harmless_requests: int = 0
    """Number of harmless requests."""

    @property
    def point(self) -> PointDamage:
        """The figures, as those of a trial or of another strength are given."""
        return PointDamage(
            kl=self.kl,
            perplexity_ratio=self.perplexity_ratio.value,
            domain=value_of(self.domain),
            fluency=self.fluency.value,
            distinct2_ratio=self.distinct2_ratio,
            kl_preserve=value_of(self.kl_preserve),
            fluency_source=self.fluency_source,
            kl_p95=value_of(self.kl_p95),
            changed_choices=value_of(self.changed_choices),
            loops=value_of(self.loops),
            repetition=value_of(self.repetition),
            harmless_refusals=value_of(self.harmless_refusals),
        )


Figure = Contrast | Interval | float | None
"""As a receipt has it, or a trial; None where it was not measured."""


def interval_of(figure: Figure) -> Interval | None:
    """Of a contrast that of the difference; of a bare value nothing but itself."""
    if isinstance(figure, Contrast):
        return figure.difference
    if isinstance(figure, float):
        return Interval(value=figure, low=figure, high=figure)
    return figure


def value_of(figure: Figure) -> float | None:
    """What was measured, without its interval; of a contrast the difference."""
    interval = interval_of(figure)
    return None if interval is None else interval.value


ControlKind = Literal[
    "random_direction",
    "permuted_labels",
    "random_region",
    "prompt_only",
    "paper_alpha",
    "paper_equal_kl",
]
ProbeKind = Literal["converged", "paper"]
"""How a probe was trained: from zero to its optimum, or as in the paper (arXiv 2407.08770), for a
few epochs from a random start."""


WordingRole = Literal["system", "before_prompt"]
"""Where an instruction stands: as the system message of the conversation, or before the prompt."""


class Control(ReceiptPart):
    """A comparison that should do less than the edit."""

    kind: ControlKind
    """What it is."""
    probe: ProbeKind | None = None
    """Of the paper's method; in receipts from before there were two it is None, and was `paper`."""
    draw: int
    """Number of the draw, from 0."""
    scale: float
    """Factor on the baseline's coefficients that brought its KL closest to the edit's."""
    kl: float
    """Its KL to the base, nats a token."""
    target_kl: float | None
    """The edit's KL on the same calibration texts; None where the baseline was not matched."""
    matched: bool
    """Whether the two differ by 10 % at most."""
    evaluations: int
    """How often its KL was measured to find the scale."""
    effects: tuple[Effect, ...]
    """On some of the test prompts; `edited` is the baseline."""
    versus_edit: Interval
    """The edit's rate minus the baseline's, on the same prompts, by the scorer that the verdict
    relies on: the first that is not weak, else the leading one."""
    wording: str | None = None
    """The instruction, where the baseline is a prompt."""
    role: WordingRole | None = None
    """Of the wording; in receipts from before there were two it is None, and was
    `before_prompt`."""


class Dose(ReceiptPart):
    """The edit at another strength."""

    strength: float
    """Factor of the edit."""
    damage: PointDamage | None
    """None where the model's outputs are not finite any more."""
    effects: tuple[Effect, ...] = ()
    """In thorough receipts; empty at a strength whose text could not be generated or scored."""


class SideEffect(ReceiptPart):
    """Another scorer's rate on the same generations."""

    name: str
    """Name of the measure."""
    measures: str
    """What it measures."""
    of: Contrast
    """Base and edited model."""
    unit: Literal["share", "tokens"] = "share"
    """`share`: of the generations that show the trait; `tokens`: a mean number."""


class SafetyCheck(ReceiptPart):
    """One kind of harm."""

    name: str
    """What is counted."""
    prompts: int
    """Number of prompts."""
    of: Contrast
    """Shares of the base model's and the edited model's texts."""
    surely: float
    """Lower bound of the harm: the mild end of the 95 % interval; 0 or less means none."""
    margin: float
    """From the operator's policy."""

    @property
    def exceeded(self) -> bool:
        return self.surely > self.margin


class Safety(ReceiptPart):
    """Harm of the edit, and the decision of the policy."""

    checks: tuple[SafetyCheck, ...]
    """By kind of harm."""
    published: bool
    """False: the edit failed with `policy_refused`."""

    @property
    def harmful(self) -> bool:
        return any(check.exceeded for check in self.checks)


class LongForm(ReceiptPart):
    """Measurements on longer generations."""

    kind: Literal["long", "three_turns"]
    """One long text, or the third answer of a conversation."""
    prompts: int
    """Number of prompts."""
    max_new_tokens: int
    """Most tokens of a text."""
    effects: tuple[Effect, ...]
    """By scorer."""
    base: TextQuality
    """Of the base model's texts."""
    edited: TextQuality
    """Of the edited model's texts."""


class Selectivity(ReceiptPart):
    """Change of the likelihood of held-out texts; it does not rank edits as generations do."""

    undesired: Interval
    """Rise of the negative log-likelihood of undesired texts, nats a token."""
    desired: Interval
    """That of desired texts."""
    difference: Interval
    """The first minus the second."""


class Trait(ReceiptPart):
    """One behaviour in all four combinations of an edit and its parent edits."""

    behavior: str
    """Name of the behaviour."""
    scorer: str
    """Name of the scorer."""
    prompts: int
    """Number of prompts."""
    base: float
    """Share of undesired generations with neither."""
    parents: float
    """With the parent edits alone."""
    edit: float
    """With the edit alone."""
    both: float
    """With all."""
    interaction: Interval
    """(both - parents) - (edit - base): 0 if the two do not interfere."""


class SuiteMetric(ReceiptPart):
    name: str
    """Name of the metric."""
    higher_is_better: bool
    """Which way is good."""
    of: Contrast
    """Base and edited model."""
    items: int
    """Number of items."""


class SuiteResult(ReceiptPart):
    """A standard suite, run on the base and on the edited model."""

    name: str
    """Name of the suite."""
    protocol: str
    """How it is run."""
    data: str
    """The source of the operator's data, with their digest."""
    metrics: tuple[SuiteMetric, ...]
    """Its figures."""
    seconds: float
    """How long it took."""
