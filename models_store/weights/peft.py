"""A delta as a LoRA adapter that the PEFT library loads (`adapter_config.json`, safetensors)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models_store.errors import InvalidRequest
from models_store.weights.architectures import Architecture
from models_store.weights.delta import DeltaTerm
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
    """Terms at their strengths as one adapter: lora_A = directions, lora_B = scaled coefficients.

    The rank is the largest number of terms of any module, the other modules are padded with zeros,
    and `lora_alpha` equals it, so that PEFT's factor is 1.

    Args:
        terms: with the strength of each; at least one.
        shapes: `(out, in)` by name of module, such as `model.layers.3.mlp.gate_proj`, as in the
            base model's files; fused modules have the fused size.
        architecture: of the base model.
        base_model: for `base_model_name_or_path`.
        ranks: ascending; the ranks that the reader of the adapter accepts, if not all.

    Returns:
        The content of `adapter_config.json`, and the bytes of `adapter_model.safetensors`.

    Raises:
        InvalidRequest: a term is of a routed expert, which such an adapter cannot reach, or does
            not fit the shapes.
    """
    modules: dict[str, list[tuple[DeltaTerm, float, int]]] = {}
    for term, strength in terms:
        module, first_row = _place(term, shapes, architecture)
        modules.setdefault(module, []).append((term, strength, first_row))
    rank = max((len(placed) for placed in modules.values()), default=0)
    if not rank:
        raise InvalidRequest("an adapter needs at least one term")
    rank = next((allowed for allowed in ranks if allowed >= rank), rank)
    tensors: dict[str, np.ndarray] = {}
    for module, placed in modules.items():
        out_features, in_features = shapes[module]
        a = np.zeros((rank, in_features), np.float32)
        b = np.zeros((out_features, rank), np.float32)
        for i, (term, strength, first_row) in enumerate(placed):
            a[i] = term.direction
            b[first_row + term.rows, i] = np.float32(strength) * term.coefficients
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = b
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
        "target_modules": sorted(modules),
    }
    return config, dump_tensors(tensors, {"format": "pt"})


def _place(
    term: DeltaTerm, shapes: Mapping[str, tuple[int, int]], architecture: Architecture
) -> tuple[str, int]:
    """The module that holds the term's matrix, and the matrix's first row in it."""
    if term.expert is not None:
        raise InvalidRequest("edits of routed experts cannot be exported as a PEFT adapter")
    slot = architecture.slot(term.key)
    module = architecture.tensor(term.key).removesuffix(".weight")
    if module not in shapes:
        raise InvalidRequest(f"the base model has no module {module}")
    out_features, in_features = shapes[module]
    rows = out_features if slot.part == "all" else out_features // 2
    if len(term.direction) != in_features or int(term.rows[-1]) >= rows:
        raise InvalidRequest(
            f"a term does not fit {module}, which is {out_features} × {in_features}"
        )
    return module, rows if slot.part == "second_half" else 0
