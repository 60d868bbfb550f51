"""What variants are measured by, what the policy's rules say of them, and how large they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import JsonValue

from app.domain.behaviors.library import ResolvedBehavior
from app.domain.variants.names import delta_artifact
from models_store.errors import InvalidRequest
from models_store.operator.policy import IMPORTED, IN_PLACE, direction_of
from models_store.presets import inverse_of
from models_store.schemas.behaviors import BehaviorRef, from_lines
from models_store.schemas.records import EditSettings, Variant
from models_store.work.base_models import BaseFacts
from models_store.work.store import Place, Work, WorkStore

_WIDTHS = 23
"""Rows and columns of the seven matrices of a layer, as multiples of its width: four of attention,
and three between it and about four times as many."""


def behavior_of(work: WorkStore, edit: Work) -> ResolvedBehavior:
    """What an edit was made for, with its texts.

    Raises:
        InvalidRequest: it was imported.
    """
    if edit.request.behavior is None:
        raise InvalidRequest.at(
            "/behavior", f"{edit.id} was imported: say by which behavior it is measured"
        )
    behavior, _ = from_lines(work.texts_of(edit))
    return ResolvedBehavior(behavior, edit.request.behavior)


def seed_of(edits: Sequence[Work], ref: BehaviorRef) -> int:
    """The seed of the last of the edits that was made for a behaviour; 0 if none was."""
    for edit in reversed(edits):
        settings, behavior = edit.request.settings, edit.request.behavior
        assert isinstance(settings, EditSettings)
        if behavior is not None and behavior.sha256 == ref.sha256:
            return settings.seed
    return 0


def directions(
    work: WorkStore, tenant: str, variant: Variant, factor: float = 1.0
) -> Iterator[str]:
    """What the policy's rules call the edits of a variant: of one at a negative strength its
    opposite, of one that measures others those; of one that is gone texts in place."""
    for term in variant.terms:
        edit, strength = work.find(Place("edit", tenant, term.edit_id)), factor * term.strength
        settings = None if edit is None else edit.request.settings
        if edit is None or not isinstance(settings, EditSettings):
            yield IN_PLACE
        elif settings.measures is not None:
            yield from directions(work, tenant, settings.measures, strength)
        elif settings.source is not None:
            yield IMPORTED
        else:
            named = direction_of(body_behavior(edit))
            yield named if strength > 0 else inverse_of(named) or IN_PLACE


def body_behavior(edit: Work) -> JsonValue:
    """The `behavior` of the body that made an edit."""
    body = edit.request.body
    return body.get("behavior") if isinstance(body, dict) else None


def delta_bytes(edits: Sequence[Work], variant: Variant) -> int:
    """Size of the deltas of a variant.

    Args:
        edits: of its terms, in their order.
    """
    terms = zip(edits, variant.terms, strict=True)
    return sum(delta_artifact(edit, term.point).bytes for edit, term in terms)


def adapter_bytes(facts: BaseFacts, rank: int) -> int:
    """Size of a delta of a rank in every matrix of a model, about."""
    return 4 * rank * facts.layers * _WIDTHS * facts.hidden_size
