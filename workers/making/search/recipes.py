"""What `auto` tries, as data: methods, where they write, and pairs. The first rows are tried first.

Layers are given as shares of the depth, so that a row means the same on every model: .48, .58 and
.68 are the layers 14, 17 and 20 of SmolLM2's 30, and the band from .4 to .67 is 12 to 20.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models_store.schemas.methods import (
    Attribution,
    Bias,
    Conditional,
    FixedMethod,
    Natural,
    NaturalBias,
)
from workers.making.fitting.candidates import describe


@dataclass(frozen=True)
class Part:
    """A method and where it writes."""

    method: Literal["bias", "natural_bias", "conditional", "natural", "attribution"]
    depths: tuple[float, ...] = ()
    """Of single layers."""
    band: tuple[float, float] | None = None
    """All layers between two depths."""
    answer_tokens: int | None = None
    """See `NaturalBias`; for behaviours that consist of answers."""
    share: float = 1.0
    """In a pair: factor on the scale that the method is calibrated to when it is alone."""

    def settings(self, layers: int, max_tokens: int) -> FixedMethod:
        """The method for a model with so many layers; texts are cut at so many tokens."""
        written = self._layers(layers)
        match self.method:
            case "bias":
                return Bias(layers=written, max_tokens=max_tokens)
            case "natural_bias":
                return NaturalBias(
                    layers=written, answer_tokens=self.answer_tokens, max_tokens=max_tokens
                )
            case "conditional":
                return Conditional(layers=written, max_tokens=max_tokens)
            case "natural":
                return Natural(layers=written, max_tokens=max_tokens)
            case "attribution":
                return Attribution(max_tokens=max_tokens)

    def _layers(self, layers: int) -> tuple[int, ...] | None:
        if self.band is not None:
            start, end = (int(depth * layers) for depth in self.band)
            return tuple(range(start, end + 1))
        return tuple(sorted({int(depth * layers) for depth in self.depths})) or None


_MIDDLE = (0.48, 0.58, 0.68)

AUTO: tuple[tuple[Part, ...], ...] = (
    (Part("conditional"),),
    (Part("natural_bias"),),
    (Part("natural_bias", answer_tokens=10),),
    (Part("bias", band=(0.4, 0.67)),),
    (Part("natural_bias", band=(0.4, 0.67)),),
    (Part("bias", depths=_MIDDLE),),
    (Part("natural", share=0.1), Part("natural_bias")),
    (Part("natural", share=0.25), Part("natural_bias")),
    (Part("natural", share=0.5), Part("natural_bias")),
    (Part("natural", share=0.5), Part("bias", depths=(0.58,))),
    (Part("natural"),),
    (Part("attribution"),),
)
"""Each row is an edit of one method or of two."""


@dataclass(frozen=True)
class Recipe:
    """A row of the table for one model."""

    methods: tuple[FixedMethod, ...]
    shares: tuple[float, ...]

    @property
    def label(self) -> str:
        return " with ".join(
            describe(method) if share == 1 else f"{share:g} of {describe(method)}"
            for method, share in zip(self.methods, self.shares, strict=True)
        )


def recipes(
    layers: int, max_tokens: int, *, answers: bool = False, spared: bool = False
) -> list[Recipe]:
    """The table for a model with so many layers; rows that come to the same are there once.

    Args:
        answers: whether the behaviour's texts are answers to prompts; rows for such are left out
            if they are not.
        spared: whether enough of what is to be preserved are such answers, which `conditional`
            needs.
    """
    rows = [
        Recipe(
            tuple(part.settings(layers, max_tokens) for part in row),
            tuple(part.share for part in row),
        )
        for row in AUTO
        if answers or all(part.answer_tokens is None for part in row)
        if (answers and spared) or all(part.method != "conditional" for part in row)
    ]
    return list(dict.fromkeys(rows))
