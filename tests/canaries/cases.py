"""Made-up servers of an export: those that run it, and those in which something is wrong."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load, save
from torch import nn
from transformers import AutoModelForCausalLM

from models_store.schemas.canary import Canary
from models_store.schemas.records import Variant
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME
from tests.canaries.server import Served
from tests.support.edits import random_edit
from tests.support.pico import save_pico
from workers.editor.formats import peft
from workers.editor.formats.protocol import content
from workers.editor.jobs.canary import record
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

Files = Mapping[str, bytes]
SIZES = (0.3, 0.6, 1.0)


@dataclass(frozen=True)
class Export:
    """A PEFT export of a random edit of a pico model."""

    folder: Path
    """For files, of its own."""
    seed: int

    @cached_property
    def base(self) -> LoadedModel:
        return load_base(self.base_folder, device="cpu", dtype="float32")

    @cached_property
    def base_folder(self) -> Path:
        return save_pico(self.folder / f"base-{self.seed}", seed=self.seed)

    def mixture(self, seed: int) -> Mixture:
        return [(random_edit(self.base, seed=seed), SIZES[self.seed % len(SIZES)])]

    @property
    def variant(self) -> Variant:
        return Variant(name="pico:edit", base_model="pico", base_fingerprint=self.base.fingerprint)

    @cached_property
    def canary(self) -> Canary:
        return record(self.base, self.mixture(self.seed), self.variant)

    @cached_property
    def files(self) -> Files:
        return self.files_of(self.seed)

    def files_of(self, seed: int) -> Files:
        files = peft.files(self.base, self.mixture(seed), self.variant, self.folder)
        return {name: content(data) for name, data in files.items()}

    def model(self, dtype: torch.dtype = torch.float32) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.base_folder, dtype=dtype).eval()

    def adapted(self, files: Files, model: Any = None) -> Any:
        """A model, by default the base, with these files loaded by PEFT."""
        folder = self.folder / f"adapter-{self.seed}"
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        with warnings.catch_warnings():
            # A deprecated name of transformers; keys that are missing, which is the point.
            warnings.simplefilter("ignore")
            return PeftModel.from_pretrained(model or self.model(), folder).eval()

    def served(self, model: Any) -> Served:
        return Served(model, self.base.tokenizer)


def _config(files: Files, **changes: Any) -> Files:
    return {
        **files,
        CONFIG_NAME: json.dumps({**json.loads(files[CONFIG_NAME]), **changes}).encode(),
    }


def _scaled(export: Export, factor: float) -> Any:
    alpha = json.loads(export.files[CONFIG_NAME])["lora_alpha"]
    return export.adapted(_config(export.files, lora_alpha=factor * alpha))


def _zero(export: Export) -> Any:
    weights = {
        name: torch.zeros_like(tensor) if "lora_B" in name else tensor
        for name, tensor in load(export.files[WEIGHTS_NAME]).items()
    }
    return export.adapted({**export.files, WEIGHTS_NAME: save(weights)})


def _wrong_prefix(export: Export) -> Any:
    weights = {
        name.replace("base_model.model.", "base_model."): tensor
        for name, tensor in load(export.files[WEIGHTS_NAME]).items()
    }
    return export.adapted({**export.files, WEIGHTS_NAME: save(weights)})


def _other(export: Export) -> Any:
    return replace(export, seed=export.seed + 5_000).model()


def _other_base(export: Export) -> Any:
    return export.adapted(export.files, _other(export))


@torch.no_grad()
def quantized_(model: Any, bits: int, group: int | None = None) -> Any:
    """The model with the weights of its layers rounded, with a scale for each row or group."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lm_head" not in name:
            weight = module.weight.reshape(module.out_features, -1, group or module.in_features)
            scale = weight.abs().amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)
            # A copy: weights that are mapped into memory belong to the file.
            module.weight = nn.Parameter((weight / scale).round().mul(scale).flatten(1))
    return model


def _on_rounded(export: Export, bits: int, group: int | None = None) -> Any:
    return export.adapted(export.files, quantized_(export.model(), bits, group))


FAILURES: Mapping[str, tuple[Callable[[Export], Any], set[str]]] = {
    "no adapter": (lambda export: export.model(), {"not_applied"}),
    "zeros": (_zero, {"not_applied"}),
    "wrong prefix": (_wrong_prefix, {"not_applied"}),
    "half strength": (lambda export: _scaled(export, 0.5), {"other_strength"}),
    "twice the strength": (lambda export: _scaled(export, 2.0), {"other_strength"}),
    "another edit": (
        lambda export: export.adapted(export.files_of(export.seed + 1_000)),
        {"something_else", "undecided"},
    ),
    "another base": (_other_base, {"something_else", "undecided"}),
    "no adapter, 4 bits": (
        lambda export: quantized_(export.model(), 4, 32),
        {"not_applied", "undecided"},
    ),
}
"""The model that is served, and what may be found."""

GOOD: Mapping[str, Callable[[Export], Any]] = {
    "fp32": lambda export: export.adapted(export.files),
    "bf16": lambda export: export.adapted(export.files, export.model(torch.bfloat16)),
    "merged, in bf16": lambda export: (
        export.adapted(export.files).merge_and_unload().to(torch.bfloat16)
    ),
    "8 bits": lambda export: _on_rounded(export, 8),
    "4 bits": lambda export: _on_rounded(export, 4, 32),
}

_BASES: Mapping[str, Callable[[Export], Any]] = {
    "another base": _other,
    "no adapter, 4 bits": lambda export: quantized_(export.model(), 4, 32),
    "8 bits": lambda export: quantized_(export.model(), 8),
    "4 bits": lambda export: quantized_(export.model(), 4, 32),
}


def base_beside(export: Export, kind: str) -> Any:
    """What a server of that kind serves as its base model."""
    return _BASES.get(kind, Export.model)(export)
