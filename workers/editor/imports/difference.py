"""The difference of another registered model to the base model, as far as a low rank goes.

Of each linear matrix W of a layer, with W' the other model's:

    W' - W = U S Vᵀ ≈ Σ_{i < rank} u_i s_i v_iᵀ

What is left is said of each matrix, as a share of the Frobenius norm of its difference; of what no
edit can reach (embeddings, norms, biases, routed experts) all is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.weights.architectures import MatrixKey
from workers import progress
from workers.editor.imports.approximation import measure
from workers.editor.imports.protocol import ReadEdit, bounded
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, make_term

_OVERSAMPLED = 8
_ITERATIONS = 4


@torch.no_grad()
def read(base: LoadedModel, other: LoadedModel, rank: int) -> ReadEdit:
    """The edit, and how near it comes.

    Raises:
        InvalidRequest: the models differ in more than their weights, or not at all.
        EditFailed: `invalid_import`, so much is left that the edit is another model.
    """
    ours, theirs = (dict(one.model.named_parameters()) for one in (base, other))
    shapes = [{name: one.shape for name, one in each.items()} for each in (ours, theirs)]
    if shapes[0] != shapes[1] or base.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        raise InvalidRequest("the two models differ in more than their weights")
    modules = base.architecture.linear_modules()
    bounded(rank * sum(map(len, modules.values())))
    terms: list[Term] = []
    left = {}
    for name in progress.track(sorted(ours)):
        difference = theirs[name].float() - ours[name].float()
        size = float(difference.norm())
        if not size:
            continue
        keys = modules.get(name.removesuffix(".weight"), []) if name.endswith(".weight") else []
        rest, first = size**2, 0
        for key in keys:
            rows = len(base.matrix(key))
            part = difference[first : first + rows]
            found, lacking = _low_rank(key, part, rank)
            terms += found
            rest += lacking - float(part.norm()) ** 2
            first += rows
        left[name] = min(1.0, max(0.0, rest) ** 0.5 / size)
    if not terms:
        raise InvalidRequest("it changes nothing that an edit can reach")
    approximation = measure(base, terms, EditedModel(other).reading, other)
    return ReadEdit(terms, None, approximation=approximation, left=left)


def _low_rank(key: MatrixKey, difference: Tensor, rank: int) -> tuple[list[Term], float]:
    """The terms of one matrix, and the square of the norm of what they leave."""
    if not bool(difference.any()):
        return [], 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the directions to begin with are drawn
        size = min(rank + _OVERSAMPLED, *difference.shape)
        left, values, right = torch.svd_lowrank(difference, q=size, niter=_ITERATIONS)
    left, values, right = left[:, :rank], values[:rank], right[:, :rank]
    rows = torch.arange(len(difference))
    terms = [
        make_term(key, right[:, i], rows, left[:, i] * values[i])
        for i in range(len(values))
        if float(values[i]) > 0
    ]
    lacking = difference - (left * values) @ right.T
    return terms, float(lacking.norm()) ** 2
