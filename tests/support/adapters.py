"""LoRA adapters that PEFT itself has made, with lively weights, as users would send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from workers.runtime.loading import LoadedModel

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


def make_adapter(
    base: LoadedModel,
    folder: Path,
    modules: tuple[str, ...] = ALL,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Path:
    """Save an adapter of these modules to `folder`, and return the folder.

    Args:
        settings: of `LoraConfig`.
    """
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=list(modules),
        **{"r": 4, "lora_alpha": 8, **settings},
    )
    adapted = get_peft_model(base.model, config)
    try:
        adapted.save_pretrained(folder)
    finally:
        adapted.unload()
    path = folder / "adapter_model.safetensors"
    generator = torch.Generator().manual_seed(seed)
    lively = {
        name: (torch.randn(tensor.shape, generator=generator) / tensor.shape[-1] ** 0.5 / 3).to(
            dtype
        )
        for name, tensor in sorted(load_file(path).items())
    }
    save_file(lively, path, metadata={"format": "pt"})
    return folder


def configured(folder: Path, **changes: Any) -> Path:
    """The adapter in `folder` with settings changed in its configuration alone."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder
