"""Write a base model with edits in its weights, without loading it: files in, files out.

Every file of weights is copied as it is, by the kernel where that can, but for the rows that an
edit touches, which are read, changed and written in their place. So names, dtypes, order and
metadata stay, and a few MiB of memory do whatever the model's size. The arithmetic is that of
`apply.WeightEditor`: new row = round once(fp32(row) + Σ s·c·v in fp32, terms in canonical order).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

from models_store.errors import BaseModelUnavailable, InvalidRequest
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
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_COPY_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**18
_BLOCK_VALUES = 2**18
"""Of a matrix, changed at once: 1 MiB in fp32, a few times over, which stays in the cache."""


@dataclass(frozen=True)
class Place:
    """Rows of a stored tensor, seen as `[rows, in]`, that are one logical matrix."""

    tensor: StoredTensor
    first: int
    rows: int

    @property
    def width(self) -> int:
        return self.tensor.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.tensor.dtype]

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
        (place_of(architecture, tensors, key), weighted)
        for key, weighted in by_matrix(flatten(mixture)).items()
    ]
    for place, weighted in changed:
        check_fit(place, weighted)
    target.mkdir()
    for path in _beside(folder):
        shutil.copyfile(path, target / path.name)
    for path in progress.track(weight_files(folder)):
        inside = [pair for pair in changed if pair[0].tensor.file == path]
        _write(path, target / path.name, inside)


def coarsest_dtype(folder: Path) -> str:
    """torch's name of the dtype of the model's weights; the one with the fewest bits of fraction,
    where there are several."""
    stored = {tensor.dtype for tensor in stored_tensors(folder).values()}
    floats = [dtype for name, dtype in DTYPES.items() if name in stored]
    return str(max(floats, key=lambda dtype: torch.finfo(dtype).eps)).removeprefix("torch.")


def _beside(folder: Path) -> Iterator[Path]:
    """The files of a model that are not its weights."""
    index = None if (folder / SINGLE).is_file() else INDEX
    for path in sorted(folder.iterdir()):
        wanted = any(fnmatch(path.name, pattern) for pattern in _BESIDE_WEIGHTS)
        unwanted = any(fnmatch(path.name, pattern) for pattern in _NOT_THE_MODEL)
        if path.is_file() and (path.name == index or (wanted and not unwanted)):
            yield path


def place_of(
    architecture: Architecture, tensors: Mapping[str, StoredTensor], key: MatrixKey
) -> Place:
    """Where the files hold a matrix; experts lie in one tensor, or in one each.

    Raises:
        InvalidRequest: nowhere that is known.
    """
    slot = architecture.slot(key)
    whole = find_tensor(tensors, architecture.tensor(key))
    if whole is not None:
        rows = whole.shape[-2]
        part = rows if slot.part == "all" else rows // 2
        first = (key.expert or 0) * rows + (part if slot.part == "second_half" else 0)
        return Place(whole, first, part)
    own = find_tensor(tensors, architecture.expert_file_tensor(key)) if slot.per_expert else None
    if own is None:
        raise InvalidRequest(
            f"the base model's files hold {key.module} of layer {key.layer} in a way that edits "
            "cannot be merged into: export the variant as native or peft"
        )
    return Place(own, 0, own.shape[-2])


def find_tensor(tensors: Mapping[str, StoredTensor], name: str) -> StoredTensor | None:
    """A tensor of the files by the name that it has in the loaded model."""
    # A model saved without its head has the names without the prefix.
    return tensors.get(name) or tensors.get(name.removeprefix("model."))


def check_fit(place: Place, weighted: Sequence[WeightedTerm]) -> None:
    """Raise `InvalidRequest` where an edit does not fit the files."""
    for term, _ in weighted:
        last = int(term.rows[-1]) if term.rows.numel() else 0
        fits = len(term.direction) == place.width and last < place.rows
        if not fits or place.tensor.dtype not in DTYPES:
            raise InvalidRequest(
                f"an edit of {term.module} in layer {term.layer} does not fit the base model's "
                f"tensor of {place.rows} × {place.width} {place.tensor.dtype}"
            )


@dataclass(frozen=True)
class _Block:
    """Some rows of a matrix, `[low, high)`, of which at least one is touched."""

    place: Place
    weighted: Sequence[WeightedTerm]
    low: int
    high: int
    touched: Tensor

    @property
    def start(self) -> int:
        return self.place.at(self.low)

    @property
    def stop(self) -> int:
        return self.place.at(self.high)


def _blocks(place: Place, weighted: Sequence[WeightedTerm]) -> Iterator[_Block]:
    step = max(1, _BLOCK_VALUES // place.width)
    rows = union_of_rows(weighted)
    for number in torch.unique(rows // step).tolist():
        low, high = number * step, min((number + 1) * step, place.rows)
        start, stop = torch.searchsorted(rows, torch.tensor([low, high])).tolist()
        yield _Block(place, weighted, low, high, rows[start:stop])


def _write(
    source: Path, target: Path, changed: Sequence[tuple[Place, Sequence[WeightedTerm]]]
) -> None:
    """Copy a file with the matrices changed that are in it."""
    blocks = [block for place, weighted in changed for block in _blocks(place, weighted)]
    blocks.sort(key=lambda block: block.start)
    ends = [0, *(block.stop for block in blocks)]
    starts = [*(block.start for block in blocks), source.stat().st_size]
    with (
        source.open("rb", buffering=0) as reader,
        target.open("wb", buffering=0) as writer,
        # The kernel copies in this thread, another one computes.
        ThreadPoolExecutor(1) as pool,
    ):
        computed = pool.submit(_change, reader.fileno(), writer.fileno(), blocks)
        for start, stop in zip(ends, starts, strict=True):
            copy(reader.fileno(), writer.fileno(), start, stop)
        computed.result()


def _change(reader: int, writer: int, blocks: Sequence[_Block]) -> None:
    room = bytearray(max((block.stop - block.start for block in blocks), default=0))
    for block in blocks:
        data = memoryview(room)[: block.stop - block.start]
        fill(reader, data, block.start)
        _add(block, data)
        _put(writer, data, block.start)


@torch.no_grad()
def _add(block: _Block, data: memoryview) -> None:
    """Add the terms to the rows in `data`."""
    values = torch.frombuffer(data, dtype=block.place.dtype).view(-1, block.place.width)
    terms = between(block.weighted, block.low, block.high)
    wide = torch.promote_types(values.dtype, torch.float32)
    added = change(terms, block.touched, wide)
    if len(added) == len(values):
        values.copy_(added.add_(values))
    else:
        at = block.touched - block.low
        values[at] = added.add_(values[at]).to(values.dtype)


def between(weighted: Sequence[WeightedTerm], low: int, high: int) -> list[WeightedTerm]:
    """The parts of terms in rows `[low, high)`."""
    return [(_part(term, low, high), strength) for term, strength in weighted]


def _part(term: Term, low: int, high: int) -> Term:
    start, stop = torch.searchsorted(term.rows, torch.tensor([low, high])).tolist()
    return replace(term, rows=term.rows[start:stop], coefficients=term.coefficients[start:stop])


def copy(reader: int, writer: int, start: int, stop: int) -> None:
    """Copy the bytes `[start, stop)` between two open files, inside the kernel where it can."""
    with contextlib.suppress(AttributeError, OSError):  # not here, or not between these two
        while start < stop:
            count = min(stop - start, _COPY_BYTES)
            copied = os.copy_file_range(reader, writer, count, start, start)
            if not copied:
                break
            start += copied
    while start < stop:
        data = memoryview(bytearray(min(stop - start, _BLOCK_BYTES)))
        fill(reader, data, start)
        _put(writer, data, start)
        start += len(data)


def fill(reader: int, data: memoryview, start: int) -> None:
    """Read as many bytes as there is room for."""
    while data:
        count = os.preadv(reader, [data], start)
        if not count:
            raise BaseModelUnavailable("a file of the base model became shorter while it was read")
        data, start = data[count:], start + count


def _put(writer: int, data: memoryview, start: int) -> None:
    while data:
        count = os.pwrite(writer, data, start)
        data, start = data[count:], start + count
