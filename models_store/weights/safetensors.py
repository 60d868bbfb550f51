"""Reproducible safetensors files, and a reader with a limit on the header.

The library writes metadata in the order of a hash map, which differs between processes: equal
deltas would differ in their SHA-256 and ETag. So the header is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from models_store.errors import CorruptArtifact

MAX_HEADER_BYTES = 16 * 2**20
_LENGTH_BYTES = 8
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
