"""An edit's methods fitted on texts whose labels are permuted: what they make of noise.

The labels alone say which texts are of which side. Dealt at random they say nothing, so what the
same code makes of the same texts then shows what a fit finds by chance. A permuted difference of
means has the same distribution of directions for any number of texts, and only its length, which
is scaled away, depends on it: so a part of the texts is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.methods import FixedMethod
from workers.evaluation.controls.baselines import PERMUTED_TEXTS
from workers.evaluation.data.splits import Sides
from workers.making.cache import Cache
from workers.making.fitting.material import Material
from workers.making.fitting.source import Source
from workers.runtime.edits.apply import WeightEditor
from workers.surgery.terms import Term, scaled

_HELDOUT = 8
"""Held-out texts that are read with the others: nothing is judged by them."""


def fit_permuted(
    source: Source,
    cache: Cache,
    methods: Sequence[FixedMethod],
    terms: Sequence[Term],
    seed: int,
) -> list[Term] | None:
    """Fit the methods of an edit on permuted labels; what each writes gets the norm that it has in
    the edit, so that the parts of a pair keep their proportion.

    Args:
        source: what the edit was made from.
        methods: those of the edit, which write to different matrices.
        terms: the edit.
        seed: of the permutation.

    Returns:
        None where a method finds nothing to write.
    """
    fit, heldout = source.splits.fit, source.splits.heldout
    splits = replace(
        source.splits,
        fit=permuted(fit, seed, PERMUTED_TEXTS),
        heldout=permuted(heldout, seed, _HELDOUT),
    )
    try:
        material = Material.read(replace(source, splits=splits), methods, cache)
        with WeightEditor(source.model.loaded).applied(source.model.mixture):
            fitted = [material.fitted(method).terms for method in methods]
    except (InvalidRequest, EditFailed):
        return None  # a control that cannot be had does not stop the edit
    return [
        term
        for method, made in zip(methods, fitted, strict=True)
        for term in scaled(made, _norm(_of(method, terms)) / _norm(made))
    ]


def permuted(sides: Sides, seed: int, most: int) -> Sides:
    """At most so many texts of both sides, dealt to sides that are to each other as before."""
    items = sides.items
    order = np.random.default_rng(seed).permutation(len(items))[:most].tolist()
    border = round(len(order) * len(sides.undesired) / len(items))
    border = min(max(1, border), len(order) - 1)
    undesired, desired = (
        tuple(items[place] for place in part) for part in (order[:border], order[border:])
    )
    return Sides(undesired, desired)


def _of(method: FixedMethod, terms: Sequence[Term]) -> list[Term]:
    return [term for term in terms if term.module in method.modules]


def _norm(terms: Sequence[Term]) -> float:
    """Frobenius norm of the change, of terms that each have rows of their own."""
    return math.hypot(
        *(float(term.direction.norm()) * float(term.coefficients.norm()) for term in terms)
    )
