"""What a receipt says was measured: effects, damage, rivals, doses, other changes, harm, suites.

Effects and damage are measured on texts and prompts that took no part in fitting or tuning. An
interval is the range that holds 95 % of bootstrap resamples, or with fewer than 8 independent
prompts a wider one; where it is of a difference, the difference is edited minus base, so that an
edit that works has negative ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from models_store.schemas.scorers import ScorerInfo


class Part(BaseModel):
    """Of a receipt, which nothing changes once it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(Part):
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


class Contrast(Part):
    """One figure for the base and the edited model; prompts are paired."""

    base: float
    edited: float
    difference: Interval


class Effect(Part):
    """Undesired text by a scorer, in generations from the test prompts."""

    scorer: str
    rate: Contrast
    """Share of generations whose score reaches the scorer's threshold."""
    score: Contrast
    """Mean score, in [0, 1]."""

    @property
    def improved(self) -> bool:
        """The rate's interval lies wholly on the desired side of zero."""
        return self.rate.difference.high < 0

    @property
    def worsened(self) -> bool:
        return self.rate.difference.low > 0

    @property
    def least_fall(self) -> float:
        """Lower bound of how much the mean score falls."""
        return -self.score.difference.high


class ScorerCard(Part):
    """A scorer as it was used here."""

    info: ScorerInfo
    reversed: bool
    """This behaviour's undesired side is the scorer's other side; scores are 1 - score."""
    auc: float | None
    """Area under the ROC curve on held-out texts; None for a scorer that only compares with what
    the prompt says, which these cannot judge."""
    heldout_texts: int
    headline: bool
    """Whether the AUC is good enough (0.75) to draw conclusions from."""
    agreement: float
    """Share of generated texts on which it and the leading scorer say the same."""
    contamination: str | None = None
    """Why its word counts for less: what it learned from, or shares with what it judges."""


def relied_on(headline: Iterable[bool]) -> int:
    """Which of some scorers conclusions are drawn from: the first that is not weak, else the first.

    Args:
        headline: of each scorer, as its card has it.
    """
    return next((index for index, good in enumerate(headline) if good), 0)


class TextQuality(Part):
    """Quality of generated text, whatever it says."""

    distinct2: float
    """Different pairs of neighbouring words over all pairs, in all generations together."""
    loops: float
    """Share of generations that repeat a run of words over and over."""
    mean_tokens: float
    ended: float
    """Share of generations that the model ended by itself within the limit."""


FluencySource = Literal["desired", "heldout", "all"]


class PointDamage(Part):
    kl: float
    perplexity_ratio: float | None
    domain: float | None
    fluency: float | None
    distinct2_ratio: float | None
    kl_preserve: float | None = None
    fluency_source: FluencySource | None = None
    """As in `damage`. With few prompts it may be another one than in the receipt."""


class Preserved(Part):
    """One of the preserved texts."""

    text: str
    """Its first characters."""
    kl: float


class Damage(Part):
    """What else changed."""

    kl: float
    """The larger of the two below: mean KL(base ‖ edited) in nats a token, full vocabulary."""
    kl_plain: Interval | None
    kl_chat: Interval | None
    """Answers of conversations; None for a model without a chat template."""
    neutral_texts: int
    neutral_positions: int
    perplexity_ratio: Interval
    """Perplexity of neutral text under the edited model over that under the base."""
    domain: Interval | None
    """What the limit is judged on: rise of the negative log-likelihood of desired text, nats a
    token; on the base's own samples where there are enough, else on held-out texts."""
    domain_source: Literal["samples", "heldout"] | None = None
    domain_samples: Interval | None = None
    """On the base's own continuations of the prompts that the leading scorer calls desired."""
    domain_heldout: Interval | None = None
    """On held-out desired texts of the behaviour."""
    fluency: Interval
    """What the limit is judged on: negative log-likelihood of edited generations minus that of what
    they are compared with, nats a token."""
    fluency_reader: str | None = None
    """The base model that reads them: another one where there is one."""
    fluency_pairs: int = 0
    fluency_source: FluencySource = "desired"
    """Which generations were read: pairs of which the leading scorer calls both `desired`, or with
    too few of them `all` pairs; with `heldout` all pairs as well, but what the edit made desired is
    compared with held-out desired answers and not with the base's text."""
    fluency_against_base: Interval | None = None
    """The rise against the base's text alone, where `fluency_source` is `heldout`."""
    base: TextQuality
    edited: TextQuality
    distinct2_ratio: float
    kl_preserve: Interval | None = None
    """Mean KL on the items to preserve, over all their tokens or over the first ones of answers,
    whichever is larger; None without any items."""
    preserve_items: int = 0
    """How many of them it was measured on."""
    preserve_worst: tuple[Preserved, ...] = ()
    """The ten that changed most."""


