"""Make an edit again from the record of it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.request.auth import Writer
from app.request.idempotency import KeyHeader, mark_created, sender
from app.routes.edits.views import EditView, edit_view
from app.services import ServicesDep, StoreDep

router = APIRouter(prefix="/v1/edits", tags=["edits"])


@router.post("/{edit_id}/reproduce", status_code=201, summary="Reproduce an edit")
def reproduce_edit(
    edit_id: str,
    request: Request,
    response: Response,
    services: ServicesDep,
    store: StoreDep,
    who: Writer,
    idempotency_key: KeyHeader = None,
) -> EditView:
    """A new edit with the settings, seed and texts of this one, on the same weights. Its report
    says whether the two deltas are equal bit for bit, and otherwise what differs."""
    request.state.sent = None  # there is no body: the path says all
    submitted = store.submission.reproduce(sender(request, store, who, idempotency_key), edit_id)
    services.live.wake_keeper()
    mark_created(response, f"/v1/edits/{submitted.work.id}", replayed=submitted.replayed)
    return edit_view(services, submitted.work)
