"""Read the weights of a GGUF file into a model of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch

from models_store.errors import CorruptArtifact
from models_store.weights.gguf import architecture_name
from workers.runtime.llama_cpp.layout import FREQUENCIES, Slot, layout, pack, unpack
from workers.runtime.llama_cpp.tokens import token_list
from workers.runtime.loading import LoadedModel


def read_weights_(model: LoadedModel, path: Path) -> None:
    """Put the weights in the file in place of the model's.

    Raises:
        CorruptArtifact: the file is broken, or it is not this model's: another architecture,
            another vocabulary, a tensor too much or too few, or one of another shape.
    """
    try:
        reader = gguf.GGUFReader(path)
        fields = {
            key: reader.fields[key].contents()
            for key in ("general.type", "general.architecture", "tokenizer.ggml.tokens")
        }
    except (KeyError, ValueError, IndexError, OSError, UnicodeDecodeError) as error:
        raise CorruptArtifact(f"{path.name} cannot be read as GGUF: {error}") from error
    wanted = {
        "general.type": "model",
        "general.architecture": architecture_name(model.architecture.model_type),
        "tokenizer.ggml.tokens": token_list(model),
    }
    for key, value in wanted.items():
        if fields[key] != value:
            raise CorruptArtifact(f"{path.name} has another {key} than the base model")
    tensors = {tensor.name: tensor for tensor in reader.tensors if tensor.name != FREQUENCIES}
    slots = layout(model)
    if others := tensors.keys() ^ {slot.tensor for slot in slots}:
        raise CorruptArtifact(f"{path.name} and the model do not both have {min(others)}")

    def values(slot: Slot) -> np.ndarray:
        tensor = tensors[slot.tensor]
        found = slot.loaded(unpack(np.asarray(tensor.data), tensor.tensor_type))
        if found.shape != slot.shape:
            raise CorruptArtifact(f"{slot.tensor} is {found.shape}, and the model's {slot.shape}")
        return found

    _set_(model, values)


def round_weights_(model: LoadedModel, dtype: str) -> None:
    """Round the model's weights as a file of that dtype does."""

    def values(slot: Slot) -> np.ndarray:
        type = slot.type_for(dtype)
        weight = model.model.get_parameter(slot.parameter).float().cpu().numpy()
        return slot.loaded(unpack(pack(slot.stored(weight), type, slot.parameter), type))

    _set_(model, values)


@torch.no_grad()
def _set_(model: LoadedModel, values: Callable[[Slot], np.ndarray]) -> None:
    for slot in layout(model):
        model.model.get_parameter(slot.parameter).copy_(torch.from_numpy(values(slot).copy()))