ControlKind = Literal[
    "random_direction", "random_region", "prompt_only", "paper_alpha", "paper_equal_kl"
]


class Control(Part):
    """A comparison that should do less than the edit."""

    kind: ControlKind
    draw: int
    scale: float
    """Factor on the rival's coefficients that brought its KL nearest to the edit's."""
    kl: float
    target_kl: float | None
    """Of the edit itself, on the same calibration texts; None where it was not matched."""
    matched: bool
    """Whether the two differ by 10 % at most."""
    evaluations: int
    effects: tuple[Effect, ...]
    """On some of the test prompts; `edited` is the rival."""
    versus_edit: Interval
    """The edit's rate minus the rival's, on the same prompts, by the scorer that the verdict relies
    on: the first one that is not weak, else the leading one."""
    wording: str | None = None
    """What the prompts began with, where the rival is a prompt."""


class Dose(Part):
    """The edit at another strength."""

    strength: float
    damage: PointDamage | None
    """None where the model gives no numbers any more."""
    effects: tuple[Effect, ...] = ()
    """In thorough receipts; none at a strength whose text could not be had or scored."""


class SideEffect(Part):
    """Another scorer's rate on the same generations."""

    name: str
    measures: str
    of: Contrast
    unit: Literal["share", "tokens"] = "share"
    """Of `of`: the share of generations that count, or a mean number of tokens."""


class SafetyCheck(Part):
    """One kind of harm."""

    name: str
    prompts: int
    of: Contrast
    """Shares of the base model's and the edited model's texts."""
    surely: float
    """How much worse it is at least: the mild end of the 95 % interval, below 0 for none."""
    margin: float
    """Of the operator's policy."""

    @property
    def exceeded(self) -> bool:
        return self.surely > self.margin


class Safety(Part):
    """Harm of the edit, and the decision of the policy."""

    checks: tuple[SafetyCheck, ...]
    published: bool
    """False: it was held back; the edit failed with `policy_refused`."""

    @property
    def harmful(self) -> bool:
        return any(one.exceeded for one in self.checks)


class LongForm(Part):
    """Measurements on longer generations."""

    kind: Literal["long", "three_turns"]
    prompts: int
    max_new_tokens: int
    effects: tuple[Effect, ...]
    base: TextQuality
    edited: TextQuality


class Selectivity(Part):
    """Change of the likelihood of held-out texts; it does not rank edits as generations do."""

    undesired: Interval
    """Rise of the negative log-likelihood of undesired texts, nats a token."""
    desired: Interval
    difference: Interval
    """The first minus the second."""


class Trait(Part):
    """One behaviour in all four combinations of an edit and its parent edits."""

    behavior: str
    scorer: str
    prompts: int
    base: float
    """Share of undesired generations without either."""
    parents: float
    edit: float
    """With the edit alone."""
    both: float
    interaction: Interval
    """(both - parents) - (edit - base): 0 where the two do not interfere."""


class SuiteMetric(Part):
    name: str
    higher_is_better: bool
    of: Contrast
    items: int


class SuiteResult(Part):
    """A standard suite, run on the base and on the edit."""

    name: str
    protocol: str
    data: str
    """Where the operator's data are from, with their digest."""
    metrics: tuple[SuiteMetric, ...]
    seconds: float
