"""The methods that are installed, and what else a request says of how an edit is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import BaseModel, ConfigDict, Field

from models_store.registry import Registry
from models_store.schemas.method_base import Auto, FixedMethod

_REGISTERED: Mapping[str, type[FixedMethod]] = Registry("scalpel.methods")
METHODS: Mapping[str, type[FixedMethod]] = {
    method.model_fields["type"].default: method
    for method in sorted(_REGISTERED.values(), key=lambda method: method.place)
}
"""By the name that a request gives as `method.type`."""
if not METHODS:
    raise ImportError("no method is installed: the entry points are old, run `pip install -e .`")

if TYPE_CHECKING:
    Method = FixedMethod | Auto
else:
    Method = Annotated[Union[(*METHODS.values(), Auto)], Field(discriminator="type")]

Effort = Literal["quick", "standard", "thorough"]
"""How much is tried and measured."""


class Limits(BaseModel):
    """Bounds on the damage of an edit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_kl: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.1
    """Mean KL(base ‖ edited) on neutral text, in nats a token."""
    max_perplexity_ratio: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] = 1.12
    """Perplexity of neutral text, edited over base."""
    max_domain: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.3
    """Rise of the negative log-likelihood of the base's own desired text, nats a token."""
    max_fluency: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.25
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""


__all__ = ["METHODS", "Auto", "Effort", "FixedMethod", "Limits", "Method"]
