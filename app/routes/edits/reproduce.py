"""Make an edit again from the record of it."""

from __future__ import annotations

from fastapi import APIRouter

from app.request.auth import Writer
from app.request.idempotency import CreationDep
from app.routes.edits.views import EditView, edit_view
from app.services import ServicesDep, StoreDep

router = APIRouter(prefix="/v1/edits", tags=["edits"])


@router.post("/{edit_id}/reproduce", status_code=201, summary="Reproduce an edit")
def reproduce_edit(
    edit_id: str,
    services: ServicesDep,
    store: StoreDep,
    who: Writer,
    creation: CreationDep,
) -> EditView:
    """A new edit with the settings, seed and texts of this one, on the same weights. Its report
    says whether the two deltas are equal bit for bit, and otherwise what differs."""
    submitted = store.submission.reproduce(creation.sender(store), edit_id)
    services.live.wake_keeper()
    creation.mark(f"/v1/edits/{submitted.work.id}", replayed=submitted.replayed)
    return edit_view(services, submitted.work)
