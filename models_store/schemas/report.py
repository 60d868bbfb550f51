"""The receipt of an edit, `report.json`: what it does, what it cost, and how to repeat it."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.measurements import (
    Control,
    Damage,
    Dose,
    Effect,
    LongForm,
    PointDamage,
    ProbeKind,
    ReceiptPart,
    Safety,
    ScorerCard,
    Selectivity,
    SideEffect,
    SuiteResult,
    Trait,
    relied_on,
)
from models_store.schemas.methods import Effort


class Reproduction(ReceiptPart):
    """Comparison of an edit with the one that it reproduces."""

    edit_id: str
    """The earlier edit."""
    bit_equal: bool
    """The two deltas have the same digest."""
    terms_sha256: str
    """Of the earlier edit."""
    environment: tuple[str, ...]
    """What differs between the two: threads, versions, dtype, CPU."""
    inside: tuple[str, ...]
    """Figures of the new receipt that are within the intervals of the earlier one."""
    outside: tuple[str, ...]
    """Those that are not."""


class ProbeReport(ReceiptPart):
    """The linear classifier on hidden states that a method used."""

    train_accuracy: float
    """On its training rows."""
    train_rows: int
    """Their number."""
    heldout_accuracy: float
    """On the held-out texts, like the AUC."""
    heldout_auc: float
    """Area under the ROC curve."""
    heldout_rows: int
    """Their number."""
    direction_norm: float
    """Of its row for undesired texts, W[undesired], like all below but the last."""
    kind: ProbeKind = "paper"
    """How it was trained."""
    cosine_to_start: float | None = None
    """With the random weights that it began with: 1 if training has not turned it. None, like the
    next, where it began with zero."""
    norm_ratio: float | None = None
    """Norm over that at the start."""
    cosine_between_seeds: float | None = None
    """With that of a probe by the next seed: another start and another split of the rows."""
    antisymmetry: float | None = None
    """Cosine between its two rows: -1 where nothing is left of a random start."""


class Remark(ReceiptPart):
    """Something about a valid request that could be better."""

    code: str
    """Stable."""
    pointer: str
    """JSON pointer to the field of the request."""
    detail: str
    """For people."""


class Separability(ReceiptPart):
    """How separable the two sides of held-out texts are, as areas under the ROC curve."""

    probe_auc: float | None = None
    """By a linear classifier on the base's hidden states, trained on the fit texts."""
    words_auc: float
    """By words and character n-grams, trained on the fit texts."""
    length_auc: float
    """By the length in words alone; the fit texts decide which side is the longer."""
    note: str | None
    """What to make of it; null: nothing."""


class SplitCounts(ReceiptPart):
    """Numbers of texts and prompts by split."""

    fit_undesired: int
    """To fit on."""
    fit_desired: int
    """To fit on."""
    scorer_undesired: int
    """For scorers to learn from."""
    scorer_desired: int
    """For scorers to learn from."""
    heldout_undesired: int
    """For nothing but tests."""
    heldout_desired: int
    """For nothing but tests."""
    validate_prompts: int
    """To choose an edit by."""
    test_prompts: int
    """To test it on."""
    prompts_made: bool
    """The behaviour came without prompts: the prompts or the first words of held-out texts were
    used."""
    prompts_dropped: int
    """Prompts that repeat a text that methods or scorers are fitted on, or what one answers."""
    dropped_exact: int = 0
    """Of these, those of the same words. This and what follows is 0 in receipts of before it was
    counted."""
    dropped_near: int = 0
    """Others of nearly the same words."""
    dropped_runs: int = 0
    """Others that share 13 words in a row."""
    prompt_clusters: int = 0
    """Clusters of prompts that nearly repeat each other, which count as one template each."""
    near_duplicates: int
    """Texts put into the split of a text that they nearly repeat."""
    clusters_broken: bool
    """Nearly all texts repeat each other, so near-duplicates are in different splits."""


class MadeTexts(ReceiptPart):
    """How texts of a behaviour were made, where it names a scorer or the base model in their place:
    the base model continued prompts, and the scorer divided what came, or all is undesired."""

    scorer: str | None
    """Name of the scorer; null where the undesired texts alone were made."""
    prompts: int
    """That were continued; none of them is for validation or test."""
    samples: int
    """Continuations of each."""
    continuations: int
    """That were scored: different ones, and not empty."""
    flagged: int
    """Of these, those that the scorer counts as undesired; 0 without one."""
    prompts_used: int
    """Prompts with continuations of both kinds whose scores differ clearly; without a scorer, with
    one that is different from the desired text."""
    texts: int
    """On each side, or undesired ones."""


class TermReport(ReceiptPart):
    """One rank-one term of the delta."""

    layer: int
    """From 0."""
    module: str
    """Logical name of the matrix, such as `mlp.down_proj`."""
    expert: int | None
    """Of a mixture of experts; null: there is one matrix."""
    rows: int
    """Number of rows that it changes."""
    norm: float
    """Frobenius norm of the change at strength 1."""


class MethodReport(ReceiptPart):
    type: str
    """Name of the method."""
    settings: dict[str, JsonValue]
    """As the request gave them, with defaults."""
    alpha: float | None
    """Factor of the direction; null for methods without one."""
    relative_alpha: float | None
    """Alpha times the norm of the direction, over the mean norm of the rows."""
    details: dict[str, JsonValue]
    """What the method reports of its fit."""
    terms: tuple[TermReport, ...]
    """Of the delta."""


class Sample(ReceiptPart):
    """Responses of the two models to one test prompt, with the same random numbers."""

    prompt: str
    """The prompt."""
    base: str
    """What the base model says."""
    edited: str
    """What the edited model says."""


class Cost(ReceiptPart):
    stages: dict[str, float]
    """Seconds by stage."""
    evaluation: dict[str, float]
    """Seconds by part of the stage `evaluate`."""
    total_seconds: float
    """All stages."""
    load_seconds: float | None
    """From the start of the process to the model ready for its first batch."""
    peak_memory_bytes: int
    """Most resident memory of the process."""
    device_memory_bytes: int | None
    """Most memory on accelerators; null without one."""
    threads: int
    """Of the CPU."""
    device: str
    """What it ran on."""
    dtype: str
    """Type of the weights in memory."""
    cpu_capability: str | None = None
    """Instruction sets on which rounding depends, such as `AVX512 avx512_bf16 amx_bf16`."""
    batch_tokens: int | None = None
    """Padded tokens in a forward pass over texts."""
    batch_rows: int | None = None
    """Continuations that are generated together."""
    cached: tuple[str, ...] = ()
    """Results that came from a cache."""


class EditProvenance(ReceiptPart):
    edit_id: str
    """The edit."""
    created_at: int
    """Unix seconds."""
    base_model: str
    """Id of the base model."""
    base_fingerprint: str
    """Checksum of the base model's weights."""
    on_top_of: str | None
    """The variant that it was fitted on; null: the base model."""
    measures: str | None = None
    """The variant that was measured as it is; None where an edit was fitted."""
    behavior: BehaviorRef
    """What was to change."""
    seed: int
    """As requested."""
    seeds: dict[str, int]
    """The seeds derived from it, by purpose."""
    terms_sha256: str
    """Checksum of the delta, whatever its file says besides."""
    delta_bytes: int
    """Size of the delta's file."""
    versions: dict[str, str]
    """Of the software that figures may depend on."""
    decoding: dict[str, JsonValue]
    """How the scored texts were generated."""
    request: dict[str, JsonValue]
    """The body that repeats the edit, except for texts given in place, which are in `behavior`."""


Conclusion = Literal["confirmed", "unconfirmed", "contradicted"]
"""What the test says of an edit: `confirmed` is a success. `contradicted`: by the leading scorer
there is no less undesired text, by one that is not weak there is significantly more, or a random
direction does significantly more than the edit. Else `unconfirmed`: it helps, as far as could be
seen."""


EditOutcome = Literal["success", "within_limits", "exceeded", "harmful"]
"""The outcome of an edit, the first of these that holds. `harmful`: it does more harm than the
operator's margins allow. `exceeded`: it is over a limit on damage. `success`: as `verdict.success`
says. `within_limits`: it keeps all limits, but its effect is not shown."""

HARMFUL = "harmful_edit"
"""Code of the remark on harm that is beyond the operator's margins."""

SECOND_LOOK = 3
"""Times as many samples of each prompt, where the test of an edit is undecided."""


