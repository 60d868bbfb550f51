"""What receipts cover: mixtures of edits whose harm was measured.

A receipt is about an edit at strength 1, together with its parent edits at the strengths that it
was fitted on. It covers this mixture, smaller multiples of it, and other strengths of the edit
alone, as far as the policy's `serving.strengths` go. Strengths of deltas with the same bytes are
added up, so that an edit and its reproduction are one edit of twice the strength. An edit that was
imported has no receipt. It gets one when it is measured (`POST /v1/receipts`, `scalpel measure`),
under the name of the edit that this makes; else it is covered only by that of an edit which was
fitted on top of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from models_store.operator.policy import UNSAFE, Serving
from models_store.schemas.records import DeltaRef

_Mixture = Mapping[str, float]
"""Strengths by the SHA-256 of a delta, none of them 0."""


def not_covered(
    terms: Sequence[DeltaRef],
    parents: Mapping[str, Sequence[DeltaRef]],
    serving: Serving,
    unmeasured: Collection[str] = (),
) -> str | None:
    """Why no receipt covers a mixture as the policy wants it; None where one does.

    Args:
        terms: of the mixture.
        parents: what each of its edits, by id, was fitted on top of.
        unmeasured: ids of those that have no receipt.
    """
    whole = _mixture(terms)
    if not whole:
        return None
    receipts = {term.edit_id: _mixture([*parents[term.edit_id], _at_one(term)]) for term in terms}
    if any(
        _is_covered(whole, receipts[term.edit_id], term.sha256, serving.strengths)
        for term in terms
        if term.edit_id not in unmeasured
    ):
        return None
    for term in terms:
        if term.edit_id in unmeasured and term.sha256 in whole:
            return (
                f"serving: {term.edit_id} has no receipt, so its harm was not measured, and it "
                f"needs the scope {UNSAFE}; POST /v1/receipts (`scalpel measure`) makes an edit of "
                "it that has one"
            )
        reason = _outside(term, whole, receipts[term.edit_id], parents[term.edit_id], serving)
        if reason is not None:
            return f"{reason}, without the scope {UNSAFE}"
    if serving.compositions == "any":
        return None
    together = " and ".join(dict.fromkeys(term.edit_id for term in terms))
    return (
        f"serving.compositions: no receipt covers {together} together, and what none covers "
        f"needs the scope {UNSAFE}; an edit that is fitted on top of the others has a receipt for "
        "all of them"
    )


def _mixture(terms: Sequence[DeltaRef]) -> _Mixture:
    summed: dict[str, float] = {}
    for term in terms:
        summed[term.sha256] = summed.get(term.sha256, 0.0) + term.strength
    return {sha256: strength for sha256, strength in summed.items() if not _equal(strength, 0)}


def _at_one(term: DeltaRef) -> DeltaRef:
    return term.model_copy(update={"strength": 1.0})


def _is_covered(
    whole: _Mixture, receipt: _Mixture, itself: str, strengths: tuple[float, float]
) -> bool:
    """Whether a mixture is a multiple of that of a receipt, or it at another strength of the edit
    `itself`."""
    if itself not in whole or itself not in receipt or whole.keys() != receipt.keys():
        return False
    factor = whole[itself] / receipt[itself]
    rest = receipt.keys() - {itself}
    low, high = strengths
    return low <= factor <= high and (
        all(_equal(whole[sha256], receipt[sha256]) for sha256 in rest)
        or all(_equal(whole[sha256], factor * receipt[sha256]) for sha256 in rest)
    )


def _outside(
    term: DeltaRef,
    whole: _Mixture,
    receipt: _Mixture,
    parents: Sequence[DeltaRef],
    serving: Serving,
) -> str | None:
    """What is wrong with one edit of a mixture, whatever the others are."""
    low, high = serving.strengths
    strength = whole.get(term.sha256, 0.0)
    if not low <= strength <= high:
        added = "" if _equal(strength, term.strength) else ", the sum of all its terms"
        return (
            f"serving.strengths: {term.edit_id} may be used from {low:g} to {high:g}, not at "
            f"{strength:g}{added}"
        )
    for parent in parents:
        there, wanted = whole.get(parent.sha256, 0.0), receipt.get(parent.sha256, 0.0)
        if strength and not (_equal(there, wanted) or _equal(there, strength * wanted)):
            return (
                f"serving: {term.edit_id} may be used with {parent.edit_id} at {wanted:g}, as it "
                f"was measured, not at {there:g}"
            )
    return None


def _equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
