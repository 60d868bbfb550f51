"""The methods that are installed, and what else a request says of how an edit is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from models_store.registry import Registry
from models_store.schemas.base import DocumentedModel
from models_store.schemas.method_base import Auto, FixedMethod, Given, Imported

_REGISTERED: Mapping[str, type[FixedMethod]] = Registry("scalpel.methods")
METHODS: Mapping[str, type[FixedMethod]] = {
    method.model_fields["type"].default: method
    for method in sorted(_REGISTERED.values(), key=lambda method: method.place)
}
"""By the name that a request gives as `method.type`."""
if not METHODS:
    raise ImportError("no method is installed: the entry points are old, run `pip install -e .`")

if TYPE_CHECKING:
    MethodName = str
    Method = FixedMethod | Auto
    AnyMethod = FixedMethod | Auto
else:
    MethodName = Literal[(*METHODS, "auto")]
    Method = Annotated[Union[(*METHODS.values(), Auto)], Field(discriminator="type")]
    AnyMethod = Annotated[
        Union[(*METHODS.values(), Auto, Given, Imported)], Field(discriminator="type")
    ]
    """What edits that exist were made by; no request names the last two."""

Effort = Literal["quick", "standard", "thorough"]
"""How much is tried and measured."""

_Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Limits(DocumentedModel):
    """Bounds on the damage of an edit. Each is named after the figure that it is compared with."""

    max_kl: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.1
    """Mean KL(base ‖ edited) on neutral text, in nats a token."""
    max_perplexity_ratio: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)] = 1.12
    """Perplexity of neutral text, edited over base."""
    max_domain: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.3
    """Rise of the negative log-likelihood of the base's own desired text, nats a token."""
    max_fluency: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.25
    """Rise of another model's negative log-likelihood of what is generated, nats a token."""
    max_kl_p95: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 0.5
    """KL(base ‖ edited) that 95 % of the positions of neutral text do not exceed, in nats."""
    max_changed_choices: _Share = 0.25
    """Share of the positions of neutral text at which another token is the most likely one."""
    max_loops: _Share = 0.15
    """Rise of the share of long texts that repeat a run of words over and over."""
    max_repetition: _Share = 0.1
    """Rise of the mean share of word bigrams that stood in the same long text before."""
    max_harmless_refusals: _Share = 0.1
    """Rise of the share of harmless requests that are refused."""


__all__ = [
    "METHODS",
    "AnyMethod",
    "Auto",
    "Effort",
    "FixedMethod",
    "Given",
    "Imported",
    "Limits",
    "Method",
    "MethodName",
]
