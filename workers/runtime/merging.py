"""Write a base model with edits in its weights, without loading it: files in, files out.

Every file of weights is copied as it is, by the kernel where that can; then the rows that an edit
touches are read, changed and written in their place. So names, dtypes, order and metadata stay,
and a few MiB of memory do whatever the model's size. The arithmetic is that of
`apply.WeightEditor`: new row = round once(fp32(row) + Σ s·c·v in fp32, terms in canonical order).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from io import BufferedRandom
from pathlib import Path

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import Architecture, MatrixKey
from workers import progress
from workers.runtime.base_models.staging import MANIFEST
from workers.runtime.base_models.weights import (
    INDEX,
    SINGLE,
    StoredTensor,
    stored_tensors,
    weight_files,
)
from workers.surgery.terms import (
    Mixture,
    Term,
    WeightedTerm,
    by_matrix,
    change,
    flatten,
    union_of_rows,
)

_BESIDE_WEIGHTS = (
    "*.json",
    "*.jinja",
    "*.model",
    "*.tiktoken",
    "merges.txt",
    "vocab.txt",
    "LICEN[CS]E*",
    "NOTICE*",
    "COPYING*",
    "USE_POLICY*",
)
_NOT_THE_MODEL = (
    MANIFEST,
    "*.index.json",  # those of weights that are not copied; that of the model is
    "adapter_config.json",  # with it transformers would look for an adapter
    "trainer_state.json",
)
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_COPY_BYTES = 64 * 2**20
_BLOCK_VALUES = 2**20
"""Of a matrix, changed at once: 4 MiB in fp32, a few times over."""


@dataclass(frozen=True)
class _Place:
    """Rows of a stored tensor, seen as `[rows, in]`, that are one logical matrix."""

    tensor: StoredTensor
    first: int
    rows: int

    @property
    def width(self) -> int:
        return self.tensor.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.tensor.dtype]

    def at(self, row: int) -> int:
        """Where a row of the matrix begins in the file."""
        return self.tensor.start + (self.first + row) * self.width * self.dtype.itemsize


def merge(folder: Path, architecture: Architecture, mixture: Mixture, target: Path) -> None:
    """Fill `target`, a new folder, with the model in `folder` and the mixture in its weights.

    What belongs to the model comes along: configuration, tokenizer, index of the weights, licence.

    Raises:
        InvalidRequest: an edit does not fit the files, or they hold experts in an unknown way.
        BaseModelUnavailable: the files are missing or broken.
    """
    tensors = stored_tensors(folder)
    changed = [
        (_place(architecture, tensors, key), weighted)
        for key, weighted in by_matrix(flatten(mixture)).items()
    ]
    for place, weighted in changed:
        _check_fit(place, weighted)
    target.mkdir()
    for path in _beside(folder):
        shutil.copyfile(path, target / path.name)
    for path in progress.track(weight_files(folder)):
        copy_file(path, target / path.name)
        with (target / path.name).open("r+b") as stream:
            for place, weighted in changed:
                if place.tensor.file == path:
                    _add(stream, place, weighted)


def coarsest_dtype(folder: Path) -> str:
    """torch's name of the dtype of the model's weights; the one with the fewest bits of fraction,
    where there are several."""
    stored = {tensor.dtype for tensor in stored_tensors(folder).values()}
    floats = [dtype for name, dtype in _DTYPES.items() if name in stored]
    return str(max(floats, key=lambda dtype: torch.finfo(dtype).eps)).removeprefix("torch.")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes, inside the kernel where it can, which some file systems do at once."""
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_BYTES):
                pass
        except (AttributeError, OSError):
            # Not on this system, or not between these two; both are where they got to.
            shutil.copyfileobj(reader, writer, _BLOCK_VALUES)


def _beside(folder: Path) -> Iterator[Path]:
    """The files of a model that are not its weights."""
    index = None if (folder / SINGLE).is_file() else INDEX
    for path in sorted(folder.iterdir()):
        wanted = any(fnmatch(path.name, pattern) for pattern in _BESIDE_WEIGHTS)
        unwanted = any(fnmatch(path.name, pattern) for pattern in _NOT_THE_MODEL)
        if path.is_file() and (path.name == index or (wanted and not unwanted)):
            yield path


def _place(
    architecture: Architecture, tensors: Mapping[str, StoredTensor], key: MatrixKey
) -> _Place:
    """Where the files hold a matrix; experts lie in one tensor, or in one each.

    Raises:
        InvalidRequest: nowhere that is known.
    """
    slot = architecture.slot(key)
    whole = _named(tensors, architecture.tensor(key))
    if whole is not None:
        rows = whole.shape[-2]
        part = rows if slot.part == "all" else rows // 2
        first = (key.expert or 0) * rows + (part if slot.part == "second_half" else 0)
        return _Place(whole, first, part)
    own = _named(tensors, architecture.expert_file_tensor(key)) if slot.per_expert else None
    if own is None:
        raise InvalidRequest(
            f"the base model's files hold {key.module} of layer {key.layer} in a way that edits "
            "cannot be merged into: export the variant as native or peft"
        )
    return _Place(own, 0, own.shape[-2])


def _named(tensors: Mapping[str, StoredTensor], name: str) -> StoredTensor | None:
    # A model saved without its head has the names without the prefix.
    return tensors.get(name) or tensors.get(name.removeprefix("model."))


def _check_fit(place: _Place, weighted: Sequence[WeightedTerm]) -> None:
    for term, _ in weighted:
        last = int(term.rows[-1]) if term.rows.numel() else 0
        fits = len(term.direction) == place.width and last < place.rows
        if not fits or place.tensor.dtype not in _DTYPES:
            raise InvalidRequest(
                f"an edit of {term.module} in layer {term.layer} does not fit the base model's "
                f"tensor of {place.rows} × {place.width} {place.tensor.dtype}"
            )


@torch.no_grad()
def _add(stream: BufferedRandom, place: _Place, weighted: Sequence[WeightedTerm]) -> None:
    """Add terms to a matrix in a file, a block of rows at a time."""
    step = max(1, _BLOCK_VALUES // place.width)
    rows = union_of_rows(weighted)
    for block in torch.unique(rows // step).tolist():
        low, high = block * step, min((block + 1) * step, place.rows)
        touched = rows[(rows >= low) & (rows < high)]
        stream.seek(place.at(low))
        data = bytearray(place.at(high) - place.at(low))
        stream.readinto(data)
        values = torch.frombuffer(data, dtype=place.dtype).view(-1, place.width)
        cut = [(_between(term, low, high), strength) for term, strength in weighted]
        values[touched - low] = _changed(values[touched - low], cut, touched)
        stream.seek(place.at(low))
        stream.write(data)
    stream.flush()


def _changed(pristine: Tensor, weighted: Sequence[WeightedTerm], rows: Tensor) -> Tensor:
    wide = torch.promote_types(pristine.dtype, torch.float32)
    return (pristine.to(wide) + change(weighted, rows, wide)).to(pristine.dtype)


def _between(term: Term, low: int, high: int) -> Term:
    """The part of a term in rows `[low, high)`."""
    start, stop = torch.searchsorted(term.rows, torch.tensor([low, high])).tolist()
    return replace(term, rows=term.rows[start:stop], coefficients=term.coefficients[start:stop])
