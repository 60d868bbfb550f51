"""Where the matrices of a Llama-like model are: a `Family` for each layout.

Deltas name matrices by logical names (`mlp.gate_proj`), the same in every family. The table maps
them to the parameter that holds them and to their rows in it. Parameters have the names of
transformers' loaded modules, in which the experts of a sparse layer are one tensor
`[expert, out, in]`, whatever the files on disk look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from models_store.errors import InvalidRequest
from models_store.registry import Registry

GATE = "mlp.gate_proj"
UP = "mlp.up_proj"
DOWN = "mlp.down_proj"
QUERY = "self_attn.q_proj"
KEY = "self_attn.k_proj"
VALUE = "self_attn.v_proj"
QUERY_KEY_VALUE = "self_attn.qkv_proj"
"""The three in one matrix, where a family fuses them."""
OUTPUT = "self_attn.o_proj"
SHARED_GATE = "mlp.shared_expert.gate_proj"
SHARED_UP = "mlp.shared_expert.up_proj"
SHARED_DOWN = "mlp.shared_expert.down_proj"

Part = Literal["all", "first_half", "second_half"]


class MatrixKey(NamedTuple):
    """The name of one logical matrix; `expert` is set for routed experts only."""

    layer: int
    module: str
    expert: int | None = None

    @property
    def order(self) -> tuple[int, str, int]:
        """Sort key: by layer, then module, then expert."""
        return (self.layer, self.module, -1 if self.expert is None else self.expert)


@dataclass(frozen=True)
class MatrixSlot:
    """Where a logical matrix is."""

    tensor: str
    """Parameter name with `{layer}` in it."""
    part: Part = "all"
    """The matrix's rows of the parameter; fused parameters hold the gate first."""
    per_expert: bool = False
    """The parameter is `[expert, out, in]`, and keys name the expert."""


def _linear(module: str, part: Part = "all") -> MatrixSlot:
    return MatrixSlot(f"model.layers.{{layer}}.{module}.weight", part)


def _experts(tensor: str, part: Part = "all") -> MatrixSlot:
    return MatrixSlot(f"model.layers.{{layer}}.mlp.experts.{tensor}", part, per_expert=True)


_ATTENTION = {name: _linear(name) for name in (QUERY, KEY, VALUE, OUTPUT)}
_PLAIN = {**_ATTENTION, GATE: _linear(GATE), UP: _linear(UP), DOWN: _linear(DOWN)}
_FUSED = {
    QUERY_KEY_VALUE: _linear(QUERY_KEY_VALUE),
    OUTPUT: _linear(OUTPUT),
    GATE: _linear("mlp.gate_up_proj", "first_half"),
    UP: _linear("mlp.gate_up_proj", "second_half"),
    DOWN: _linear(DOWN),
}
_ROUTED = {
    **_ATTENTION,
    GATE: _experts("gate_up_proj", "first_half"),
    UP: _experts("gate_up_proj", "second_half"),
    DOWN: _experts("down_proj"),
}
_ROUTED_AND_SHARED = {
    **_ROUTED,
    **{name: _linear(name) for name in (SHARED_GATE, SHARED_UP, SHARED_DOWN)},
}
_EXPERT_FILES = {
    name: f"model.layers.{{layer}}.mlp.experts.{{expert}}.{name.removeprefix('mlp.')}.weight"
    for name in (GATE, UP, DOWN)
}
_MIXTRAL_FILES = {
    name: f"model.layers.{{layer}}.block_sparse_moe.experts.{{expert}}.{short}.weight"
    for name, short in ((GATE, "w1"), (UP, "w3"), (DOWN, "w2"))
}


@dataclass(frozen=True)
class Family:
    """Where the matrices of models of one `model_type` are."""

    name: str
    dense: Mapping[str, MatrixSlot]
    """Slots of a layer with one MLP."""
    sparse: Mapping[str, MatrixSlot] | None = None
    """Slots of a layer with routed experts, for families that have such layers."""
    experts_fields: tuple[str, ...] = ()
    """Fields of the configuration that may hold the number of experts."""
    expert_files: Mapping[str, str] = field(default_factory=lambda: _EXPERT_FILES)
    """By module: the tensor of each expert in files that do not hold all of a layer in one."""


DENSE = Family("dense", _PLAIN)
PHI3 = Family("fused", _FUSED)
MIXTRAL = Family("sparse", _PLAIN, _ROUTED, ("num_local_experts",), _MIXTRAL_FILES)
OLMOE = Family("sparse", _PLAIN, _ROUTED, ("num_experts",))
QWEN2_MOE = Family("sparse", _PLAIN, _ROUTED_AND_SHARED, ("num_experts",))
# transformers 5 renames what configurations on the hub call num_experts.
QWEN3_MOE = Family("sparse", _PLAIN, _ROUTED, ("num_experts", "num_local_experts"))