class Verdict(ReceiptPart):
    """The receipt in one sentence."""

    sentence: str
    """Effect, controls, cost, objections and harm."""
    outcome: EditOutcome | None = None
    """None in receipts of earlier versions."""
    advice: str | None = None
    """Whether to use the edit, and why, in a sentence that begins with Yes or No."""
    conclusion: Conclusion | None = None
    """None where nothing was tested, and in receipts of earlier versions."""
    prompts_needed: int | None = None
    """If unconfirmed: about how many test prompts would show all that is not significant yet in 4
    of 5 repetitions, if the differences are as measured, or halve what does not fall; None where
    these show that nothing is halved, and where no number of prompts would help."""
    looks: int = 1
    """2: the test was undecided and went on with three times as many samples of each prompt."""
    success: bool = False
    """`distinguishable`, and the edit beats every random direction that was drawn, each of which
    reached at least half of its KL."""
    distinguishable: bool
    """By every scorer the improvement is significant, and at least one scorer is not weak."""
    beats_random_direction: bool | None = None
    """None if there was no such control."""
    within_limits: bool
    """Whether all limits on damage are kept."""
    exceeded: tuple[str, ...] = ()
    """Names of the limits that are exceeded."""
    underpowered: bool
    """Fewer than 40 test prompts, counting those of one template once."""
    smallest_visible: float
    """The smallest change of the leading rate that these prompts would mostly detect; 1 if they are
    too few for any."""


class Candidate(ReceiptPart):
    """One trial of a search, on validation prompts."""

    index: int
    """Of the point, whose delta can be served and exported."""
    method: str
    """Name of the method."""
    label: str
    """Method and place in words, such as `bias, layers 14, 17, 20`."""
    scale: float
    """Factor on its coefficients."""
    prompts: int
    """Validation prompts in its last measurement."""
    effects: tuple[Effect, ...]
    """By scorer, the leading one first."""
    gain_low: float
    """Lower bound of the fall of the rate of undesired text, by the leading scorer."""
    damage: PointDamage
    """On texts for choosing."""
    exceeded: tuple[str, ...]
    """Names of the limits that it exceeds."""
    selected: bool
    """Whether it is the edit."""
    relative_alpha: float | None = None
    """Its alpha over the mean norm of the rows; null for methods without one."""
    seconds: float = 0.0
    """How long it was measured."""


class Search(ReceiptPart):
    """How the edit was chosen."""

    candidates: tuple[Candidate, ...]
    """All that were measured."""
    skipped: tuple[str, ...] = ()
    """Candidates that were not measured, each with the reason."""


class Report(ReceiptPart):
    """The receipt of a finished edit."""

    schema_version: Literal[1, 2] = 2
    """Of this format."""
    verdict: Verdict
    """What it all says."""
    provenance: EditProvenance
    """Where it comes from, and how to repeat it."""
    method: MethodReport
    """How it was made."""
    limits: dict[str, float]
    """By name, as requested."""
    splits: SplitCounts
    """Numbers of texts and prompts."""
    earlier_tests: int = 0
    """Other edits of this base model that were tested on the same prompts before. The best of many
    looks better than it is: after several, confirm with other prompts."""
    made_texts: MadeTexts | None = None
    """None if the texts were given."""
    separability: Separability
    """How separable the two sides of the texts are."""
    warnings: tuple[Remark, ...] = ()
    """Harm that is beyond the operator's margins, and what could be better about the texts."""
    probe: ProbeReport | None
    """The linear classifier; null for methods without one."""
    scorers: tuple[ScorerCard, ...]
    """In the order of `effects`."""
    effects: tuple[Effect, ...]
    """By scorer, the leading one first."""
    damage: Damage
    """What else changed."""
    controls: tuple[Control, ...]
    """Comparisons that should do less than the edit."""
    samples: tuple[Sample, ...]
    """Drawn at random by the seed."""
    cost: Cost
    """Time and memory."""
    effort: Effort = "standard"
    """How much was tried and measured."""
    search: Search | None = None
    """None if the method makes one edit."""
    doses: tuple[Dose, ...] = ()
    """At other strengths; empty where not measured."""
    side_effects: tuple[SideEffect, ...] = ()
    """Other scorers on the same generations."""
    long_form: tuple[LongForm, ...] = ()
    """On longer texts; empty where not measured."""
    selectivity: Selectivity | None = None
    """On held-out texts; null where not measured."""
    composition: tuple[Trait, ...] = ()
    """With parent edits, or of several edits: each behaviour in all combinations."""
    suites: tuple[SuiteResult, ...] = ()
    """Standard suites that were run."""
    reproduction: Reproduction | None = None
    """Compared with the edit that it repeats; null: it repeats none."""
    safety: Safety | None = None
    """None if nothing was tested, or the policy measures no harm."""

    @property
    def leading(self) -> Effect:
        """By the scorer that the edit was selected by."""
        return self.effects[0]

    @property
    def relied(self) -> Effect:
        """By the scorer that the verdict relies on."""
        return self.effects[relied_on(card.headline for card in self.scorers)]
