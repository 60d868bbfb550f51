"""What an editor does while it has no work: prepare the base models of its pool."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import structlog

from models_store.errors import EditFailed, InvalidRequest, ScalpelError, Unavailable
from models_store.objects.store import ObjectStore, open_store
from models_store.operator.policy import Margins, read_policy
from models_store.presets import preset_names
from models_store.settings import Settings
from models_store.work.base_models import BaseModels, RegisteredBase
from models_store.work.store import SHARED_TENANT, WorkStore
from workers.making.cache import Cache
from workers.making.preparing import preparation
from workers.runtime.base_models import is_here
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.pinned import load_pinned

_log = structlog.get_logger()


def run(settings: Settings, prepared: Collection[str]) -> Iterator[str]:
    """Prepare base models, the latest first; the ids of the registrations of those that are done.

    Args:
        prepared: registrations of base models that are not looked at.
    """
    try:
        objects = open_store(settings)
        margins = read_policy(settings).margins
        for base in _due(objects, settings, prepared):
            try:
                _prepare(base, objects, margins, settings)
            except Unavailable:
                raise
            except ScalpelError as error:
                _log.warning("cannot prepare a base model", id=base.id, error=error.message)
            yield base.work.id
    except ScalpelError as error:
        _log.warning("base models are prepared later", error=error.message)


def _due(
    objects: ObjectStore, settings: Settings, prepared: Collection[str]
) -> list[RegisteredBase]:
    """Those that are ready in the pool, and whose files are on this machine."""
    ready = [
        base
        for base in BaseModels(WorkStore(objects)).all()
        if base.facts is not None
        and base.spec.pool == settings.pool
        and base.work.id not in prepared
        and is_here(base.spec.source, settings.cache)
    ]
    return sorted(ready, key=lambda base: base.work.id, reverse=True)


def _prepare(
    base: RegisteredBase, objects: ObjectStore, margins: Margins, settings: Settings
) -> None:
    assert base.facts is not None
    source = base.spec.source
    loaded = load_pinned(base.id, base.facts.fingerprint, source, settings, ranks=True)
    cache = Cache(objects, SHARED_TENANT, EditedModel(loaded))
    for unit in preparation(cache, margins, preset_names()):
        try:
            unit.make()
        except (InvalidRequest, EditFailed) as error:
            _log.info("a base model lacks something", id=base.id, what=unit.name, why=error.message)
    _log.info("prepared a base model", id=base.id, made=len(cache.made), there=len(cache.reused))
