"""The delta: an edit's weight difference, as a list of rank-one terms in one file.

    W[rows, :] += s · coefficients[:, None] · direction          for every term, at strength s

Format `scalpel-delta/1` (safetensors): `terms.{i}.direction` F32 [in], `terms.{i}.rows` I32 [k],
`terms.{i}.coefficients` F32 [k]; a direction that several terms share is stored once, as
`shared.{j}.direction`. The metadata holds `format`, `base_fingerprint`, `method` and `terms`, a
JSON list with the matrix and the direction of each term.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models_store.errors import CorruptArtifact
from models_store.weights.architectures import MatrixKey
from models_store.weights.safetensors import dump_tensors, load_tensors

FORMAT = "scalpel-delta/1"
MAX_TERMS = 100_000


@dataclass(frozen=True, eq=False)
class DeltaTerm:
    """One rank-one change of some rows of one logical matrix."""

    layer: int
    module: str
    expert: int | None
    direction: np.ndarray
    """float32 `[in]`."""
    rows: np.ndarray
    """int32 `[k]`, strictly ascending."""
    coefficients: np.ndarray
    """float32 `[k]`."""

    @property
    def key(self) -> MatrixKey:
        return MatrixKey(self.layer, self.module, self.expert)


@dataclass(frozen=True, eq=False)
class Delta:
    """An edit's weight difference to the base model with the given fingerprint."""

    base_fingerprint: str
    method: str
    terms: tuple[DeltaTerm, ...]

    @cached_property
    def terms_sha256(self) -> str:
        """SHA-256 of the terms alone, without the method and the base model."""
        records, tensors = _layout(self.terms)
        digest = hashlib.sha256(_records_json(records).encode())
        for name in sorted(tensors):
            array = tensors[name]
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


class _TermRecord(BaseModel):
    """One entry of the metadata's `terms`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layer: Annotated[int, Field(ge=0, le=100_000)]
    module: Annotated[str, Field(pattern=r"^[a-z0-9_.]{1,100}$")]
    expert: Annotated[int, Field(ge=0, le=100_000)] | None
    direction: Annotated[str, Field(pattern=r"^(terms|shared)\.(0|[1-9][0-9]{0,5})$")]


_RECORDS = TypeAdapter(Annotated[list[_TermRecord], Field(max_length=MAX_TERMS)])


def dump_delta(delta: Delta) -> bytes:
    """The delta as a safetensors file; equal deltas give equal bytes."""
    records, tensors = _layout(delta.terms)
    metadata = {
        "format": FORMAT,
        "base_fingerprint": delta.base_fingerprint,
        "method": delta.method,
        "terms": _records_json(records),
    }
    return dump_tensors(tensors, metadata)


def load_delta(data: bytes) -> Delta:
    """Read and check a delta.

    Whether its matrices exist and its rows fit the model is for the caller to check.

    Raises:
        CorruptArtifact: the bytes are not a delta of this format: truncated, unknown or missing
            tensors, wrong types or shapes, rows repeated or negative, values not finite.
    """
    tensors, metadata = load_tensors(data)
    if metadata.get("format") != FORMAT:
        raise CorruptArtifact(f"not a delta of format {FORMAT}: {metadata.get('format')!r}")
    missing = {"base_fingerprint", "method", "terms"} - metadata.keys()
    if missing:
        raise CorruptArtifact(f"the delta's metadata lacks {', '.join(sorted(missing))}")
    try:
        records = _RECORDS.validate_json(metadata["terms"])
    except ValidationError as error:
        raise CorruptArtifact(f"the delta's list of terms is malformed: {error}") from error
    terms = tuple(_read_term(i, record, tensors) for i, record in enumerate(records))
    unused = tensors.keys() - _names_in_use(records)
    if unused:
        raise CorruptArtifact(f"the delta holds tensors of no term: {', '.join(sorted(unused))}")
    return Delta(metadata["base_fingerprint"], metadata["method"], terms)


def _layout(
    terms: Sequence[DeltaTerm],
) -> tuple[list[_TermRecord], Mapping[str, np.ndarray]]:
    """Records and tensors of the terms; a direction of several terms becomes a shared tensor."""
    contents = [term.direction.tobytes() for term in terms]
    uses = Counter(contents)
    shared: dict[bytes, str] = {}
    records: list[_TermRecord] = []
    tensors: dict[str, np.ndarray] = {}
    for i, (term, content) in enumerate(zip(terms, contents, strict=True)):
        if uses[content] > 1:
            name = shared.setdefault(content, f"shared.{len(shared)}")
        else:
            name = f"terms.{i}"
        tensors[f"{name}.direction"] = np.asarray(term.direction, np.float32)
        tensors[f"terms.{i}.rows"] = np.asarray(term.rows, np.int32)
        tensors[f"terms.{i}.coefficients"] = np.asarray(term.coefficients, np.float32)
        records.append(
            _TermRecord(layer=term.layer, module=term.module, expert=term.expert, direction=name)
        )
    return records, tensors


def _records_json(records: Sequence[_TermRecord]) -> str:
    return json.dumps([record.model_dump() for record in records], separators=(",", ":"))


def _names_in_use(records: Sequence[_TermRecord]) -> set[str]:
    names = {f"{record.direction}.direction" for record in records}
    for i in range(len(records)):
        names |= {f"terms.{i}.rows", f"terms.{i}.coefficients"}
    return names


def _read_term(i: int, record: _TermRecord, tensors: Mapping[str, np.ndarray]) -> DeltaTerm:
    if record.direction.startswith("terms.") and record.direction != f"terms.{i}":
        raise CorruptArtifact(f"term {i} uses the direction of another term, {record.direction}")
    direction = _vector(tensors, f"{record.direction}.direction", np.float32)
    rows = _vector(tensors, f"terms.{i}.rows", np.int32)
    coefficients = _vector(tensors, f"terms.{i}.coefficients", np.float32)
    if rows.shape != coefficients.shape:
        raise CorruptArtifact(f"term {i} has {rows.size} rows and {coefficients.size} coefficients")
    if rows.size == 0 or rows[0] < 0 or bool(np.any(np.diff(rows.astype(np.int64)) <= 0)):
        raise CorruptArtifact(f"the rows of term {i} are not ascending, different and from 0")
    return DeltaTerm(record.layer, record.module, record.expert, direction, rows, coefficients)


def _vector(tensors: Mapping[str, np.ndarray], name: str, dtype: type) -> np.ndarray:
    array = tensors.get(name)
    if array is None:
        raise CorruptArtifact(f"the delta lacks the tensor {name}")
    if array.dtype != dtype or array.ndim != 1 or array.size == 0:
        raise CorruptArtifact(
            f"{name} is {array.dtype} {array.shape}, expected a non-empty vector of "
            f"{np.dtype(dtype).name}"
        )
    if not bool(np.all(np.isfinite(array))):
        raise CorruptArtifact(f"{name} holds values that are not finite")
    return array
