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
    known = task.patiently(lambda: BaseModels(task.store).all())
    others = [one for one in known if _may_read(one, task, base)]
    if not others:
        return FluencyReader(base, task.request.base_model)
    chosen = min(others, key=lambda one: (_parameters(one), one.id))
    return FluencyReader(base, task.request.base_model, _loadable(task, chosen))


def _may_read(one: RegisteredBase, task: Task, base: LoadedModel) -> bool:
    return (
        one.facts is not None
        and one.id != task.request.base_model
        and one.facts.fingerprint != base.fingerprint
        and one.spec.pool == task.request.pool
        and one.facts.parameters <= LARGEST * base.model.num_parameters()
    )


def _parameters(one: RegisteredBase) -> int:
    assert one.facts is not None
    return one.facts.parameters


def _loadable(task: Task, one: RegisteredBase) -> OtherModel:
    assert one.facts is not None
    fingerprint = one.facts.fingerprint
    return OtherModel(
        one.id, lambda: load_pinned(one.id, fingerprint, one.spec.source, task.settings)
    )
