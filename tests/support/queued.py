"""Many edits, written as files: quicker than submitting one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from models_store import ids
from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.records import EditSettings, Marker, Result, Summary, WorkRequest
from models_store.work.store import Place
from workers.surgery.methods.bias import Bias

_SETTINGS = EditSettings(method=Bias(), metadata={"team": "load"})
_BEHAVIOR = BehaviorRef(
    id=None, name="tone", version=None, sha256="0" * 64, counts={"undesired": 20}
)


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
    result = Result(status="canceled", attempt=0)
    places = _write_requests(root, tenant, edit_ids)
    for place in places:
        names = ("request.json", "result.json")
        (root / place.folder / "result.json").write_text(result.model_dump_json())
        records = {name: (root / place.folder / name).read_text() for name in names}
        (root / place.summary).write_text(Summary(records=records).model_dump_json())
    return places


def _write_requests(root: Path, tenant: str, edit_ids: Iterable[str]) -> list[Place]:
    places = [Place("edit", tenant, id) for id in edit_ids]
    for place in places:
        (root / place.folder).mkdir(parents=True)
        (root / place.folder / "request.json").write_text(_request(place).model_dump_json())
    return places


def _request(place: Place) -> WorkRequest:
    return WorkRequest(
        id=place.id,
        kind="edit",
        tenant=place.tenant,
        deadline=int(time.time() + 3600),
        body={},
        settings=_SETTINGS,
        base_model="pico",
        behavior=_BEHAVIOR,
    )
