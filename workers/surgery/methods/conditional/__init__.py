"""The method `conditional`: its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from models_store.errors import FieldError
from models_store.schemas.items import has_responses
from models_store.schemas.method_base import (
    Damping,
    Factor,
    FixedMethod,
    Layers,
    MaxTokens,
    Need,
    Row,
    Sizes,
)
from models_store.weights.architectures import DOWN
from workers.surgery.methods.natural_bias import NaturalBias

if TYPE_CHECKING:
    from models_store.schemas.behaviors import Behavior
    from models_store.schemas.items import Item


class Conditional(FixedMethod):
    """A natural gradient that acts only where the response to certain prompts begins. For
    behaviours that depend on the prompt, such as refusal: the behaviour's texts are responses to
    the prompts to change, `preserve` has responses to prompts that must not change. Needs
    backward passes as `natural_bias` does."""

    place: ClassVar = 5
    docs: ClassVar = NaturalBias.docs
    fit: ClassVar = "workers.surgery.methods.conditional.fit:fit"
    modules: ClassVar = (DOWN,)
    carrier: ClassVar = "coefficients"
    solve_seconds: ClassVar = 5.0
    search: ClassVar = (Row(10, responses=True, preserved=True),)

    type: Literal["conditional"] = "conditional"
    """Name of the method."""
    layers: Layers | None = None
    """Layers to write into; by default every second one after the first eighth."""
    answer_tokens: Annotated[int, Field(ge=1, le=4096)] = 10
    """Number of first tokens of a response that are used."""
    damping: Damping = 0.3
    """Of the curvature, as a share of the mean of its diagonal."""
    ridge: Damping = 0.03
    """Damping of the regression, as a share of the mean of the moment matrix' diagonal."""
    scale: Factor | None = None
    """Multiple of the step; by default calibrated to `limits.max_kl`."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""

    def default_layers(self, layers: int) -> Sequence[int]:
        return NaturalBias().default_layers(layers)

    def needs(self, layers: int) -> Sequence[Need]:
        written = self.layers_in(layers)
        return (
            Need("first tokens", written),
            Need("shift curvature", written),
            Need("answer starts", written),
            Need("answer shifts", written, self.answer_tokens),
        )

    def delta_bytes(self, sizes: Sizes) -> int:
        return sizes.down_bytes(len(self.layers_in(sizes.layers)))

    def problems(
        self, base_model: str, layers: int, behavior: Behavior, preserve: Sequence[Item]
    ) -> Iterator[FieldError]:
        """Also texts that a condition on the prompt cannot be learned from."""
        yield from super().problems(base_model, layers, behavior, preserve)
        sides = (behavior.undesired, behavior.desired)
        # Texts that a scorer chooses are responses.
        if not behavior.lacks_texts and not all(map(has_responses, sides)):
            yield FieldError(
                "/behavior",
                "no_answers",
                "behavior: the method conditional needs texts of both sides that are responses to "
                "the prompts that the edit is for: items with prompt and completion, or messages",
            )
        if not has_responses(preserve):
            yield FieldError(
                "/preserve",
                "no_answers",
                "preserve: the method conditional needs responses to prompts that the edit must "
                "leave alone: items with prompt and completion, or messages",
            )
