"""Receipts of what is there already: single edits at any strength, and several together."""

from __future__ import annotations

from fastapi import APIRouter

from app.domain.edits.requests import ReceiptBody
from app.request.auth import Writer
from app.request.idempotency import CreationDep
from app.request.strict_input.json_body import JsonRoute
from app.routes.edits.views import EditView, edit_view
from app.services import ServicesDep, StoreDep

router = APIRouter(prefix="/v1/receipts", tags=["edits"], route_class=JsonRoute)


@router.post("", status_code=201, summary="Measure a variant")
def create_receipt(
    body: ReceiptBody,
    services: ServicesDep,
    store: StoreDep,
    who: Writer,
    creation: CreationDep,
) -> EditView:
    """The receipt of a variant, measured as that of an edit is: effect, controls, damage and harm;
    of several edits also what each does alone and with the others. It is an edit itself, whose
    delta is all of the variant: `GET /v1/edits/{id}/report` has the receipt, and its own name
    serves what was measured."""
    submitted = store.submission.measurement(creation.sender(store), body, creation.sent)
    services.live.wake_keeper()
    creation.mark(f"/v1/edits/{submitted.work.id}", replayed=submitted.replayed)
    return edit_view(services, submitted.work)
