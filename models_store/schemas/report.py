"""The receipt of an edit, `report.json`: what it does, what it costs, and how to repeat it."""

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
    Part,
    PointDamage,
    Safety,
    ScorerCard,
    Selectivity,
    SideEffect,
    SuiteResult,
    Trait,
    relied_on,
)
from models_store.schemas.methods import Effort


class Reproduction(Part):
    """Comparison of an edit with the one that it reproduces."""

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
    """Something about a valid request that could be better."""

    code: str
    pointer: str
    """JSON pointer to the field of the request that it is about."""
    detail: str


class Separability(Part):
    """How separable the two sides of held-out texts are, as areas under the ROC curve."""

    probe_auc: float | None = None
    """By a linear classifier of the base's hidden states, trained on the fit texts."""
    words_auc: float
    """Words and runs of letters, trained on the fit texts."""
    length_auc: float
    """Length in words alone; which side is the longer is known from the fit texts."""
    note: str | None


class SplitCounts(Part):
    """Numbers of texts and prompts by split."""

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
    """Responses of the two models to one test prompt, with the same random numbers."""

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
    """Instruction sets that round sums each in their way, such as `AVX512 avx512_bf16 amx_bf16`."""
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
    """`distinguishable`, and the edit beats every random direction that was drawn, none of which
    stayed below half of its KL."""
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
    """One trial of a search, on validation prompts."""

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
    """Lower bound of how much the rate of undesired text falls, by the leading scorer."""
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
    """The receipt of a finished edit."""

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
