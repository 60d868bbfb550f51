"""A LoRA adapter that llama.cpp loads, as one GGUF file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np

from models_store.errors import InvalidRequest
from models_store.weights.architectures import KEY, QUERY, Architecture
from models_store.weights.lora import Factors

ARCHITECTURES: Mapping[str, gguf.MODEL_ARCH] = MappingProxyType(
    {
        "llama": gguf.MODEL_ARCH.LLAMA,
        "mistral": gguf.MODEL_ARCH.LLAMA,
        "mixtral": gguf.MODEL_ARCH.LLAMA,
        "qwen2": gguf.MODEL_ARCH.QWEN2,
        "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE,
        "qwen3": gguf.MODEL_ARCH.QWEN3,
        "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
        "gemma": gguf.MODEL_ARCH.GEMMA,
        "gemma2": gguf.MODEL_ARCH.GEMMA2,
        "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
        "olmo": gguf.MODEL_ARCH.OLMO,
        "olmo2": gguf.MODEL_ARCH.OLMO2,
        "olmo3": gguf.MODEL_ARCH.OLMO2,
        "olmoe": gguf.MODEL_ARCH.OLMOE,
        "smollm3": gguf.MODEL_ARCH.SMOLLM3,
        "phi3": gguf.MODEL_ARCH.PHI3,
    }
)
"""What llama.cpp converts models of a `model_type` to; it refuses an adapter for another one."""
_INTERLEAVED = frozenset({"llama", "mistral", "mixtral", "olmo", "smollm3"})
"""Whose rotary embeddings pair neighbours there, and halves of a head in transformers."""


def architecture_name(model_type: str) -> str:
    """llama.cpp's name for it.

    Raises:
        InvalidRequest: it has none.
    """
    name: str = gguf.MODEL_ARCH_NAMES[_architecture(model_type)]
    return name


def tensor_names(architecture: Architecture) -> Callable[[str], str | None]:
    """From a module's name to that of its weight in llama.cpp; None where it has no such tensor.

    Phi-3's fused `gate_up_proj` is one tensor there too, with the gate first.

    Raises:
        InvalidRequest: llama.cpp does not know the `model_type`.
    """
    arch = _architecture(architecture.model_type)
    names = gguf.get_tensor_name_map(arch, architecture.layers)
    return lambda module: names.get_name(f"{module}.weight", try_suffixes=(".weight",))


def heads_of(module: str, architecture: Architecture, config: Any) -> int | None:
    """How many heads the rows of a module's weight, or its bias, are of, where llama.cpp orders
    them otherwise within a head; None where it has the same.

    Args:
        config: of the base model, as transformers has it.
    """
    if architecture.model_type not in _INTERLEAVED:
        return None
    if module.endswith(f".{QUERY}"):
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if module.endswith(f".{KEY}") else None


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows `[out, …]` of halves in the order of llama.cpp: those of one pair are neighbours."""
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def in_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """What `interleaved` makes, in the order that it was in before."""
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def to_gguf(
    factors: Mapping[str, Factors],
    architecture: Architecture,
    *,
    name: str,
    base_model: str,
    config: Any = None,
) -> bytes:
    """The factors of modules as an adapter in fp32.

    llama.cpp adds alpha / rank · b @ a, times the scale it is told; alpha is one number a file,
    and the rank is read off each tensor, so all must have the same.

    Args:
        factors: by name of module, as in the base model's files; at least one.
        name, base_model: what the file says of itself.
        config: of the base model, as `heads_of` takes it.

    Raises:
        InvalidRequest: llama.cpp does not know the `model_type`, or has no tensor for a module.
    """
    named = _named(factors, architecture, config)
    (rank,) = {len(pair.a) for pair in named.values()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.gguf"
        writer = gguf.GGUFWriter(path, architecture_name(architecture.model_type))
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, rank)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        writer.add_name(name)
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base_model)
        for tensor in sorted(named):
            writer.add_tensor(f"{tensor}.lora_a", named[tensor].a)
            writer.add_tensor(f"{tensor}.lora_b", named[tensor].b)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _named(
    factors: Mapping[str, Factors], architecture: Architecture, config: Any
) -> dict[str, Factors]:
    """The factors by llama.cpp's names, in its order of rows."""
    name_of = tensor_names(architecture)
    named: dict[str, Factors] = {}
    for module, pair in factors.items():
        tensor = name_of(module)
        if tensor is None:
            known = architecture_name(architecture.model_type)
            raise InvalidRequest(f"llama.cpp's {known} has no tensor for {module}")
        heads = heads_of(module, architecture, config)
        named[tensor] = pair if heads is None else Factors(pair.a, interleaved(pair.b, heads))
    return named


def _architecture(model_type: str) -> gguf.MODEL_ARCH:
    if model_type not in ARCHITECTURES:
        raise InvalidRequest(
            f"no architecture of llama.cpp is known for models of type {model_type}, so an edit "
            f"of one cannot be exported as gguf; known types: {', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[model_type]
