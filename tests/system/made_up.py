"""A store in which an edit lies ready, without the minutes that fitting and measuring one takes."""

from __future__ import annotations

from app.services import Store
from models_store.objects.store import open_store
from models_store.schemas.catalogue import BaseModelSpec
from models_store.settings import Settings
from tests.workers.conftest import Bench, small_edit


def fill_store(settings: Settings, spec: BaseModelSpec, suffix: str) -> str:
    """Register a base model and put a random edit of it, large enough to be seen, into the store.

    Nothing else may use the store yet. Returns the edit's id.
    """
    bench = Bench(Store.over(open_store(settings), settings), settings)
    bench.register_spec(spec)
    return bench.make_up(**small_edit(base_model=spec.id, suffix=suffix))
