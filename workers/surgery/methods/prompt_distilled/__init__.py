"""The method `prompt_distilled`: its settings, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models_store.schemas.method_base import (
    DocsRow,
    Factor,
    FixedMethod,
    Layers,
    MaxTokens,
    Need,
    Sizes,
)
from models_store.weights.architectures import DOWN

FROM_DEPTH = 0.13
"""Where to begin writing by default, as a share of the depth."""


class PromptDistilled(FixedMethod):
    """What a prompt makes the model do, trained into `down_proj` of many layers.

    The model answers the prompts of the texts with `prompt` before them; the edit is trained so
    that without it the model predicts the same, and neutral text as before. The texts teach
    nothing else. Scaled as `bias` is.
    """

    place: ClassVar = 7
    docs: ClassVar = DocsRow(
        "`down_proj` of all layers but the first",
        "forward; forward and backward, 5 times, on answers",
    )
    fit: ClassVar = "workers.surgery.methods.prompt_distilled.fit:fit"
    modules: ClassVar = (DOWN,)
    carrier: ClassVar = "coefficients"

    type: Literal["prompt_distilled"] = "prompt_distilled"
    """Name of the method."""
    prompt: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """An instruction that makes the base model do what is desired, such as `You are a pirate. You
    talk like a pirate.`: its system message, or, for a behaviour without `chat` and a model without
    such messages, a text before each prompt. By default the behaviour's description and
    question."""
    layers: Layers | None = None
    """Layers to write into; by default all after the first eighth."""
    scale: Factor | None = None
    """Multiple of what was trained; by default calibrated to `limits.max_kl`."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""

    def default_layers(self, layers: int) -> Sequence[int]:
        return tuple(range(int(FROM_DEPTH * layers) + 1, layers)) or (layers - 1,)

    def needs(self, layers: int) -> Sequence[Need]:
        return (Need("prompted answers", self.layers_in(layers), prompt=self.prompt or ""),)

    def delta_bytes(self, sizes: Sizes) -> int:
        return sizes.down_bytes(len(self.layers_in(sizes.layers)))
