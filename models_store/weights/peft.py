"""LoRA adapters as the PEFT library has them (`adapter_config.json`, safetensors): written from a
delta, and read.

PEFT adds alpha / r · B A to a module's weight, or alpha / √r · B A with `use_rslora`. What else it
can do (DoRA, biases, whole modules) no delta can hold, so it is refused by name; so are settings
that are not known here and are not empty, since they may change what an adapter does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models_store.errors import FieldError, InvalidRequest
from models_store.weights.architectures import Architecture
from models_store.weights.delta import DeltaTerm
from models_store.weights.lora import lora_factors
from models_store.weights.safetensors import dump_tensors

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""PEFT's two wrappers; with a wrong prefix an adapter loads without an error and does nothing."""
_TENSOR = re.compile(re.escape(_PREFIX) + r"(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")
_MODULE = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,5})\.[a-z0-9_.]{1,100}")
_PATTERN = re.compile(r"\^?(?:[\w.]|\\[.d])+\$?")
"""Of keys of `rank_pattern` that are read: without repetition, which could take for ever."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_MAX_RANK = 1024
_MOST_PROBLEMS = 100
_MAX_ALPHA = 1e6
_SAME_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base model's own weights alone."""
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_dropout",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    }
)
"""Settings of training, of loading, and of where: that is read off the tensors."""
_READ = frozenset(
    {
        "alpha_pattern",
        "bias",
        "init_lora_weights",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "use_rslora",
    }
)
_REFUSED = {
    "use_dora": "DoRA rescales whole weights, which is no sum of rank-one terms",
    "modules_to_save": "it replaces whole modules, which is no change of low rank",
    "trainable_token_indices": "it changes embeddings, which no edit can reach",
    "lora_bias": "biases cannot be edited",
    "fan_in_fan_out": "weights that are stored the other way round are not known here",
    "target_parameters": "routed experts cannot be edited beside the weights",
    "layer_replication": "it changes the number of layers",
    "alora_invocation_tokens": "an adapter that begins at a token is no change of weights",
}


def to_peft(
    terms: Sequence[tuple[DeltaTerm, float]],
    shapes: Mapping[str, tuple[int, int]],
    architecture: Architecture,
    *,
    base_model: str = "",
    ranks: Sequence[int] = (),
) -> tuple[dict[str, Any], bytes]:
    """Terms at their strengths as one adapter; `lora_alpha` is the rank, so PEFT's factor is 1.

    Args:
        terms, shapes, architecture, ranks: as `lora_factors` takes them.
        base_model: for `base_model_name_or_path`.

    Returns:
        The content of `adapter_config.json`, and the bytes of `adapter_model.safetensors`.

    Raises:
        InvalidRequest: as `lora_factors`.
    """
    factors = lora_factors(terms, shapes, architecture, ranks=ranks)
    rank = len(next(iter(factors.values())).a)
    tensors: dict[str, np.ndarray] = {}
    for module, pair in factors.items():
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = pair.a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = pair.b
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(factors),
    }
    return config, dump_tensors(tensors, {"format": "pt"})


@dataclass(frozen=True)
class LoraPair:
    """The change `factor · B A` of one module's weight."""

    module: str
    """Such as `model.layers.3.self_attn.q_proj`."""
    rank: int
    factor: float
    """alpha / r, or alpha / √r."""
    shape: tuple[int, int]
    """`(out, in)`."""

    @property
    def a(self) -> str:
        """The tensor A, `[rank, in]`."""
        return f"{_PREFIX}{self.module}.lora_A.weight"

    @property
    def b(self) -> str:
        """The tensor B, `[out, rank]`."""
        return f"{_PREFIX}{self.module}.lora_B.weight"


def read_peft(
    config: Mapping[str, Any], tensors: Mapping[str, tuple[str, tuple[int, ...]]], layers: int
) -> list[LoraPair]:
    """What an adapter changes, by module.

    Args:
        config: the content of `adapter_config.json`.
        tensors: dtype and shape of each tensor of `adapter_model.safetensors`, by name.
        layers: that the base model has.

    Raises:
        InvalidRequest: it is no LoRA adapter, or does what no edit can; every wrong setting and
            tensor is named.
    """
    problems = [*_config_problems(config), *_tensor_problems(tensors, layers)]
    if problems:
        raise InvalidRequest.of(problems[:_MOST_PROBLEMS])
    modules = sorted({match["module"] for name in tensors if (match := _TENSOR.fullmatch(name))})
    pairs, wrong = [], []
    for module in modules:
        rank = int(_of_module(module, config.get("rank_pattern"), config["r"]))
        alpha = float(_of_module(module, config.get("alpha_pattern"), config["lora_alpha"]))
        (_, a), (_, b) = (tensors[f"{_PREFIX}{module}.lora_{one}.weight"] for one in "AB")
        if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
            wrong.append(
                _at(
                    WEIGHTS_NAME,
                    "wrong_shape",
                    f"lora_A and lora_B of {module} have the shapes {a} and {b}; the configuration "
                    f"says that the rank is {rank}",
                )
            )
            continue
        factor = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        pairs.append(LoraPair(module, rank, factor, (b[0], a[1])))
    if wrong:
        raise InvalidRequest.of(wrong[:_MOST_PROBLEMS])
    return pairs


