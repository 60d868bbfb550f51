"""A delta as a LoRA adapter that the PEFT library loads (`adapter_config.json`, safetensors)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models_store.weights.architectures import Architecture
from models_store.weights.delta import DeltaTerm
from models_store.weights.lora import lora_factors
from models_store.weights.safetensors import dump_tensors

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""PEFT's two wrappers; with a wrong prefix an adapter loads without an error and does nothing."""


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
