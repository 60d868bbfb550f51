"""Is this folder a model that Scalpel can edit? Say no early, and say why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.weights.architectures import Architecture, architecture_for
from workers.runtime.base_models.weights import StoredTensor, read_json, stored_tensors

_READ_WHOLE = (".json", ".txt", ".model", ".jinja")
"""What loading reads into memory at once, however long it is."""
_MOST_READ_BYTES = 256 * 2**20
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_CODE_BEARING = ("config.json", "tokenizer_config.json", "generation_config.json")


@dataclass(frozen=True)
class CheckedModel:
    """What the files of a sound model say about it."""

    model_type: str
    layers: int
    parameters: int
    weight_bytes: int
    dtypes: tuple[str, ...]
    """Of the weights, as safetensors names them, sorted."""
    chat: bool
    """The tokenizer has a chat template."""


def check(folder: Path, *, values: bool = False) -> CheckedModel:
    """Look over a Hugging Face folder without loading the model.

    Args:
        folder: the folder.
        values: read every weight as well, and refuse NaN and infinity (a second a gigabyte).

    Raises:
        InvalidRequest: the model is of a kind that Scalpel does not take: remote code, pickles
            only, links out of the folder, quantized weights, an unsupported architecture.
        BaseModelUnavailable: a file is missing or broken, or a weight is not finite.
    """
    if not folder.is_dir():
        raise BaseModelUnavailable(f"{folder} is not a folder on this machine")
    refuse_links_out(folder)
    _refuse_huge(folder)
    config = read_json(folder / "config.json")
    _refuse_remote_code(folder)
    if config.get("quantization_config"):
        raise InvalidRequest(
            f"{folder} holds quantized weights, which cannot be edited row by row: use the "
            "unquantized model"
        )
    architecture = architecture_for(config)
    tensors = stored_tensors(folder)
    _check_names(folder, architecture, config, tensors)
    _check_tokenizer(folder)
    if values:
        _check_values(tensors)
    return CheckedModel(
        model_type=architecture.model_type,
        layers=architecture.layers,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        weight_bytes=sum(tensor.stop - tensor.start for tensor in tensors.values()),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors.values()})),
        chat=_has_chat_template(folder),
    )


def refuse_links_out(folder: Path) -> None:
    """Raise InvalidRequest when a file of `folder` is really somewhere else.

    Such a file can change without a trace in the folder, and a folder that somebody else made
    could show files of this machine that are none of its business.
    """
    home = folder.resolve()
    for path in home.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            raise InvalidRequest(
                f"{path} is a link out of its folder: copy the files themselves "
                f"(cp -rL {folder} ELSEWHERE) and register the copy"
            )


def _refuse_huge(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        is_read = path.suffix in _READ_WHOLE and path.is_file()
        if is_read and path.stat().st_size > _MOST_READ_BYTES:
            raise BaseModelUnavailable(f"{path} has more than {_MOST_READ_BYTES} bytes")


def _refuse_remote_code(folder: Path) -> None:
    for name in _CODE_BEARING:
        path = folder / name
        if path.exists() and "auto_map" in read_json(path):
            raise InvalidRequest(
                f"{path} needs code that comes with the model (auto_map), which is never run: "
                "if transformers knows the architecture by itself, remove the auto_map entry"
            )


def _check_names(
    folder: Path,
    architecture: Architecture,
    config: dict[str, Any],
    tensors: dict[str, StoredTensor],
) -> None:
    """Refuse a model without some of its matrices: they would be filled with random numbers.

    Norms and routed experts are left to the loader: not every family's norms have weights, and
    files name experts in many ways.
    """
    wanted = ["model.embed_tokens.weight"]
    for layer in range(architecture.layers):
        slots = architecture.slots(layer).values()
        wanted += [slot.tensor.format(layer=layer) for slot in slots if not slot.per_expert]
    # A model saved without its head has the names without the prefix.
    missing = [w for w in wanted if w not in tensors and w.removeprefix("model.") not in tensors]
    if missing:
        raise BaseModelUnavailable(
            f"the weights in {folder} lack {missing[0]} and {len(missing) - 1} other tensors that "
            f"a {config['model_type']} model of {architecture.layers} layers has"
        )
    packed = [w for w in wanted if w in tensors and tensors[w].dtype not in _FLOATS]
    if packed:
        raise InvalidRequest(
            f"{packed[0]} in {folder} has the dtype {tensors[packed[0]].dtype}; weights must be "
            f"one of {', '.join(sorted(_FLOATS))}"
        )


def _check_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more specific
            raise BaseModelUnavailable(f"{path} is no tokenizer: {error}") from error
        return
    if (folder / "tokenizer.model").is_file():
        return
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return
    raise BaseModelUnavailable(
        f"{folder} has no tokenizer: expected tokenizer.json, tokenizer.model, or vocab.json with "
        "merges.txt"
    )


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(read_json(path).get("chat_template"))


def _check_values(tensors: dict[str, StoredTensor]) -> None:
    # Here alone is torch needed: numpy has no bfloat16.
    from workers.runtime.base_models.values import first_not_finite

    name = first_not_finite(tensors)
    if name is not None:
        raise BaseModelUnavailable(f"{name} in {tensors[name].file} holds NaN or infinite numbers")
