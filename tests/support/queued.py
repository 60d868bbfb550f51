"""A long queue, written as files: quicker than submitting one edit after the other."""

from __future__ import annotations

import time
from pathlib import Path

from models_store import ids
from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.records import EditSettings, Marker, WorkRequest
from models_store.work.store import Place
from workers.surgery.methods.bias import Bias


def queue_many(root: Path, tenant: str, count: int) -> list[Place]:
    """Put so many queued edits into the local store at `root`."""
    marker = Marker(kind="edit").model_dump_json()
    request = WorkRequest(
        id="",
        kind="edit",
        tenant=tenant,
        deadline=int(time.time() + 3600),
        body={},
        settings=EditSettings(method=Bias(), metadata={"team": "load"}),
        base_model="pico",
        behavior=BehaviorRef(
            id=None, name="tone", version=None, sha256="0" * 64, counts={"undesired": 20}
        ),
    )
    (root / "open" / tenant).mkdir(parents=True, exist_ok=True)
    places = [Place("edit", tenant, ids.new_id("edit")) for _ in range(count)]
    for place in places:
        (root / place.marker).write_text(marker)
        (root / place.folder).mkdir(parents=True)
        own = request.model_copy(update={"id": place.id})
        (root / place.folder / "request.json").write_text(own.model_dump_json())
    return places