def plain_config(config: Mapping[str, Any], pairs: Sequence[LoraPair]) -> dict[str, Any]:
    """The part of a configuration that says what the adapter computes, for the library to load."""
    read = {name: config[name] for name in _READ - {"init_lora_weights"} if name in config}
    names = sorted(pair.module for pair in pairs)
    return {**read, "task_type": "CAUSAL_LM", "inference_mode": True, "target_modules": names}


def _at(pointer: str, code: str, detail: str) -> FieldError:
    return FieldError(f"/{pointer}", code, detail)


def _config_problems(config: Mapping[str, Any]) -> Iterator[FieldError]:
    def problem(name: str, detail: str, code: str = "not_supported") -> FieldError:
        return _at(f"{CONFIG_NAME}/{name}", code, f"{CONFIG_NAME}: {name}: {detail}")

    kind = config.get("peft_type")
    if kind != "LORA":
        yield problem("peft_type", f"only LORA can be imported, not {str(kind)[:100]}")
        return
    for name, value in config.items():
        if name in _REFUSED and value:
            yield problem(name, _REFUSED[name])
        elif name not in _WITHOUT_EFFECT | _READ and name not in _REFUSED and value:
            yield problem(name[:100], "this setting is not known here, so it must be empty")
    if config.get("bias", "none") != "none":
        yield problem("bias", "biases cannot be edited, so it must be none")
    start = config.get("init_lora_weights", True)
    if isinstance(start, list | dict) or start not in _SAME_BASE:
        yield problem(
            "init_lora_weights",
            f"{str(start)[:100]} changes the base model's own weights as well: save the adapter "
            "converted to plain LoRA",
        )
    if not _is_rank(config.get("r")):
        yield problem("r", f"must be a whole number from 1 to {_MAX_RANK}", "invalid_value")
    if not _is_alpha(config.get("lora_alpha")):
        yield problem("lora_alpha", "must be a finite number", "invalid_value")
    for name, fits in (("rank_pattern", _is_rank), ("alpha_pattern", _is_alpha)):
        pattern = config.get(name) or {}
        if not isinstance(pattern, dict):
            yield problem(name, "must be an object", "invalid_value")
            continue
        for key, value in pattern.items():
            if not _PATTERN.fullmatch(key) or not fits(value):
                yield problem(
                    name,
                    f"{key[:100]!r} must be the name of a module or its end, and its value a "
                    "number such as r and lora_alpha",
                    "invalid_value",
                )


def _tensor_problems(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], layers: int
) -> Iterator[FieldError]:
    def problem(detail: str) -> FieldError:
        return _at(WEIGHTS_NAME, "not_supported", f"{WEIGHTS_NAME}: {detail}")

    if not tensors:
        yield problem("it has no tensors")
    for name, (dtype, _) in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            yield problem(
                f"{name[:200]} is none of the tensors that can be imported: "
                f"{_PREFIX}MODULE.lora_A.weight and lora_B.weight"
            )
            continue
        module = match["module"]
        inside = _MODULE.fullmatch(module)
        if inside is None or int(inside[1]) >= layers:
            yield problem(
                f"{module[:200]} is no module that can be edited: these are the linear ones of the "
                f"base model's {layers} layers, such as model.layers.0.self_attn.q_proj"
            )
        if f"{_PREFIX}{module}.lora_{'BA'[match['factor'] == 'B']}.weight" not in tensors:
            yield problem(f"{name[:200]} has no counterpart")
        if dtype not in _FLOATS:
            yield problem(f"{name[:200]} is {dtype[:20]}, and must be one of {', '.join(_FLOATS)}")


def _is_rank(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_RANK


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _MAX_ALPHA


def _of_module(module: str, pattern: Mapping[str, Any] | None, default: Any) -> Any:
    """The value of the first pattern that a module's name ends with, as PEFT looks it up."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
