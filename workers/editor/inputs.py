"""What an edit or an export starts from: the base model and the deltas that are on it."""

from __future__ import annotations

import hashlib

from models_store.base_ids import BaseModels, ReadyBase
from models_store.delta import load_delta
from models_store.errors import (
    BaseModelUnavailable,
    Conflict,
    CorruptArtifact,
    InvalidRequest,
    NotFound,
)
from models_store.records import DeltaRef, Variant
from workers.editor.task import Task
from workers.runtime.base_models import materialise
from workers.runtime.deltas import from_delta
from workers.runtime.loading import BaseModel, load_base
from workers.surgery.terms import Mixture, Term


def registered_base(task: Task) -> ReadyBase:
    """The base model of the request, as the catalogue has it.

    Raises:
        BaseModelUnavailable: it is no longer there.
    """
    try:
        return BaseModels(task.store).ready(task.request.base_model)
    except (NotFound, InvalidRequest, Conflict) as error:
        raise BaseModelUnavailable(error.message) from error


def base_of(task: Task, *, dtype: str | None = None) -> BaseModel:
    """The base model of the request, loaded; by default in the dtype of the settings.

    Raises:
        BaseModelUnavailable: it is no longer in the catalogue, its files are missing or broken,
            or they are not the ones that the request was pinned to.
    """
    request = task.request
    base = load_base(
        materialise(registered_base(task).spec.source, task.settings.cache),
        device=task.settings.device,
        dtype=dtype or task.settings.dtype,
        threads=task.settings.threads,
    )
    if base.fingerprint != request.base_fingerprint:
        raise BaseModelUnavailable(
            f"the weights of {request.base_model} on this machine ({base.fingerprint}) are not "
            f"the ones that the request was made for ({request.base_fingerprint})"
        )
    return base


def mixture_of(task: Task, variant: Variant | None) -> Mixture:
    """The edits of a variant with their strengths; none for the base itself.

    Raises:
        NotFound: a delta is gone from the store.
        CorruptArtifact: it is not the one that was published, or is of other base weights.
        Unavailable: the store stayed away.
    """
    if variant is None:
        return []
    return [(_terms(task, ref, variant), ref.strength) for ref in variant.terms]


def _terms(task: Task, ref: DeltaRef, variant: Variant) -> list[Term]:
    data = task.read(ref.path)
    if hashlib.sha256(data).hexdigest() != ref.sha256:
        raise CorruptArtifact(f"the delta of {ref.edit_id} is not the one that was published")
    delta = load_delta(data)
    if delta.base_fingerprint != variant.base_fingerprint:
        raise CorruptArtifact(
            f"the delta of {ref.edit_id} was made for weights {delta.base_fingerprint}, not for "
            f"{variant.base_fingerprint}"
        )
    return from_delta(delta)
