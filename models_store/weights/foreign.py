"""Files that were made elsewhere: what they are, and whether an edit can be made of them.

Looked at when they arrive, by their headers alone, and again by the editor that reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

from models_store.errors import CorruptArtifact, InvalidRequest
from models_store.schemas.imports import ImportKind
from models_store.weights.delta import FORMAT
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, LoraPair, read_peft
from models_store.weights.safetensors import Layout, read_layout

DELTA_NAME = "delta.safetensors"
CONTROL_NAME = "control_vector.gguf"
VECTORS_NAME = "steering_vectors.safetensors"
VECTOR_TENSOR = r"(?:(?:layers?|direction)[._])?([0-9]{1,6})"
"""Names of tensors that are vectors of a layer, with its number."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_CONFIG_BYTES = 2**20
_LORA = ".lora_A."
_GGUF = b"GGUF"


class ForeignFile(NamedTuple):
    stream: BinaryIO
    """That can be read from any place."""
    size: int


def recognise(files: Mapping[str, ForeignFile]) -> tuple[ImportKind, dict[str, str]]:
    """What some files are.

    Args:
        files: by the names that they came with.

    Returns:
        The kind, and the names that they came with by those that they are kept under.

    Raises:
        InvalidRequest: they are nothing that can be imported.
    """
    for name in files:
        if name.lower().endswith(PICKLES):
            raise _refusal(
                name, "a pickle can run code when it is read: save it as safetensors", "pickle"
            )
    configs = [name for name in files if name.lower().endswith(".json")]
    weights = [name for name in files if name not in configs]
    if len(configs) > 1 or len(weights) != 1:
        names = ", ".join(name[:100] for name in files) or "nothing"
        raise InvalidRequest.at(
            "/file",
            f"send one file of weights, and {CONFIG_NAME} with those of an adapter; there is "
            f"{names[:500]}",
        )
    (name,) = weights
    files[name].stream.seek(0)
    if files[name].stream.read(4) == _GGUF:
        if configs:
            raise _refusal(name, f"send it without {configs[0][:100]}: control vectors have none")
        return "control_vector", {CONTROL_NAME: name}
    layout = _layout(name, files[name])
    if configs:
        return "peft", {CONFIG_NAME: configs[0], WEIGHTS_NAME: name}
    if layout.metadata.get("format") == FORMAT:
        return "native", {DELTA_NAME: name}
    if any(_LORA in tensor for tensor in layout.tensors):
        raise _refusal(
            name, f"an adapter needs its {CONFIG_NAME} too, which says how it is scaled", "missing"
        )
    if layout.tensors and all(re.fullmatch(VECTOR_TENSOR, tensor) for tensor in layout.tensors):
        return "steering_vectors", {VECTORS_NAME: name}
    raise _refusal(
        name,
        f"neither a delta of the format {FORMAT}, nor an adapter, nor vectors named layer.0, "
        f"layer.1, …: it has {', '.join(sorted(layout.tensors)[:3])[:300] or 'no tensors'}",
    )


def check_delta(file: ForeignFile, fingerprint: str) -> None:
    """Pass if a delta says that it was made for the weights with the fingerprint.

    Raises:
        InvalidRequest: it was made for others.
    """
    made_for = _layout(DELTA_NAME, file).metadata.get("base_fingerprint")
    if made_for != fingerprint:
        raise _refusal(
            DELTA_NAME,
            f"the delta was made for the weights {made_for!r:.100}, and those of this base model "
            f"are {fingerprint}",
            "other_weights",
        )


def read_adapter(
    config: ForeignFile, weights: ForeignFile, layers: int
) -> tuple[dict[str, Any], list[LoraPair]]:
    """The configuration of a LoRA adapter, and what it changes, by module.

    Args:
        layers: that the base model has.

    Raises:
        InvalidRequest: as `read_peft`, or the configuration is not JSON.
    """
    if config.size > _CONFIG_BYTES:
        raise _refusal(CONFIG_NAME, f"it has more than {_CONFIG_BYTES} bytes")
    config.stream.seek(0)
    try:
        parsed = json.loads(config.stream.read(_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise _refusal(CONFIG_NAME, f"it is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise _refusal(CONFIG_NAME, "it is no JSON object")
    return parsed, read_peft(parsed, _layout(WEIGHTS_NAME, weights).tensors, layers)


def _layout(name: str, file: ForeignFile) -> Layout:
    file.stream.seek(0)
    try:
        return read_layout(file.stream, file.size)
    except CorruptArtifact as error:
        raise _refusal(name, error.message) from error


def _refusal(name: str, detail: str, code: str = "not_supported") -> InvalidRequest:
    pointer = name[:200].replace("~", "~0").replace("/", "~1")
    return InvalidRequest.at(f"/{pointer}", f"{name[:200]}: {detail}", code)
