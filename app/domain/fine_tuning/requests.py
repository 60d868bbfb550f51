"""The body that makes a job, as OpenAI's clients send it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from app.domain.bodies import NoList, NotSupported, RequestBody
from app.domain.edits.requests import Metadata, Seed, Suffix
from models_store.schemas.methods import Auto, Effort, Limits, Method

Automatic = Literal["auto"] | None
FileId = Annotated[str, Field(min_length=1, max_length=100, examples=["file-01M8…"])]


class Hyperparameters(RequestBody):
    """Numbers of gradient training. An edit is fitted in one step, and what it needs it finds by
    itself: any number is accepted, and an event of the job says that it has no effect."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Automatic = None
    """Without effect."""
    batch_size: Annotated[int, Field(ge=1, le=256)] | Automatic = None
    """Without effect."""
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Automatic = None
    """Without effect."""

    def without_effect(self) -> Iterator[str]:
        """`name = number` of each that was given."""
        for name, value in self.model_dump().items():
            if value not in (None, "auto"):
                yield f"{name} = {value:g}"


class DpoHyperparameters(Hyperparameters):
    beta: Annotated[float, Field(gt=0, le=2)] | Automatic = None
    """Without effect."""


class Supervised(RequestBody):
    hyperparameters: Hyperparameters | None = None
    """Without effect."""


class Dpo(RequestBody):
    hyperparameters: DpoHyperparameters | None = None
    """Without effect."""


class FineTuningMethod(RequestBody):
    type: Literal["supervised", "dpo"]
    """`dpo`: from preferences; `supervised`: from desired responses, against the base's own."""
    supervised: Supervised | None = None
    """Of the type `supervised`."""
    dpo: Dpo | None = None
    """Of the type `dpo`."""
    reinforcement: NotSupported = None
    """Not supported."""

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """Those of the method that is used."""
        used = self.dpo if self.type == "dpo" else self.supervised
        return used.hyperparameters if used is not None else None


class EditOptions(RequestBody):
    """What OpenAI has no word for."""

    method: Method = Auto()
    """How the edit is made; by default it is searched for."""
    limits: Limits = Limits()
    """The damage that it may do."""
    effort: Effort = "standard"
    """How much is tried and measured."""


class FineTuningBody(RequestBody):
    """Make a fine-tuning job, which is an edit."""

    model: Annotated[str, Field(min_length=1, max_length=1000, examples=["smollm2-135m-instruct"])]
    """A base model, or a variant of one, which is fine-tuned further."""
    training_file: FileId
    """Preferences for the method `dpo`; conversations, or prompts with completions, for
    `supervised`."""
    validation_file: FileId | None = None
    """Its prompts are those that the edit is chosen and tested by; by default these are taken from
    the training file, whose examples with them are then not fitted on."""
    method: FineTuningMethod | None = None
    """`supervised` by default."""
    hyperparameters: Hyperparameters | None = None
    """The older place of those of `supervised`."""
    seed: Seed | None = None
    """It draws splits, samples and controls; by default 0."""
    suffix: Suffix | None = None
    """A name for the edit among those of its base model: `model:suffix` serves it too."""
    metadata: Metadata | None = None
    """Up to 16 words of your own, with their values."""
    integrations: NoList = None
    """Not supported."""
    edit: EditOptions = EditOptions()
    """Of the edit that the job is, as in `POST /v1/edits`."""

    @property
    def method_type(self) -> Literal["supervised", "dpo"]:
        return "supervised" if self.method is None else self.method.type

    @property
    def given_hyperparameters(self) -> Hyperparameters:
        given = self.method.hyperparameters if self.method is not None else None
        own = DpoHyperparameters if self.method_type == "dpo" else Hyperparameters
        return given or self.hyperparameters or own()