ARCHITECTURES: Mapping[str, Family] = Registry("scalpel.families")
"""By the `model_type` of a configuration. Routers are in no slot, so no edit can reach them."""


@dataclass(frozen=True)
class Architecture:
    """Which matrices one model has, by layer."""

    model_type: str
    experts: tuple[int, ...]
    """Routed experts of each layer; 0 for a layer with one MLP."""

    @property
    def layers(self) -> int:
        return len(self.experts)

    def slots(self, layer: int) -> Mapping[str, MatrixSlot]:
        """Logical module name to slot, for one layer."""
        family = ARCHITECTURES[self.model_type]
        if self.experts[layer] and family.sparse is not None:
            return family.sparse
        return family.dense

    def slot(self, key: MatrixKey) -> MatrixSlot:
        """Where `key` is.

        Raises:
            InvalidRequest: the model has no such matrix.
        """
        slot = self.slots(key.layer).get(key.module) if 0 <= key.layer < self.layers else None
        if slot is None or not self._has_expert(slot, key):
            raise InvalidRequest(
                f"a {self.model_type} model with {self.layers} layers has no matrix "
                f"{key.module} at layer {key.layer}, expert {key.expert}"
            )
        return slot

    def tensor(self, key: MatrixKey) -> str:
        """Name of the parameter that holds `key`."""
        return self.slot(key).tensor.format(layer=key.layer)

    def expert_file_tensor(self, key: MatrixKey) -> str:
        """Name of the tensor of one routed expert, in files that hold each by itself."""
        name = ARCHITECTURES[self.model_type].expert_files[key.module]
        return name.format(layer=key.layer, expert=key.expert)

    def matrices(self, *modules: str) -> Iterator[MatrixKey]:
        """All matrices of the named modules that the model has, in the order of `MatrixKey`."""
        for layer in range(self.layers):
            slots = self.slots(layer)
            for module in sorted(modules):
                if module not in slots:
                    continue
                if slots[module].per_expert:
                    for expert in range(self.experts[layer]):
                        yield MatrixKey(layer, module, expert)
                else:
                    yield MatrixKey(layer, module)

    def linear_modules(self) -> dict[str, list[MatrixKey]]:
        """By name of module, such as `model.layers.3.mlp.gate_proj`: the matrices that its weight
        holds, from its first row on. Routed experts are in no such module."""
        modules: dict[str, list[MatrixKey]] = {}
        for layer in range(self.layers):
            slots = self.slots(layer)
            # "all" and "first_half" sort before "second_half".
            for name, slot in sorted(slots.items(), key=lambda item: item[1].part):
                if not slot.per_expert:
                    module = slot.tensor.format(layer=layer).removesuffix(".weight")
                    modules.setdefault(module, []).append(MatrixKey(layer, name))
        return modules

    def gates(self) -> Iterator[MatrixKey]:
        """Every gate: of dense layers, of each routed expert and of shared experts."""
        return self.matrices(GATE, SHARED_GATE)

    def _has_expert(self, slot: MatrixSlot, key: MatrixKey) -> bool:
        if not slot.per_expert:
            return key.expert is None
        return key.expert is not None and 0 <= key.expert < self.experts[key.layer]


def architecture_for(config: Mapping[str, Any]) -> Architecture:
    """The matrices of the model that a Hugging Face `config.json` describes.

    Raises:
        InvalidRequest: the `model_type` is not in the table, or the number of layers or experts is
            missing.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise InvalidRequest(
            f"models of type {model_type!r} are not supported; "
            f"supported types: {', '.join(sorted(ARCHITECTURES))}",
            code="unsupported_architecture",
        )
    family = ARCHITECTURES[model_type]
    layers = _count(config, "num_hidden_layers", least=1)
    if family.sparse is None:
        return Architecture(model_type, (0,) * layers)
    named = [field for field in family.experts_fields if config.get(field) is not None]
    experts = _count(config, (named or family.experts_fields)[0], least=0)
    step = config.get("decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    return Architecture(
        model_type,
        tuple(
            experts if layer not in dense and (layer + 1) % step == 0 else 0
            for layer in range(layers)
        ),
    )


def _count(config: Mapping[str, Any], field: str, *, least: int) -> int:
    value = config.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidRequest(
            f"the model's config.json has {field} = {value!r}; expected a whole number of at "
            f"least {least}"
        )
    return value
