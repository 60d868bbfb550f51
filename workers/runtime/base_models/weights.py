"""Which safetensors of a Hugging Face folder are the model, and where each tensor lies in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from models_store.errors import BaseModelUnavailable, InvalidRequest

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LENGTH_BYTES = 8
_MAX_JSON_BYTES = 64 * 2**20
"""The index of the largest models has a tenth of this."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: bytes `[start, stop)` of it, counted from the file's beginning."""

    file: Path
    dtype: str
    """As safetensors names it: `BF16`, `F32`, …"""
    shape: tuple[int, ...]
    start: int
    stop: int


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors that transformers would load from `folder`, in order of their names.

    One file called `model.safetensors`, or else those that the index lists; other safetensors in
    the folder (a second copy of the weights in another layout, say) are not the model.

    Raises:
        InvalidRequest: there are only pickles, or the index names a file outside the folder.
        BaseModelUnavailable: there are no weights, or a file of the index is missing.
    """
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if not (folder / INDEX).is_file():
        if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
            raise InvalidRequest(
                f"{folder} holds pickled weights only, which can run code when they are read: "
                "convert them to safetensors (load and save_pretrained on a machine you can lose)"
            )
        raise BaseModelUnavailable(f"{folder} holds neither {SINGLE} nor {INDEX}")
    names = sorted(set(indexed_tensors(folder).values()))
    for name in names:
        if Path(name).name != name:
            raise InvalidRequest(f"{folder / INDEX} names {name!r}, which is not in the folder")
        if not (folder / name).is_file():
            raise BaseModelUnavailable(f"{folder / INDEX} names {name}, which is not there")
    return tuple(folder / name for name in names)


def indexed_tensors(folder: Path) -> Mapping[str, str]:
    """Tensor name to file name, as the index of a sharded model has them; empty without one.

    Raises:
        BaseModelUnavailable: the index cannot be read.
    """
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return {}
    listed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise BaseModelUnavailable(f"{folder / INDEX} has no weight_map")
    return {str(tensor): str(name) for tensor, name in listed.items()}


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the model in `folder`, by name; reads headers only.

    Raises:
        InvalidRequest, BaseModelUnavailable: as `weight_files`; or a file is broken or cut, two
            files hold the same tensor, or one lacks a tensor that the index puts there.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        for name, tensor in _tensors_of(file).items():
            if name in tensors:
                raise BaseModelUnavailable(
                    f"{name} is in both {tensors[name].file.name} and {file.name} of {folder}"
                )
            tensors[name] = tensor
    for name, file_name in indexed_tensors(folder).items():
        if name not in tensors or tensors[name].file.name != file_name:
            raise BaseModelUnavailable(
                f"{folder / file_name} lacks {name}, which {INDEX} puts there: fetch it again"
            )
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        BaseModelUnavailable: the file is missing, too large, or holds no JSON object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise BaseModelUnavailable(f"{path} has more than {_MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaseModelUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BaseModelUnavailable(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BaseModelUnavailable(f"{path} should hold a JSON object")
    return value


def _tensors_of(file: Path) -> dict[str, StoredTensor]:
    try:
        # The library checks the header against the file: sizes, order, nothing missing at the end.
        with safe_open(file, framework="numpy"):
            pass
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            header = json.loads(stream.read(length))
    except (OSError, SafetensorError) as error:
        raise BaseModelUnavailable(
            f"{file} is no whole safetensors file ({error}): fetch it again"
        ) from error
    header.pop("__metadata__", None)
    first = _LENGTH_BYTES + length
    return {
        name: StoredTensor(
            file,
            entry["dtype"],
            tuple(entry["shape"]),
            first + entry["data_offsets"][0],
            first + entry["data_offsets"][1],
        )
        for name, entry in header.items()
    }
