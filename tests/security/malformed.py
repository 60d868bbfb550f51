"""Malformed safetensors files, made from a seed: what a broken disk or an enemy may hand over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Header = dict[str, Any]
_LENGTH_BYTES = 8


def file_of(header: Any, data: bytes, length: int | None = None) -> bytes:
    """A file with this header; `length` says something else than its length."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    said = len(encoded) if length is None else length
    return said.to_bytes(_LENGTH_BYTES, "little") + encoded + data


def malformed_files(sound: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Files that are wrong, each with the name of what was done to it; `sound` is what they are
    made from."""
    at = random.Random(seed)
    size = int.from_bytes(sound[:_LENGTH_BYTES], "little")
    header: Header = json.loads(sound[_LENGTH_BYTES : _LENGTH_BYTES + size])
    data = sound[_LENGTH_BYTES + size :]
    for number in range(count):
        name, make = _DAMAGES[number % len(_DAMAGES)]
        yield f"{number}: {name}", make(json.loads(json.dumps(header)), data, sound, at)


def _tensor(header: Header, at: random.Random) -> Header:
    tensor: Header = header[at.choice([name for name in header if name != "__metadata__"])]
    return tensor


def _offsets(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    begin, end = at.choice(
        [(0, 2**63), (2**64, 2**65), (-4, 4), (8, 4), (0, len(data) + 4), (1, 5)]
    )
    _tensor(header, at)["data_offsets"] = [begin, end]
    return file_of(header, data)


def _overlap(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    names = [name for name in header if name != "__metadata__"]
    one, other = at.sample(names, 2)
    header[one] = dict(header[other])
    return file_of(header, data)


def _shape(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    wrong = [[2**31, 2**31], [2**62, 8], [-1], [1.5], ["x"], "x", None, [2**64], [[1]], {}]
    _tensor(header, at)["shape"] = at.choice(wrong)
    return file_of(header, data)


def _dtype(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    _tensor(header, at)["dtype"] = at.choice(["F65", "", None, 7, "O", "object", "F" * 10_000, []])
    return file_of(header, data)


def _part(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    del _tensor(header, at)[at.choice(["dtype", "shape", "data_offsets"])]
    return file_of(header, data)


def _length(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    wrong = at.choice([0, 1, 2**63, 2**64 - 1, 100_000_001, len(sound), at.randrange(1, 60)])
    return file_of(header, data, wrong)


def _no_json(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    deep = b"[" * 100_000
    wrong = [b"", b"{", b"null", b"[]", b"\xff" * 40, deep, b'{"a":' * 50_000, b"1e999", b'"x"']
    return file_of(at.choice(wrong), data)


def _metadata(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    header["__metadata__"] = at.choice(
        [[], "x", {"format": 1}, {"format": None}, {"format": ["x"]}, {"format": {}}, 5, True]
    )
    return file_of(header, data)


def _entry(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    header[f"extra.{at.randrange(9)}"] = at.choice([None, 1, [], "x", {}, {"dtype": "F32"}])
    return file_of(header, data)


def _cut(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    return sound[: at.randrange(len(sound))]


def _more(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    return sound + at.randbytes(at.randrange(1, 100))


def _noise(header: Header, data: bytes, sound: bytes, at: random.Random) -> bytes:
    return at.randbytes(at.randrange(0, 300))


_DAMAGES: list[tuple[str, Callable[[Header, bytes, bytes, random.Random], bytes]]] = [
    ("offsets that cannot be", _offsets),
    ("two tensors in one place", _overlap),
    ("a shape that cannot be", _shape),
    ("a dtype that is none", _dtype),
    ("a tensor without a part", _part),
    ("a length that is not the header's", _length),
    ("a header that is no object", _no_json),
    ("metadata that are no texts", _metadata),
    ("an entry that is no tensor", _entry),
    ("cut", _cut),
    ("bytes after the end", _more),
    ("noise", _noise),
]
