"""The receipt of an edit, `report.json`: what it does, what it costs, and how to repeat it.

Effects and damage are measured on texts and prompts that took no part in fitting or tuning. An
interval is the range that holds 95 % of bootstrap resamples, or with fewer than 8 independent
prompts a wider one; where it is of a difference, the difference is edited minus base, so that an
edit that works has negative ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from models_store.behaviors import BehaviorRef
from models_store.methods import Effort
from models_store.scorers import ScorerInfo


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
    """How much of the undesired a scorer finds in text generated from the test prompts."""

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
    """What generated text looks like, whatever it says."""

    distinct2: float
    """Different pairs of neighbouring words over all pairs, in all generations together."""
    loops: float
    """Share of generations that repeat a run of words over and over."""
    mean_tokens: float
    ended: float
    """Share of generations that the model ended by itself within the limit."""


class PointDamage(Part):
    kl: float
    perplexity_ratio: float | None
    domain: float | None
    fluency: float | None
    distinct2_ratio: float | None
    kl_preserve: float | None = None


class Preserved(Part):
    """One of the items that were to stay as they are."""

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
    """Negative log-likelihood of edited generations minus that of the base's, nats a token, where
    the leading scorer calls both desired."""
    fluency_reader: str | None = None
    """The base model that reads them: another one where there is one."""
    fluency_pairs: int = 0
    fluency_source: Literal["desired", "all"] = "desired"
    """`all` where the leading scorer calls too few pairs of generations desired."""
    base: TextQuality
    edited: TextQuality
    distinct2_ratio: float
    kl_preserve: Interval | None = None
    """Mean KL on the items to preserve; None without any."""
    preserve_items: int = 0
    """How many of them it was measured on."""
    preserve_worst: tuple[Preserved, ...] = ()
    """The ten that changed most."""


ControlKind = Literal[
    "random_direction", "random_region", "prompt_only", "paper_alpha", "paper_equal_kl"
]


class Control(Part):
    """A rival of the edit, which should do less if the edit does what it says."""

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
    """In thorough receipts."""


class SideEffect(Part):
    """What a scorer of another trait says of the same generations."""

    name: str
    measures: str
    of: Contrast
    unit: Literal["share", "tokens"] = "share"
    """Of `of`: the share of generations that count, or a mean number of tokens."""


class SafetyCheck(Part):
    """One kind of harm, on prompts of its own."""

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
    """Whether the edit does harm, and what became of it."""

    checks: tuple[SafetyCheck, ...]
    published: bool
    """False: it was held back; the edit failed with `policy_refused`."""

    @property
    def harmful(self) -> bool:
        return any(one.exceeded for one in self.checks)


class LongForm(Part):
    """Longer generations than those that are scored otherwise."""

    kind: Literal["long", "three_turns"]
    prompts: int
    max_new_tokens: int
    effects: tuple[Effect, ...]
    base: TextQuality
    edited: TextQuality


class Selectivity(Part):
    """How the likelihood of held-out texts moved; it does not rank methods as generation does."""

    undesired: Interval
    """Rise of the negative log-likelihood of undesired texts, nats a token."""
    desired: Interval
    difference: Interval
    """The first minus the second."""


class Trait(Part):
    """One trait in all four combinations of an edit and what it is on top of."""

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


class Reproduction(Part):
    """How an edit compares with the one that it repeats."""

    edit_id: str
    bit_equal: bool
    """The two deltas have the same digest."""
    terms_sha256: str
    """Of the earlier one."""
    environment: tuple[str, ...]
    """What differs between the two: threads, versions, dtype, CPU; empty where nothing does."""
    inside: tuple[str, ...]
    """Figures of the new receipt that lie in the intervals of the earlier one."""
    outside: tuple[str, ...]


class ProbeReport(Part):
    """The linear classifier on hidden states that a method used."""

    train_accuracy: float
    """On the rows it was trained on."""
    train_rows: int
    heldout_accuracy: float
    """On the held-out texts, as the AUC."""
    heldout_auc: float
    heldout_rows: int
    direction_norm: float


class Remark(Part):
    """Something about a request that will do, but could be better."""

    code: str
    pointer: str
    """JSON pointer to the field of the request that it is about."""
    detail: str


class Separability(Part):
    """How well the two sides of held-out texts are told apart without a language model."""

    words_auc: float
    """Bag of words, trained on the fit texts."""
    length_auc: float
    """Length in words alone."""
    note: str | None


class SplitCounts(Part):
    """How many texts and prompts went where."""

    fit_undesired: int
    fit_desired: int
    scorer_undesired: int
    scorer_desired: int
    heldout_undesired: int
    heldout_desired: int
    validate_prompts: int
    test_prompts: int
    prompts_made: bool
    """The behaviour came without prompts: those that held-out texts answer, or their first words,
    were used."""
    prompts_dropped: int
    """Prompts that share 13 words in a row with a text, or were made and equal the prompt of one
    that methods or scorers are fitted on."""
    near_duplicates: int
    """Texts that went along with one they nearly repeat."""
    clusters_broken: bool
    """Nearly all texts repeat each other, so near-duplicates are on both sides of the split."""


class TermReport(Part):
    """One rank-one term of the delta."""

    layer: int
    module: str
    expert: int | None
    rows: int
    norm: float
    """Frobenius norm of the change at strength 1."""


class MethodReport(Part):
    type: str
    settings: dict[str, JsonValue]
    """As the request gave them, with defaults."""
    alpha: float | None
    relative_alpha: float | None
    details: dict[str, JsonValue]
    """What the method tells of its fit."""
    terms: tuple[TermReport, ...]


class Sample(Part):
    """What the two models made of one test prompt, with the same random numbers."""

    prompt: str
    base: str
    edited: str


class Cost(Part):
    stages: dict[str, float]
    """Seconds by stage."""
    evaluation: dict[str, float]
    """Seconds by part of the stage `evaluate`."""
    total_seconds: float
    load_seconds: float | None
    """From the start of the process to the model ready for its first batch."""
    peak_memory_bytes: int
    device_memory_bytes: int | None
    threads: int
    device: str
    dtype: str
    cpu_capability: str | None = None
    """Instruction set that torch uses, such as AVX512."""
    batch_tokens: int | None = None
    """Padded tokens that are read together."""
    batch_rows: int | None = None
    """Continuations that are generated together."""
    cached: tuple[str, ...] = ()
    """What had been computed before and was only read."""


class Provenance(Part):
    edit_id: str
    created_at: int
    base_model: str
    base_fingerprint: str
    on_top_of: str | None
    behavior: BehaviorRef
    seed: int
    seeds: dict[str, int]
    """The seeds that were drawn from it, by what they are for."""
    terms_sha256: str
    delta_bytes: int
    versions: dict[str, str]
    decoding: dict[str, JsonValue]
    """How the scored texts were generated."""
    request: dict[str, JsonValue]
    """The body that repeats the edit, but for texts given in place: those are in `behavior`."""


class Verdict(Part):
    """The receipt in one sentence."""

    sentence: str
    success: bool = False
    """`distinguishable`, and the edit beats every random direction that was drawn."""
    distinguishable: bool
    """Every scorer's interval excludes zero on the desired side, and at least one is not weak."""
    beats_random_direction: bool | None = None
    """None where there was no such control."""
    within_limits: bool
    exceeded: tuple[str, ...] = ()
    """Names of the limits that are exceeded."""
    underpowered: bool
    """Fewer than 40 test prompts, those of one template counted once."""
    smallest_visible: float
    """The smallest change of the leading rate that these prompts would mostly have shown; 1 where
    they are too few to show any."""


