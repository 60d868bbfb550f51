"""A LoRA adapter as llama.cpp has it.

llama.cpp runs only models in GGUF, which a base model here is not: the file is read back by the
reader of the `gguf` library, checked as llama.cpp checks it, and put on the model in torch.
`make test-llamacpp` runs it in llama.cpp itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from models_store.cards import Use
from models_store.errors import EditFailed
from models_store.schemas.records import Variant
from models_store.weights.gguf import (
    architecture_name,
    heads_of,
    in_halves,
    tensor_names,
    to_gguf,
)
from models_store.weights.lora import lora_factors
from workers.editor.formats.protocol import Files, Loader, content
from workers.runtime.edits.deltas import stored_terms
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

NAME = "adapter.gguf"


def files(base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
    """One adapter for all edits, with their strengths in it."""
    weighted = stored_terms(mixture, base.fingerprint)
    factors = lora_factors(weighted, base.linear_shapes(), base.architecture)
    adapter = to_gguf(
        factors,
        base.architecture,
        name=variant.name,
        base_model=variant.base_model,
        config=base.model.config,
    )
    return {NAME: adapter}


def loader(files: Files) -> Loader:
    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        modules = _modules(base)
        with ExitStack() as stack:
            for name, pair in _read(content(files[NAME]), base).items():
                if name not in modules:
                    raise _mismatch(f"{name} is no tensor of the base model")
                module = modules[name]
                heads = heads_of(module, base.architecture, base.model.config)
                if heads is not None:
                    pair = replace(pair, b=torch.from_numpy(in_halves(pair.b.numpy(), heads)))
                linear = base.model.get_submodule(module)
                stack.callback(_put_beside(linear, name, pair).remove)
            yield base

    return Loader("gguf", version("gguf"), loaded)


_LOAD = """\
With llama.cpp, `base.gguf` being the same base model as its `convert_hf_to_gguf.py` makes it,
quantized or not; a scale multiplies the strengths that are in the adapter:

```sh
llama-cli -m base.gguf --lora adapter.gguf
llama-cli -m base.gguf --lora-scaled adapter.gguf:0.5
```"""


def use(files: Files, base: str) -> Use:
    return Use(library="gguf", relation="adapter", tags=("lora", "llama-cpp"), load=_LOAD)


@dataclass(frozen=True, eq=False)
class _Pair:
    """What llama.cpp adds to the product with one tensor: `scale · b @ (a @ input)`."""

    a: Tensor
    b: Tensor
    scale: float


def _modules(base: LoadedModel) -> Mapping[str, str]:
    """The linear modules by the names that their weights have in llama.cpp."""
    name_of = tensor_names(base.architecture)
    names = {name_of(module): module for module in base.linear_shapes()}
    return {name: module for name, module in names.items() if name}


def _read(data: bytes, base: LoadedModel) -> Mapping[str, _Pair]:
    """The pairs of an adapter by tensor, scaled as `llama-adapter.h` does at scale 1."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(data)
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {
            tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors
        }
    wanted = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.architecture": architecture_name(base.architecture.model_type),
    }
    for key, value in wanted.items():
        if fields.get(key) != value:
            raise _mismatch(f"{key} is {fields.get(key)!r}, and llama.cpp wants {value!r}")
    names = {name.removesuffix(".lora_a").removesuffix(".lora_b") for name in tensors}
    if tensors.keys() != {f"{name}.lora_{part}" for name in names for part in "ab"}:
        raise _mismatch("not every tensor has a lora_a and a lora_b")
    alpha = fields.get("adapter.lora.alpha") or 0.0
    return {
        name: _pair(tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"], alpha) for name in names
    }


def _pair(a: Tensor, b: Tensor, alpha: float) -> _Pair:
    return _Pair(a, b, alpha / b.shape[1] if alpha else 1.0)


def _put_beside(module: Any, name: str, pair: _Pair) -> Any:
    """Add a pair to what the module gives; returns what takes it away again."""
    a, b = pair.a.to(module.weight.device), pair.b.to(module.weight.device)
    shape = (b.shape[0], a.shape[1])
    if shape != tuple(module.weight.shape) or a.shape[0] != b.shape[1]:
        raise _mismatch(f"{name} is {shape}, and the base model's {tuple(module.weight.shape)}")

    def added(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        low = linear(inputs[0].to(a.dtype), a)
        return output + (pair.scale * linear(low, b)).to(output.dtype)

    return module.register_forward_hook(added)


def _mismatch(what: str) -> EditFailed:
    return EditFailed(f"the adapter read back is not one: {what}", code="export_mismatch")
