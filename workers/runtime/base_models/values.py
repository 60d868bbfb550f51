"""Look at the weights themselves, one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import safe_open

from workers.runtime.base_models.weights import StoredTensor


def first_not_finite(tensors: Mapping[str, StoredTensor]) -> str | None:
    """Name of the first floating-point tensor that holds NaN or infinity; `None` if all is well."""
    for file in sorted({tensor.file for tensor in tensors.values()}):
        with safe_open(file, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 - it is no mapping
                tensor = stream.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    return str(name)
    return None
