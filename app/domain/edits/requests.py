"""The bodies of the requests that make work, as clients send them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag

from app.domain.bodies import RequestBody
from models_store.ids import SUFFIX_PATTERN
from models_store.schemas.behaviors import MAX_PRESERVED, Behavior
from models_store.schemas.catalogue import HubSource
from models_store.schemas.imports import ModelSource
from models_store.schemas.items import Item
from models_store.schemas.methods import METHODS, Auto, Effort, Limits, Method, MethodName
from models_store.schemas.records import ExportDtype, ExportFormat

MAX_METADATA = 16


def _named_or_in_place(value: Any) -> str:
    return "name" if isinstance(value, str) else "Behavior"


MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
VariantField = Annotated[str, Field(min_length=1, max_length=1000)]


BehaviorField = Annotated[
    Annotated[str, Field(max_length=200), Tag("name")] | Annotated[Behavior, Tag("Behavior")],
    Discriminator(_named_or_in_place),
]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Suffix = Annotated[str, Field(pattern=rf"^{SUFFIX_PATTERN.pattern}$")]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA)]
Preserved = Annotated[tuple[Item, ...], Field(max_length=MAX_PRESERVED)]
SuiteNames = Annotated[tuple[str, ...], Field(max_length=8)]


def _named_or_with_settings(value: Any) -> str:
    return "name" if isinstance(value, str) else "settings"


def _with_defaults(name: str) -> Any:
    return METHODS.get(name, Auto)()


if TYPE_CHECKING:
    MethodField = Method
else:
    MethodField = Annotated[
        Annotated[MethodName, AfterValidator(_with_defaults), Tag("name")]
        | Annotated[Method, Tag("settings")],
        Discriminator(_named_or_with_settings),
    ]
    """A name stands for the method with its defaults."""


class EditBody(RequestBody):
    """Make an edit of a base model."""

    base_model: Annotated[str, Field(max_length=200, examples=["smollm2-135m-instruct"])]
    """The id of a base model in the catalogue."""
    behavior: BehaviorField = Field(examples=["negativity"])
    """What to change: a preset's name, an uploaded behaviour's id, or the texts themselves."""
    method: MethodField = Field(default_factory=Auto)
    """A method with its settings, or its name alone; by default `auto`, a search."""
    limits: Limits = Limits()
    """Bounds on the damage; what is left out has its default."""
    effort: Effort = "standard"
    """How much is tried and measured: a few minutes, ten minutes, or longer."""
    seed: Seed = 0
    """Of all that is random: the same request with the same seed makes the same edit."""
    suffix: Suffix | None = None
    """A name for the edit among those of its base model: `base:suffix` serves it."""
    metadata: Metadata = Field(default_factory=dict)
    """Your own strings, to filter by."""
    preserve: Preserved = ()
    """Texts that must not change; also bounded by `max_kl`."""
    suites: SuiteNames = ()
    """Standard suites to run on the base and on the edit, by name."""
    on_top_of: VariantField | None = None
    """A variant of the same base model that the edit is fitted on, in place of the base."""


class ReceiptBody(RequestBody):
    """Measure a variant as it is: nothing is fitted."""

    variant: Annotated[VariantField, Field(examples=["smollm2-135m-instruct:kinder@1+calmer@0.5"])]
    """An edit at any strength, or several together."""
    behavior: BehaviorField | None = None
    """What it is to change, as in `POST /v1/edits`; by default what its last edit was made for."""
    limits: Limits = Limits()
    """Bounds on the damage that the receipt compares with."""
    effort: Effort = "standard"
    """How much is measured."""
    seed: Seed | None = None
    """By default that of the last edit which was made for the behaviour, so that nothing it was
    fitted on is tested on; 0 if none was."""
    suffix: Suffix | None = None
    """A name for it among the edits of its base model: `base:suffix` serves it."""
    metadata: Metadata = Field(default_factory=dict)
    """Your own strings, to filter by."""
    preserve: Preserved = ()
    """Texts that must not change; also bounded by `max_kl`."""
    suites: SuiteNames = ()
    """Standard suites to run on the base and on the variant, by name."""

    def as_edit(self, base_model: str, behavior: str | Behavior) -> EditBody:
        """The body of an edit by that behaviour."""
        return EditBody(
            base_model=base_model,
            behavior=behavior,
            preserve=self.preserve,
            suites=self.suites,
        )


class ImportBody(RequestBody):
    """Make an edit of what was made elsewhere."""

    base_model: Annotated[str, Field(max_length=200, examples=["smollm2-135m-instruct"])]
    """The id of the base model that it was made for."""
    source: Annotated[HubSource | ModelSource, Field(discriminator="type")] | None = None
    """A repository on the Hugging Face hub, or another registered model; files are sent as a form
    in its place."""
    suffix: Suffix | None = None
    """A name for the edit among those of its base model: `base:suffix` serves it."""
    metadata: Metadata = Field(default_factory=dict)
    """Your own strings, to filter by."""


class ExportBody(RequestBody):
    """Make files of a variant for other programs."""

    variant: VariantField
    """What is exported: edits at their strengths."""
    format: ExportFormat
    """What the files are for."""
    dtype: ExportDtype | None = None
    """Of a `merged-gguf` export's matrices: `f16` (the default), `q8_0` or `f32`. No other format
    has a choice."""
    without_parents: bool = False
    """Leave out parent edits that the variant does not name."""
