"""Many edits, written as files: quicker than submitting one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from models_store import ids
from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.records import EditSettings, Marker, Result, WorkRequest
from models_store.work.store import Place
from workers.surgery.methods.bias import Bias


def queue_many(root: Path, tenant: str, count: int) -> list[Place]:
    """Put so many queued edits into the local store at `root`."""
    marker = Marker(kind="edit").model_dump_json()
    (root / "open" / tenant).mkdir(parents=True, exist_ok=True)
    places = _write_requests(root, tenant, (ids.new_id("edit") for _ in range(count)))
    for place in places:
        (root / place.marker).write_text(marker)
    return places


def end_many(root: Path, tenant: str, edit_ids: Iterable[str]) -> list[Place]:
    """Put edits that were canceled into the local store at `root`."""
    result = Result(status="canceled", attempt=0).model_dump_json()
    places = _write_requests(root, tenant, edit_ids)
    for place in places:
        (root / place.folder / "result.json").write_text(result)
    return places


def _write_requests(root: Path, tenant: str, edit_ids: Iterable[str]) -> list[Place]:
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
    places = [Place("edit", tenant, id) for id in edit_ids]
    for place in places:
        (root / place.folder).mkdir(parents=True)
        own = request.model_copy(update={"id": place.id})
        (root / place.folder / "request.json").write_text(own.model_dump_json())
    return places
