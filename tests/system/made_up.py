"""A store in which an edit lies ready, without the minutes that fitting and measuring one takes."""

from __future__ import annotations

from app.services import Store
from models_store.architectures import DOWN
from models_store.catalogue import BaseModelSpec
from models_store.delta import dump_delta
from models_store.objects import open_store
from models_store.settings import Settings
from tests.editor.conftest import Bench, small_edit
from tests.edits import random_term
from workers.editor.inputs import base_of
from workers.editor.task import Outcome, Task
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
