"""A control vector: what is added to the residual stream after some layers, at every token.

A constant is no linear change of a weight, so no edit does the same. The nearest is the one of the
method `bias`: with h the input of a layer's `down_proj` and v its vector,

    W_down += v aᵀ      a · h about 1 at every token but the first of a text, and about 0 there

which leaves the first token, on which attention rests, as it is. What that comes to is measured
against the vectors themselves, added by hooks, on texts that nothing was fitted on; an edit that
misses half of what they do is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models_store.errors import CorruptArtifact, EditFailed, InvalidRequest
from models_store.weights.architectures import DOWN, MatrixKey
from models_store.weights.foreign import CONTROL_NAME, VECTOR_TENSOR, VECTORS_NAME
from workers.editor.imports.approximation import measure
from workers.editor.imports.protocol import ReadEdit
from workers.evaluation.damage.neutral import encode_neutral
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.edits.steering import steered
from workers.runtime.likelihood import TextReading
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.passes import read_texts
from workers.runtime.reading.residuals import InputMoments, first_tokens
from workers.runtime.tokens import Encoded
from workers.surgery.regression import DEFAULT_RIDGE, MAX_FIRST_TOKEN_RMS, respond
from workers.surgery.terms import Term, make_term

_FITTED_EACH = 60
_MAX_TOKENS = 128
_NORMALISED = ("post_feedforward_layernorm",)
"""Modules of a layer that change what `down_proj` gives before it is added to the stream."""


def read_control_vector(files: Mapping[str, Path], base: LoadedModel) -> ReadEdit:
    """A GGUF file as llama.cpp and repeng write it: `direction.N` is added after layer N, from 0.

    Raises:
        InvalidRequest, CorruptArtifact: as `Reader` says.
        EditFailed: the vectors cannot be written closely enough.
    """
    try:
        reader = gguf.GGUFReader(files[CONTROL_NAME])
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: _plain(tensor) for tensor in reader.tensors}
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError) as error:
        raise CorruptArtifact(f"{CONTROL_NAME} cannot be read as GGUF: {error}") from error
    kind = fields.get("general.architecture")
    if kind != "controlvector":
        raise InvalidRequest(
            f"of GGUF files only control vectors can be imported, and this one is {str(kind)[:100]}"
        )
    hint = fields.get("controlvector.model_hint")
    return _read(tensors, base, hint[:200] if isinstance(hint, str) else None)


def read_steering_vectors(files: Mapping[str, Path], base: LoadedModel) -> ReadEdit:
    """A safetensors file with a tensor for each layer, such as `layer.12`: the output of layer 12,
    from 0, gains it.

    Raises:
        InvalidRequest, CorruptArtifact, EditFailed: as `read_control_vector`.
    """
    try:
        with safe_open(files[VECTORS_NAME], framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CorruptArtifact(f"{VECTORS_NAME} cannot be read: {error}") from error
    return _read(tensors, base, None)


def _plain(tensor: gguf.ReaderTensor) -> Tensor:
    if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
        raise ValueError(f"{tensor.name} is {tensor.tensor_type.name}, not F32")
    return torch.from_numpy(np.array(tensor.data, dtype=np.float32))


def _read(tensors: Mapping[str, Tensor], base: LoadedModel, made_for: str | None) -> ReadEdit:
    vectors = dict(sorted(_by_layer(tensors, base)))
    for layer in vectors:
        if any(hasattr(base.blocks[layer], name) for name in _NORMALISED):
            raise InvalidRequest(
                f"{base.architecture.model_type} models normalise what down_proj gives before they "
                "add it, so no change of weights can add a given vector"
            )
    terms = _fit(base, vectors)

    def wanted(texts: Sequence[Encoded]) -> TextReading:
        with steered(base, vectors):
            return EditedModel(base).reading(texts)

    return ReadEdit(terms, None, made_for=made_for, approximation=measure(base, terms, wanted))


def _by_layer(tensors: Mapping[str, Tensor], base: LoadedModel) -> Iterator[tuple[int, Tensor]]:
    """Vectors that are not zero; fp32 `[hidden]`, by layer.

    Raises:
        InvalidRequest: one does not fit the model, or there is none.
    """
    there = False
    layers: set[int] = set()
    for name, tensor in tensors.items():
        match = re.fullmatch(VECTOR_TENSOR, name)
        layer = int(match[1]) if match is not None else -1
        if not 0 <= layer < base.layers or tensor.numel() != base.hidden_size or layer in layers:
            raise InvalidRequest(
                f"{name[:200]} of shape {tuple(tensor.shape)} is no vector of a layer: the base "
                f"model has the layers 0 to {base.layers - 1}, and vectors of {base.hidden_size} "
                "numbers"
            )
        layers.add(layer)
        vector = tensor.reshape(-1).float()
        if not bool(torch.isfinite(vector).all()):
            raise InvalidRequest(f"{name[:200]} holds values that are not finite")
        if bool(vector.any()):
            there = True
            yield layer, vector
    if not there:
        raise InvalidRequest("it changes nothing: all of its vectors are zero")


def _fit(base: LoadedModel, vectors: Mapping[int, Tensor]) -> list[Term]:
    """A term of `down_proj` for each layer.

    Raises:
        InvalidRequest: a layer has no such matrix, as a layer of routed experts.
        EditFailed: first tokens of a text would move.
    """
    layers = list(vectors)
    reading = InputMoments(base, layers)
    texts = encode_neutral(base, "fitting", each=_FITTED_EACH, max_tokens=_MAX_TOKENS).texts
    read_texts(base, texts, [reading])
    firsts = first_tokens(base, layers)
    terms = []
    for layer, vector in vectors.items():
        moments = reading.moments[layer]
        damping = DEFAULT_RIDGE * float(moments.second.diagonal().mean())
        fitted = respond(layer, moments.mean, moments.second.clone(), firsts[layer], damping)
        if not fitted.check.used:
            raise EditFailed(
                f"layer {layer} cannot be written into: first tokens would move "
                f"({fitted.check.first_token_rms:.2g} of the vector, where {MAX_FIRST_TOKEN_RMS} "
                "is allowed)",
                code="invalid_import",
            )
        rows = torch.arange(base.hidden_size)
        terms.append(make_term(MatrixKey(layer, DOWN), fitted.vector, rows, vector))
    return terms
