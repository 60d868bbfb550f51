"""What an edit or an export starts from: the base model and the deltas that are on it."""

from __future__ import annotations

from functools import partial

import structlog

from models_store.errors import (
    BaseModelUnavailable,
    Conflict,
    CorruptArtifact,
    InvalidRequest,
    NewerRecord,
    NotFound,
)
from models_store.schemas.behaviors import from_lines
from models_store.schemas.records import EditSettings, Variant
from models_store.work.base_models import BaseModels, ReadyBase
from models_store.work.store import Place, Work
from workers.editor.jobs.task import Task
from workers.evaluation.context.context import Parent
from workers.evaluation.data.splits import split_behavior
from workers.runtime.loading import LoadedModel
from workers.runtime.pinned import load_pinned, published_terms
from workers.surgery.terms import Mixture

_log = structlog.get_logger()


def registered_base(task: Task, id: str | None = None) -> ReadyBase:
    """A base model as the catalogue has it, by default that of the request.

    Raises:
        BaseModelUnavailable: it is no longer there.
        Unavailable: the store stayed away.
    """
    try:
        return task.patiently(lambda: BaseModels(task.store).ready(id or task.request.base_model))
    except (NotFound, InvalidRequest, Conflict) as error:
        raise BaseModelUnavailable(error.message) from error


def base_of(task: Task, *, dtype: str | None = None) -> LoadedModel:
    """The base model of the request, loaded; by default in the dtype of the settings.

    Raises:
        BaseModelUnavailable: it is no longer in the catalogue, its files are missing or broken,
            or they are not the ones that the request was pinned to.
    """
    request = task.request
    source = registered_base(task).spec.source
    return load_pinned(
        request.base_model,
        request.base_fingerprint or "",
        source,
        task.settings,
        dtype=dtype,
        ranks=True,
    )


def mixture_of(task: Task, variant: Variant | None) -> Mixture:
    """The edits of a variant with their strengths; none for the base itself.

    Raises:
        NotFound: a delta is gone from the store.
        CorruptArtifact: it is not the one that was published, or is of other base weights.
        Unavailable: the store stayed away.
    """
    if variant is None:
        return []
    return [
        (published_terms(task.read(ref.path), ref, variant.base_fingerprint), ref.strength)
        for ref in variant.terms
    ]


def readable_edits(task: Task, variant: Variant) -> dict[str, Work]:
    """The edits of a variant, by id, that are there and can be read: what is said of an export is
    only the less for the others.

    Raises:
        Unavailable: the store stayed away.
    """
    found = {}
    for term in variant.terms:
        place = Place("edit", task.request.tenant, term.edit_id)
        try:
            edit = task.patiently(partial(task.store.find, place))
        except (CorruptArtifact, NewerRecord) as error:
            _log.warning("an edit of a variant cannot be read", edit=place.id, error=error.message)
            continue
        if edit is not None:
            found[edit.id] = edit
    return found


def parents_of(task: Task, variant: Variant | None) -> list[Parent]:
    """What the edits of a variant were made for; without those that were deleted since or
    imported, and those of which no prompt may be tested on any more.

    Raises:
        Unavailable: the store stayed away.
    """
    parents = []
    for index, ref in enumerate(variant.terms if variant is not None else ()):
        place = Place("edit", task.request.tenant, ref.edit_id)
        work = task.patiently(partial(task.store.find, place))
        if work is None or work.imported:
            continue
        settings = work.request.settings
        assert isinstance(settings, EditSettings)
        texts = task.patiently(partial(task.store.texts_of, work))
        behavior, _ = from_lines(texts)
        try:
            splits = split_behavior(behavior, settings.seed)
        except InvalidRequest:
            continue
        parents.append(Parent(behavior, splits, settings.seed, index))
    return parents
