"""Which base model of the catalogue reads the text that an edit generates."""

from __future__ import annotations

from models_store.work.base_models import BaseModels, RegisteredBase
from workers.editor.jobs.task import Task
from workers.evaluation.damage.reader import FluencyReader, OtherModel
from workers.runtime.loading import LoadedModel
from workers.runtime.pinned import load_pinned

LARGEST = 3.0
"""A reader has at most so many times the parameters of the base, which the editor has room for."""


def reader_for(task: Task, base: LoadedModel) -> FluencyReader:
    """The smallest other base model that is ready in the pool of the edit, else the base itself.

    Raises:
        Unavailable: the store stayed away.
    """
    registered = task.patiently(lambda: BaseModels(task.store).all())
    others = [other for other in registered if _may_read(other, task, base)]
    if not others:
        return FluencyReader(base, task.request.base_model)
    chosen = min(others, key=lambda other: (_parameters(other), other.id))
    return FluencyReader(base, task.request.base_model, _loadable(task, chosen))


def _may_read(other: RegisteredBase, task: Task, base: LoadedModel) -> bool:
    return (
        other.facts is not None
        and other.id != task.request.base_model
        and other.facts.fingerprint != base.fingerprint
        and other.spec.pool == task.request.pool
        and other.facts.parameters <= LARGEST * base.parameters
    )


def _parameters(other: RegisteredBase) -> int:
    assert other.facts is not None
    return other.facts.parameters


def _loadable(task: Task, other: RegisteredBase) -> OtherModel:
    assert other.facts is not None
    fingerprint = other.facts.fingerprint
    return OtherModel(
        other.id,
        lambda: load_pinned(other.id, fingerprint, other.spec.source, task.settings, ranks=True),
    )
