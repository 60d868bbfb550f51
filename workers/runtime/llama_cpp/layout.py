"""How each weight of a model is stored for llama.cpp: its name, the order of its rows, its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Literal

import gguf
import numpy as np

from models_store.errors import InvalidRequest
from models_store.weights.gguf import ARCHITECTURES, heads_of, in_halves, interleaved
from workers.runtime.loading import LoadedModel

FREQUENCIES = "rope_freqs.weight"
"""Factors of the rotation, which is no weight in transformers."""
Type = gguf.GGMLQuantizationType
Dtype = Literal["f32", "f16", "q8_0"]
TYPES: Mapping[str, gguf.GGMLQuantizationType] = MappingProxyType(
    {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0}
)
FILE_TYPES: Mapping[str, gguf.LlamaFileType] = MappingProxyType(
    {
        "f32": gguf.LlamaFileType.ALL_F32,
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    }
)
_F16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Slot:
    """A parameter of the loaded model, and the tensor that it is in the file."""

    parameter: str
    tensor: str
    shape: tuple[int, ...]
    heads: int | None
    """Of which the rows are ordered otherwise; None where they are not."""
    raised: bool
    """Gemma's norms multiply by 1 + weight, llama.cpp's by what is stored."""

    def type_for(self, dtype: str) -> gguf.GGMLQuantizationType:
        """As llama.cpp's own conversion: vectors in fp32, matrices as asked for where that goes."""
        wanted = TYPES[dtype]
        if len(self.shape) == 1:
            return Type.F32
        block, _ = gguf.GGML_QUANT_SIZES[wanted]
        return wanted if self.shape[-1] % block == 0 else Type.F16

    def bytes_for(self, dtype: str) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.type_for(dtype)]
        return int(prod(self.shape) // block * size)

    def rows_of_a_head(self) -> int:
        return self.shape[0] // (self.heads or self.shape[0])

    def stored(self, rows: np.ndarray) -> np.ndarray:
        """Whole heads of the parameter's rows, fp32, in the order and range of the file."""
        if self.raised:
            rows = rows + np.float32(1)
        return rows if self.heads is None else interleaved(rows, len(rows) // self.rows_of_a_head())

    def loaded(self, rows: np.ndarray) -> np.ndarray:
        """All rows of the tensor as transformers has them."""
        if self.raised:
            rows = rows - np.float32(1)
        return rows if self.heads is None else in_halves(rows, self.heads)


def layout(base: LoadedModel) -> Sequence[Slot]:
    """Every parameter of a model of a type that llama.cpp knows.

    Raises:
        InvalidRequest: llama.cpp has no tensor for one.
    """
    model_type = base.architecture.model_type
    names = gguf.get_tensor_name_map(ARCHITECTURES[model_type], base.layers)
    slots = []
    for parameter, weight in base.model.named_parameters():
        tensor = names.get_name(parameter, try_suffixes=(".weight", ".bias"))
        if tensor is None:
            raise InvalidRequest(f"llama.cpp's {model_type} has no tensor for {parameter}")
        module = parameter.rpartition(".")[0]
        slots.append(
            Slot(
                parameter,
                tensor,
                tuple(weight.shape),
                heads_of(module, base.architecture, base.model.config),
                model_type.startswith("gemma") and tensor.endswith("norm.weight"),
            )
        )
    return slots


def pack(rows: np.ndarray, type: gguf.GGMLQuantizationType, name: str) -> np.ndarray:
    """Rows in fp32 as numbers of a type, rounded once.

    Raises:
        InvalidRequest: fp16 cannot hold one of them.
    """
    if type is Type.F16 and float(np.abs(rows).max(initial=0.0)) > _F16_MAX:
        raise InvalidRequest(
            f"{name} has values beyond {_F16_MAX:.0f}, which f16 cannot hold: choose the dtype "
            "q8_0 or f32"
        )
    packed: np.ndarray = gguf.quants.quantize(np.ascontiguousarray(rows), type)
    return packed


def unpack(data: np.ndarray, type: gguf.GGMLQuantizationType) -> np.ndarray:
    """The numbers in fp32."""
    values: np.ndarray = gguf.quants.dequantize(data, type)
    return values.astype(np.float32, copy=False)
