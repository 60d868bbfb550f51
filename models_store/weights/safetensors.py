"""Reproducible safetensors files, and a reader with a limit on the header.

The library writes metadata in the order of a hash map, which differs between processes: equal
deltas would differ in their SHA-256 and ETag. So the header is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from models_store.errors import CorruptArtifact

MAX_HEADER_BYTES = 16 * 2**20
_LENGTH_BYTES = 8
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
_NAMES = {np.dtype(np.float32): "F32", np.dtype(np.int32): "I32"}


def dump_tensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, equal bytes for equal content; float32 and int32 only."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blobs: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        blob = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    encoded += b" " * (-len(encoded) % _LENGTH_BYTES)
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded + b"".join(blobs)


def load_tensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Raises:
        CorruptArtifact: it is not a safetensors file, or its header is too large.
    """
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or length > min(MAX_HEADER_BYTES, len(data) - _LENGTH_BYTES):
        raise CorruptArtifact("not a safetensors file: it is cut short, or its header is too large")
    try:
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        tensors = safetensors.numpy.load(data)
    except (ValueError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise CorruptArtifact(f"not a safetensors file: {error}") from error
    metadata = header.get("__metadata__") or {}
    return tensors, metadata


class Layout(NamedTuple):
    """What the header of a safetensors file says, whose tensors need not be in memory."""

    tensors: dict[str, TensorLayout]
    metadata: dict[str, str]


class TensorLayout(NamedTuple):
    dtype: str
    """As the format writes it, such as `BF16`."""
    shape: tuple[int, ...]


def read_layout(stream: BinaryIO, size: int) -> Layout:
    """The header of a safetensors file of `size` bytes, from its beginning.

    Raises:
        CorruptArtifact: it is not such a file, its header is too large, or tensors do not fit it.
    """
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if length > min(MAX_HEADER_BYTES, size - _LENGTH_BYTES):
        raise CorruptArtifact("not a safetensors file: it is cut short, or its header is too large")
    try:
        header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", None) or {}
        tensors = {
            name: _checked_layout(name, entry, size - _LENGTH_BYTES - length)
            for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptArtifact(
            f"not a safetensors file: its header is malformed: {error}"
        ) from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CorruptArtifact("not a safetensors file: its metadata are not texts")
    return Layout(tensors, metadata)


def _checked_layout(name: str, entry: Mapping[str, Any], size: int) -> TensorLayout:
    shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"{name} has a shape or a place that is none")
    width = _WIDTHS.get(entry["dtype"])
    if stop > size or (width is not None and stop - start != width * prod(shape)):
        raise ValueError(f"{name} is not as long as its shape says")
    return TensorLayout(str(entry["dtype"]), shape)