class Candidate(Part):
    """One candidate of a search, on validation prompts."""

    index: int
    """Of the point: its delta can be served and exported."""
    method: str
    label: str
    """Method and place in words, such as `bias, layers 14, 17, 20`."""
    scale: float
    prompts: int
    """Validation prompts that it was last measured on."""
    effects: tuple[Effect, ...]
    gain_low: float
    """Lower bound of the gain by the leading scorer: what selects."""
    damage: PointDamage
    exceeded: tuple[str, ...]
    selected: bool
    relative_alpha: float | None = None
    seconds: float = 0.0


class Search(Part):
    """How the edit was chosen."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[str, ...] = ()
    """Candidates that were not measured, each with why."""


class Report(Part):
    """All that is known about an edit when it is done."""

    schema_version: Literal[1, 2] = 2
    verdict: Verdict
    provenance: Provenance
    method: MethodReport
    limits: dict[str, float]
    splits: SplitCounts
    separability: Separability
    warnings: tuple[Remark, ...] = ()
    """What the texts and prompts leave to be desired."""
    probe: ProbeReport | None
    scorers: tuple[ScorerCard, ...]
    effects: tuple[Effect, ...]
    """By scorer; the first leads."""
    damage: Damage
    controls: tuple[Control, ...]
    samples: tuple[Sample, ...]
    """Drawn at random by the seed, not picked."""
    cost: Cost
    effort: Effort = "standard"
    search: Search | None = None
    """None where the method makes one edit."""
    doses: tuple[Dose, ...] = ()
    side_effects: tuple[SideEffect, ...] = ()
    long_form: tuple[LongForm, ...] = ()
    selectivity: Selectivity | None = None
    composition: tuple[Trait, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
    reproduction: Reproduction | None = None
    safety: Safety | None = None
    """None where nothing was tested, or the operator's policy has nothing measured."""

    @property
    def leading(self) -> Effect:
        """By the scorer that chose the edit."""
        return self.effects[0]

    @property
    def relied(self) -> Effect:
        """By the scorer that the verdict relies on."""
        return self.effects[relied_on(card.headline for card in self.scorers)]
