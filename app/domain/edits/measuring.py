"""What variants are measured by, what the policy's rules call them, and how large they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydantic import JsonValue

from app.domain.behaviors.library import ResolvedBehavior
from models_store.errors import InvalidRequest
from models_store.operator.policy import IMPORTED, IN_PLACE, direction_of
from models_store.presets import inverse_of
from models_store.schemas.behaviors import BehaviorRef, from_lines
from models_store.schemas.records import EditSettings, Variant
from models_store.work.store import Place, Work, WorkStore


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
    work: WorkStore, edits: Iterable[Work | None], variant: Variant, factor: float = 1.0
) -> Iterator[str]:
    """What the policy's rules call the edits of a variant: of one at a negative strength its
    opposite, of one that measures others those; of one that is gone texts in place.

    Args:
        edits: of its terms, in their order; None: it is gone.
    """
    for edit, term in zip(edits, variant.terms, strict=True):
        strength = factor * term.strength
        settings = None if edit is None else edit.request.settings
        if edit is None or not isinstance(settings, EditSettings):
            yield IN_PLACE
        elif (measured := settings.measures) is not None:
            inner = edits_of(work, edit.request.tenant, measured)
            yield from directions(work, inner, measured, strength)
        elif edit.imported:
            yield IMPORTED
        else:
            named = direction_of(body_behavior(edit))
            yield named if strength > 0 else inverse_of(named) or IN_PLACE


def edits_of(work: WorkStore, tenant: str, variant: Variant) -> Iterator[Work | None]:
    """The edits of a variant's terms; None of one that was deleted."""
    return (work.find(Place("edit", tenant, term.edit_id)) for term in variant.terms)


def body_behavior(edit: Work) -> JsonValue:
    """The `behavior` of the body that made an edit."""
    body = edit.request.body
    return body.get("behavior") if isinstance(body, dict) else None


def delta_bytes(work: WorkStore, variant: Variant) -> int:
    """Size of the deltas of a variant, as they are stored."""
    found = (work.objects.info(term.path) for term in variant.terms)
    return sum(info.size for info in found if info is not None)
