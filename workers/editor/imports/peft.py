"""A LoRA adapter as PEFT has it: of each module, rows of A are directions and columns of B, times
alpha / r, coefficients.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models_store.errors import CorruptArtifact, InvalidRequest
from models_store.weights.architectures import MatrixKey
from models_store.weights.foreign import ForeignFile, read_adapter
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, LoraPair, plain_config
from workers.editor.formats import peft
from workers.editor.imports.protocol import ReadEdit, bounded
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, make_term


def read(files: Mapping[str, Path], base: LoadedModel) -> ReadEdit:
    config_path, weights_path = files[CONFIG_NAME], files[WEIGHTS_NAME]
    with config_path.open("rb") as config, weights_path.open("rb") as weights:
        settings, pairs = read_adapter(
            ForeignFile(config, config_path.stat().st_size),
            ForeignFile(weights, weights_path.stat().st_size),
            base.layers,
        )
    matrices = _matrices(base, pairs)
    bounded(sum(pair.rank * len(matrices[pair.module]) for pair in pairs))
    try:
        # torch's, since numpy has no bfloat16.
        with safe_open(weights_path, framework="pt") as tensors:
            terms = [
                term
                for pair in pairs
                for term in _terms(
                    pair,
                    matrices[pair.module],
                    tensors.get_tensor(pair.a),
                    tensors.get_tensor(pair.b),
                )
            ]
    except SafetensorError as error:
        raise CorruptArtifact(f"{WEIGHTS_NAME} cannot be read: {error}") from error
    plain = json.dumps(plain_config(settings, pairs)).encode()
    loader = peft.loader({CONFIG_NAME: plain, WEIGHTS_NAME: weights_path})
    named = settings.get("base_model_name_or_path")
    return ReadEdit(terms, loader, made_for=named[:200] if isinstance(named, str) else None)


def _matrices(
    base: LoadedModel, pairs: Sequence[LoraPair]
) -> dict[str, list[tuple[MatrixKey, int]]]:
    """By module: the matrices that it holds, from its first row on, with the rows of each.

    Raises:
        InvalidRequest: the base model has no such module, or one of another size.
    """
    modules, shapes = base.architecture.linear_modules(), base.linear_shapes()
    found = {}
    for pair in pairs:
        module = pair.module
        if module not in modules or module not in shapes:
            known = ", ".join(sorted({name.split(".", 3)[3] for name in modules}))
            raise InvalidRequest(
                f"{module} is no module of this {base.architecture.model_type} model that can be "
                f"edited: these are {known}, of each layer that has them"
            )
        if shapes[module] != pair.shape:
            raise InvalidRequest(
                f"the adapter changes {module} as a matrix of {pair.shape[0]} × {pair.shape[1]}, "
                f"and here it is one of {shapes[module][0]} × {shapes[module][1]}: it was made "
                "for another base model"
            )
        keys = modules[module]
        found[module] = [(key, len(base.matrix(key))) for key in keys]
    return found


def _terms(
    pair: LoraPair, matrices: Sequence[tuple[MatrixKey, int]], a: Tensor, b: Tensor
) -> Iterator[Term]:
    """The terms of a module, but for those that change nothing.

    Args:
        a: `[rank, in]`, b: `[out, rank]`, any float dtype.
    """
    directions, columns = a.float(), (pair.factor * b.double()).float()
    if not bool(torch.isfinite(directions).all() and torch.isfinite(columns).all()):
        raise InvalidRequest(f"the adapter of {pair.module} holds values that are not finite")
    first = 0
    for key, rows in matrices:
        part = columns[first : first + rows].T.contiguous()
        first += rows
        for direction, coefficients in zip(directions, part, strict=True):
            if bool(direction.any()) and bool(coefficients.any()):
                yield make_term(key, direction, torch.arange(rows), coefficients)
