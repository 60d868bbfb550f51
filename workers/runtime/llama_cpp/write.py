"""Write a base model with edits in its weights as one GGUF file, some rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
import torch

from models_store.errors import InvalidRequest
from models_store.weights.gguf import architecture_name
from workers import progress
from workers.runtime.base_models.weights import StoredTensor, stored_tensors
from workers.runtime.llama_cpp.layout import FILE_TYPES, FREQUENCIES, Slot, layout, pack
from workers.runtime.llama_cpp.settings import add_settings
from workers.runtime.llama_cpp.tokens import add_tokens
from workers.runtime.loading import LoadedModel
from workers.runtime.merging import DTYPES, between, check_fit, fill, find_tensor, place_of
from workers.surgery.terms import Mixture, WeightedTerm, by_matrix, change, flatten, union_of_rows

_VALUES = 2**20
"""Of a matrix, held at once: 4 MiB in fp32, a few times over."""


def write(
    base: LoadedModel, mixture: Mixture, path: Path, *, dtype: str, name: str, base_model: str
) -> None:
    """Write the model to `path`; every number is fp32(weight) + Σ s·c·v, rounded once.

    Memory stays at a few MiB besides the vocabulary, whatever the model's size.

    Args:
        base: whose folder has the weights; those in memory are not read.
        dtype: of matrices, a name of `TYPES`.
        name, base_model: what the file says of itself.

    Raises:
        InvalidRequest: llama.cpp has no such model or tokenizer, an edit does not fit the files, or
            the dtype cannot hold a weight.
        BaseModelUnavailable: the files are missing or broken.
    """
    writer = gguf.GGUFWriter(path, architecture_name(base.architecture.model_type))
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base_model)
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    frequencies = add_settings(writer, base)
    add_tokens(writer, base)
    slots = layout(base)
    sources = _sources(base, slots, mixture)
    if frequencies is not None:
        writer.add_tensor_info(
            FREQUENCIES, frequencies.shape, frequencies.dtype, frequencies.nbytes
        )
    for slot in slots:
        writer.add_tensor_info(
            slot.tensor,
            slot.shape,
            np.dtype(np.float32),
            slot.bytes_for(dtype),
            raw_dtype=slot.type_for(dtype),
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        _pad(file)
        if frequencies is not None:
            file.write(frequencies.tobytes())
            _pad(file)
        for slot, (stored, weighted) in progress.track(list(zip(slots, sources, strict=True))):
            for rows in _rows(slot, stored, weighted):
                file.write(pack(slot.stored(rows), slot.type_for(dtype), slot.parameter).tobytes())
            _pad(file)


def _sources(
    base: LoadedModel, slots: Sequence[Slot], mixture: Mixture
) -> list[tuple[StoredTensor, list[WeightedTerm]]]:
    """By slot: the tensor in the base model's files, and the terms that change it."""
    tensors = stored_tensors(base.folder)
    changes: dict[StoredTensor, list[WeightedTerm]] = {}
    for key, weighted in by_matrix(flatten(mixture)).items():
        place = place_of(base.architecture, tensors, key)
        check_fit(place, weighted)
        changes.setdefault(place.tensor, []).extend(
            (replace(term, rows=term.rows + place.first), strength) for term, strength in weighted
        )
    sources = []
    for slot in slots:
        stored = find_tensor(tensors, slot.parameter)
        if stored is None or stored.shape != slot.shape or stored.dtype not in DTYPES:
            raise InvalidRequest(
                f"the base model's files do not hold {slot.parameter} as "
                f"{' × '.join(map(str, slot.shape))} plain numbers: it cannot be written as GGUF"
            )
        sources.append((stored, changes.get(stored, [])))
    return sources


@torch.no_grad()
def _rows(
    slot: Slot, stored: StoredTensor, weighted: Sequence[WeightedTerm]
) -> Iterator[np.ndarray]:
    """The edited rows in fp32, whole heads at a time; a vector as it is."""
    dtype, width = DTYPES[stored.dtype], 1 if len(slot.shape) == 1 else slot.shape[1]
    head = slot.rows_of_a_head()
    step = max(1, _VALUES // (head * width)) * head if len(slot.shape) > 1 else slot.shape[0]
    with stored.file.open("rb", buffering=0) as file:
        for low in range(0, slot.shape[0], step):
            high = min(low + step, slot.shape[0])
            data = bytearray((high - low) * width * dtype.itemsize)
            fill(file.fileno(), memoryview(data), stored.start + low * width * dtype.itemsize)
            values = torch.frombuffer(data, dtype=dtype).view(-1, *slot.shape[1:]).float()
            parts = between(weighted, low, high)
            if parts and len(touched := union_of_rows(parts)):
                values[touched - low] += change(parts, touched, torch.float32)
            yield values.numpy()


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
