"""What a method says of itself without being run: the half of it that needs no torch.

A method is a folder of two files: `__init__.py` has a subclass of `FixedMethod`, which is what a
request gives as `method` and what the rest of Scalpel needs of it; `fit.py` has the function that
makes an edit of what was read for it. The class is an entry point of `scalpel.methods`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from models_store.errors import FieldError
from models_store.schemas.base import DocumentedModel

if TYPE_CHECKING:
    from models_store.schemas.behaviors import Behavior
    from models_store.schemas.items import Item

Factor = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
"""Bounded, so that a product with it is still a number in fp32."""


def _different(layers: tuple[int, ...]) -> tuple[int, ...]:
    if not layers or len(set(layers)) != len(layers):
        raise ValueError("layers must be a non-empty list without repeats")
    return layers


Layers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=256), AfterValidator(_different)
]
"""Numbers of layers, from 0."""
MaxTokens = Annotated[int, Field(ge=2, le=4096)]
"""Where a text is cut."""
Share = Annotated[float, Field(gt=0, le=1)]
Damping = Annotated[float, Field(gt=0, le=100)]


@dataclass(frozen=True)
class Need:
    """A reading of the model that a method is fitted on."""

    reading: str
    """Its name in `workers.making.fitting.readings`."""
    layers: Sequence[int] = ()
    """Of which layers, for a reading by layer."""
    answer_tokens: int | None = None
    """How many first tokens of a response are read, for gradients; None: all."""


@dataclass(frozen=True)
class RowPart:
    """A method with settings, in a row of the table that `auto` tries.

    Layers are shares of the depth, so that a row means the same on every model.
    """

    method: str = ""
    """By default the method whose row it is."""
    depths: tuple[float, ...] = ()
    """Of single layers."""
    band: tuple[float, float] | None = None
    """All layers between two depths."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    """In a pair: factor on the scale that the method is calibrated to when it is alone."""

    def written(self, layers: int) -> tuple[int, ...] | None:
        """The layers that are named, of a model with so many."""
        if self.band is not None:
            start, end = (int(depth * layers) for depth in self.band)
            return tuple(range(start, end + 1))
        return tuple(sorted({int(depth * layers) for depth in self.depths})) or None


@dataclass(frozen=True)
class Row:
    """An edit that `auto` tries: one method, or a pair."""

    rank: float
    """Rows of a lower rank are tried first; the built-in ones have 10 to 120."""
    parts: tuple[RowPart, ...] = (RowPart(),)
    responses: bool = False
    """Only for behaviours whose texts are responses to prompts."""
    preserved: bool = False
    """Only where enough of the preserved texts are such responses."""


@dataclass(frozen=True)
class Sizes:
    """What the cost of an edit depends on, of one base model."""

    layers: int
    hidden: int
    width: int
    """Inputs of `down_proj`."""
    gates: tuple[int, ...]
    """Rows of each gate."""

    def delta_bytes(self, numbers: float, rows: float, terms: int) -> int:
        """Size of a delta's file.

        Args:
            numbers: of all directions.
            rows: that are edited, over all terms.
        """
        # What the file's header says of each term.
        return int(4 * numbers + 8 * rows) + 350 * terms + 400

    def down_bytes(self, layers: int) -> int:
        """Of a delta that writes into all rows of `down_proj` of so many layers."""
        return self.delta_bytes(layers * self.width, layers * self.hidden, layers)

    def gate_bytes(self, gates: Sequence[int], fraction: float) -> int:
        """Of a delta that writes into a share of the rows of gates, each along its direction.

        Args:
            gates: rows of each of them.
        """
        return self.delta_bytes(len(gates) * self.hidden, fraction * sum(gates), len(gates))


@dataclass(frozen=True)
class DocsRow:
    """The method's row in the table of docs/method.md."""

    writes_to: str
    reads: str
    """Passes over the texts."""
    reads_of_base: str = ""
    """What is read of the base model, once for all edits."""


class _Method(DocumentedModel):
    place: ClassVar[int] = 100
    """Where it stands in lists of methods."""
    docs: ClassVar[DocsRow]

    if TYPE_CHECKING:  # every method declares them, in the order in which they are shown
        type: str = ""
        max_tokens: int = 100


class FixedMethod(_Method):
    """A method that makes one edit, as opposed to a search."""

    searches: ClassVar[Literal[False]] = False
    fit: ClassVar[str]
    """`package.module:function` that takes the readings and these settings and returns a
    `workers.surgery.fitted.FittedEdit`; imported by workers only."""
    modules: ClassVar[tuple[str, ...]]
    """Logical names of the matrices that it writes to."""
    carrier: ClassVar[Literal["direction", "coefficients"]]
    """Which vector of a term carries the behaviour; a random-direction control replaces it."""
    solve_seconds: ClassVar[float] = 0.0
    """That the fit takes beside what it reads."""
    search: ClassVar[tuple[Row, ...]] = ()
    """Its part in the table that `auto` tries."""

    def needs(self, layers: int) -> Sequence[Need]:
        """What is read for it, of a model with so many layers."""
        return ()

    def delta_bytes(self, sizes: Sizes) -> int:
        """Size of its edit's file."""
        raise NotImplementedError

    def default_layers(self, layers: int) -> Sequence[int]:
        """Where it writes if the request does not say, in a model with so many layers."""
        return range(layers)

    def layers_in(self, layers: int) -> Sequence[int]:
        """Where it writes, in a model with so many layers."""
        named = self.named_layers
        return self.default_layers(layers) if named is None else named

    @property
    def named_layers(self) -> tuple[int, ...] | None:
        """The setting `layers`; None without one."""
        return getattr(self, "layers", None)

    @property
    def given_scale(self) -> float | None:
        """The scale that is not to be calibrated; None where it is."""
        return getattr(self, "scale", None)

    @property
    def probe_settings(self) -> Mapping[str, Any]:
        """Those of `workers.surgery.probe.ProbeSettings` that differ from its defaults."""
        return {}

    @property
    def label(self) -> str:
        """Method and place in words."""
        named = self.named_layers
        if named is None:
            return self.type
        return f"{self.type}, layer{'s' if len(named) > 1 else ''} {_numbers(named)}"

    def problems(
        self, base_model: str, layers: int, behavior: Behavior, preserve: Sequence[Item]
    ) -> Iterator[FieldError]:
        """What keeps a request with these settings from being carried out.

        Args:
            layers: that the base model has.
        """
        for index, layer in enumerate(self.named_layers or ()):
            if layer >= layers:
                yield FieldError(
                    f"/method/layers/{index}",
                    "no_such_layer",
                    f"method.layers.{index}: {base_model} has {layers} layers, numbered from 0; "
                    f"there is no {layer}",
                )


class Given(FixedMethod):
    """In place of the method where the edits of a variant are measured as they are."""

    type: Literal["given"] = "given"
    """Always `given`."""


class Imported(FixedMethod):
    """In place of the method of an edit that was made elsewhere."""

    type: Literal["imported"] = "imported"
    """Always `imported`."""


class Auto(_Method):
    """A search: tries methods, layers, scales and pairs, and keeps the one that does most within
    the limits."""

    searches: ClassVar[Literal[True]] = True
    docs: ClassVar = DocsRow(
        "any of these but `model_surgery`", "all of these, each once", "all of these"
    )

    type: Literal["auto"] = "auto"
    """Always `auto`."""
    max_tokens: MaxTokens = 100
    """Tokens after which a text is cut."""


def _numbers(layers: Sequence[int]) -> str:
    """Layers in words: runs of three or more as their ends."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )
