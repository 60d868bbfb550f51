"""A store in which an edit lies ready, without the minutes that fitting and measuring one takes."""

from __future__ import annotations

from app.services import Store
from models_store.objects.store import open_store
from models_store.schemas.catalogue import BaseModelSpec
from models_store.settings import Settings
from models_store.weights.architectures import DOWN
from models_store.weights.delta import dump_delta
from tests.support.edits import random_term
from tests.workers.conftest import Bench, small_edit
from workers.editor.jobs.inputs import base_of
from workers.editor.jobs.task import Outcome, Task
from workers.runtime.deltas import to_delta


def fill_store(settings: Settings, spec: BaseModelSpec, suffix: str) -> str:
    """Register a base model and put a random edit of it, large enough to be seen, into the store.

    Nothing else may use the store yet. Returns the edit's id.
    """
    bench = Bench(Store.over(open_store(settings), settings), settings)
    bench.register_spec(spec)
    place = bench.submit_edit(**small_edit(base_model=spec.id, suffix=suffix))
    bench.do(place, _random)
    return place.id


def _random(task: Task) -> Outcome:
    base = base_of(task)
    terms = [
        random_term(base, key, seed=key.layer, rows=base.hidden_size)
        for key in base.architecture.matrices(DOWN)
    ]
    delta = dump_delta(to_delta(terms, base.fingerprint, "bias"))
    return Outcome(
        (task.save("delta", "delta.safetensors", delta),),
        {"points": [{"index": 0, "selected": True}]},
    )
