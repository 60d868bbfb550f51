"""Records for tests of the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from models_store import ids
from models_store.schemas.behaviors import Behavior, reference
from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.schemas.records import (
    Artifact,
    AttemptEnd,
    EditSettings,
    Outcome,
    Variant,
    WorkRequest,
)
from models_store.work.base_models import BaseModels, registration
from models_store.work.store import SHARED_TENANT, Place, WorkStore
from workers.surgery.methods.bias import Bias

FINGERPRINT = "sha256:" + "ab" * 32
FACTS: dict[str, Any] = {
    "fingerprint": FINGERPRINT,
    "architecture": "llama",
    "layers": 2,
    "hidden_size": 32,
    "parameters": 20_000,
    "dtype": "float32",
    "chat_template": True,
    "context_length": 128,
    "bytes": 80_000,
}


def behavior(count: int = 20) -> Behavior:
    return Behavior.model_validate(
        {
            "name": "tone",
            "undesired": [f"bad {number}" for number in range(count)],
            "desired": [f"good {number}" for number in range(count)],
        }
    )


def edit_request(
    id: str | None = None,
    *,
    tenant: str = "default",
    base_model: str = "pico",
    suffix: str | None = None,
    on_top_of: Variant | None = None,
) -> WorkRequest:
    return WorkRequest(
        id=id or ids.new_id("edit"),
        kind="edit",
        tenant=tenant,
        deadline=int(time.time()) + 3600,
        body={},
        settings=EditSettings(method=Bias(), suffix=suffix, on_top_of=on_top_of),
        base_model=base_model,
        base_fingerprint=FINGERPRINT,
        behavior=reference(behavior()),
    )


def spec(id: str = "pico", **changes: Any) -> BaseModelSpec:
    return BaseModelSpec(id=id, source=FolderSource(path=Path("/weights") / id), **changes)


def end(
    attempt: int, outcome: Outcome = "succeeded", *names: str, data: dict[str, Any] | None = None
) -> AttemptEnd:
    """The end of an attempt, with artifacts of the given names."""
    artifacts = tuple(
        Artifact(name=name, path=f"somewhere/{name}", sha256=f"sha256:{name}", bytes=1)
        for name in names
    )
    return AttemptEnd(
        attempt=attempt, outcome=outcome, artifacts=artifacts, outcome_data=data or {}
    )


def place_of(request: WorkRequest) -> Place:
    return Place(request.kind, request.tenant, request.id)


def finished_edit(
    work: WorkStore, *names: str, outcome: Outcome = "succeeded", **options: Any
) -> str:
    """The id of an edit whose first attempt ended so."""
    request = edit_request(**options)
    work.submit(request)
    place = place_of(request)
    assert work.claim(place, "w") is not None
    assert work.publish(place, end(1, outcome, *(names or ("delta",))))
    return request.id


def register(work: WorkStore, bases: BaseModels, id: str = "pico", **facts: Any) -> None:
    """A base model whose registration has succeeded."""
    made = bases.register(registration(spec(id), 3600))
    place = Place("base_model", SHARED_TENANT, made.id)
    assert work.claim(place, "w") is not None
    assert work.publish(place, end(1, data={**FACTS, **facts}))
