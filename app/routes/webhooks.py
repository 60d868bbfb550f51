"""Webhooks: addresses that receive the events of edits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from app.domain.bodies import RequestBody
from app.domain.webhooks.deliveries import Delivery, DeliveryStatus, Try
from app.domain.webhooks.webhooks import (
    HOOK_EVENTS,
    MAX_URL_LENGTH,
    Change,
    HookEvent,
    WebhookVersion,
)
from app.request.auth import Reader, Writer
from app.request.idempotency import CreationDep
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.services import ServicesDep, StoreDep
from models_store.errors import InvalidRequest, Malformed, NotFound

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=JsonRoute)

_OVERLAP_SECONDS = 24 * 3600
_MOST_OVERLAP_SECONDS = 7 * 24 * 3600
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH)]
Events = Annotated[tuple[HookEvent, ...], Field(min_length=1, max_length=len(HOOK_EVENTS))]
Description = Annotated[str, Field(max_length=200)]


class WebhookBody(RequestBody):
    """An address, and the events to send there."""

    url: Url
    """`https://…`, at a public address."""
    events: Events = HOOK_EVENTS
    description: Description = ""


class WebhookPatch(RequestBody):
    """Fields to change; others stay."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = None


class SecretRotation(RequestBody):
    """How long messages are also signed with the old secret."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_MOST_OVERLAP_SECONDS)] = _OVERLAP_SECONDS


class WebhookChange(BaseModel):
    version: int
    type: Change
    at: int
    reason: str | None
    """Why it was disabled."""
    key_id: str | None


class WebhookSummary(BaseModel):
    """A webhook; its secret is shown once, when it is made."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["webhook"] = "webhook"
    url: str
    events: tuple[HookEvent, ...]
    description: str
    enabled: bool
    disabled_reason: str | None
    version: int
    created_at: int
    updated_at: int


class WebhookView(WebhookSummary):
    history: list[WebhookChange]
    """The last 100 changes, newest first."""


class WebhookWithSecret(WebhookSummary):
    secret: str | None
    """`whsec_…`: keep it. Null when the request is repeated."""


class DeletedWebhook(BaseModel):
    id: str
    object: Literal["webhook"] = "webhook"
    deleted: Literal[True] = True


class TryView(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    at: int
    seconds: float
    status_code: int | None
    """Null without a response."""
    error: str | None
    by_hand: bool


class WebhookDelivery(BaseModel):
    """One event to one webhook."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """The `webhook-id` of the message, the same at every retry."""
    object: Literal["webhook_delivery"] = "webhook_delivery"
    webhook_id: str
    edit_id: str
    event_id: int
    type: str
    status: DeliveryStatus
    """`pending`: will be retried; `failed`: given up; `skipped`: the webhook was disabled."""
    next_try_at: int | None
    tries: list[TryView]


class WebhookTest(BaseModel):
    """Outcome of a test message."""

    object: Literal["webhook_test"] = "webhook_test"
    message_id: str
    delivered: bool
    status_code: int | None
    error: str | None
    seconds: float


@router.post("", status_code=201, summary="Make a webhook")
def create_webhook(
    body: WebhookBody,
    store: StoreDep,
    who: Writer,
    creation: CreationDep,
) -> WebhookWithSecret:
    """It receives the events of edits made from now on."""
    webhook, replayed = store.webhooks.add(
        creation.sender(store),
        body.url,
        events=tuple(dict.fromkeys(body.events)),
        description=body.description,
    )
    creation.mark(f"/v1/webhooks/{webhook.id}", replayed=replayed)
    return _with_secret(webhook.id, webhook.version, shown=not replayed)


@router.get("", summary="List webhooks")
def list_webhooks(store: StoreDep, who: Reader, page: PageDep) -> Page[WebhookSummary]:
    webhooks = store.webhooks.all(who.tenant)
    shown, has_more = page.cut(page.ordered(webhooks))
    return page_of([WebhookSummary(**_fields(id, webhooks[id])) for id in shown], has_more)


@router.get("/{webhook_id}", summary="Read a webhook and its history")
def read_webhook(webhook_id: str, store: StoreDep, who: Reader) -> WebhookView:
    history = store.webhooks.history(who.tenant, webhook_id)
    changes = [
        WebhookChange(
            version=version.number,
            type=version.change,
            at=version.created_at,
            reason=version.disabled_reason if version.change == "webhook.disabled" else None,
            key_id=version.key_id,
        )
        for version in history
    ]
    return WebhookView(**_fields(webhook_id, history[-1]), history=changes[::-1])


@router.patch("/{webhook_id}", summary="Change a webhook")
def change_webhook(
    webhook_id: str, body: WebhookPatch, store: StoreDep, who: Writer
) -> WebhookView:
    """`"enabled": true` enables a disabled webhook; it receives events from then on."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    nulls = [name for name, value in changes.items() if value is None]
    if nulls:
        raise InvalidRequest.at(f"/{nulls[0]}", f"{nulls[0]}: leave it out where it is to stay")
    if changes:
        store.webhooks.update(who.tenant, webhook_id, who.actor, **changes)
    return read_webhook(webhook_id, store, who)


@router.delete("/{webhook_id}", summary="Delete a webhook")
def delete_webhook(webhook_id: str, store: StoreDep, who: Writer) -> DeletedWebhook:
    store.webhooks.delete(who.tenant, webhook_id, who.actor)
    return DeletedWebhook(id=webhook_id)


@router.post("/{webhook_id}/rotate", summary="Rotate a webhook's secret")
def rotate_secret(
    webhook_id: str, body: SecretRotation, store: StoreDep, who: Writer
) -> WebhookWithSecret:
    """Messages are signed with both secrets while they overlap."""
    version = store.webhooks.rotate(who.tenant, webhook_id, body.overlap_seconds, who.actor)
    return _with_secret(webhook_id, version, shown=True)


@router.post("/{webhook_id}/test", summary="Send a test message")
async def test_webhook(webhook_id: str, services: ServicesDep, who: Writer) -> WebhookTest:
    """Sent once, at once, also to a disabled webhook; not listed among its deliveries."""
    by_hand = services.send_by_hand(await run_in_threadpool(lambda: services.store))
    id, sent = await by_hand.test(who.tenant, webhook_id)
    return WebhookTest(
        message_id=id,
        delivered=sent.delivered,
        status_code=sent.status_code,
        error=sent.error,
        seconds=round(sent.seconds, 3),
    )


@router.get("/{webhook_id}/deliveries", summary="List deliveries to a webhook")
def list_deliveries(
    webhook_id: str,
    store: StoreDep,
    who: Reader,
    page: PageDep,
    status: Annotated[DeliveryStatus | None, Query()] = None,
) -> Page[WebhookDelivery]:
    """Deliveries of the last 30 days' edits that were tried, ordered by edit and event."""
    store.webhooks.get(who.tenant, webhook_id)
    try:
        deliveries = store.deliveries.walk(
            who.tenant, webhook_id, after=page.after, descending=page.descending
        )
        wanted = (
            delivery for delivery in deliveries if status is None or delivery.status == status
        )
        shown, has_more = page.cut(wanted)
    except NotFound:
        detail = f"after: {page.after!r} is no id of a delivery to {webhook_id}"
        raise Malformed(detail, code="bad_request") from None
    return page_of([_delivery(delivery) for delivery in shown], has_more)


@router.post("/{webhook_id}/deliveries/{delivery_id}/retry", summary="Retry a delivery")
async def retry_delivery(
    webhook_id: str, delivery_id: str, services: ServicesDep, who: Writer
) -> WebhookDelivery:
    """At once, whatever its status; a failure changes nothing."""
    by_hand = services.send_by_hand(await run_in_threadpool(lambda: services.store))
    return _delivery(await by_hand.again(who.tenant, webhook_id, delivery_id))


def _fields(id: str, version: WebhookVersion) -> dict[str, Any]:
    return {
        "id": id,
        "url": version.url,
        "events": version.events,
        "description": version.description,
        "enabled": version.enabled,
        "disabled_reason": version.disabled_reason,
        "version": version.number,
        "created_at": version.made_at,
        "updated_at": version.created_at,
    }


def _with_secret(id: str, version: WebhookVersion, *, shown: bool) -> WebhookWithSecret:
    secret = version.secrets[0].value if shown else None
    return WebhookWithSecret(**_fields(id, version), secret=secret)


def _delivery(delivery: Delivery) -> WebhookDelivery:
    return WebhookDelivery(
        id=delivery.id,
        webhook_id=delivery.webhook_id,
        edit_id=delivery.edit_id,
        event_id=delivery.event_id,
        type=delivery.tries[0].event_type,
        status=delivery.status,
        next_try_at=int(delivery.next_try_at) if delivery.next_try_at is not None else None,
        tries=[_try(entry) for entry in delivery.tries if entry.outcome != "skipped"],
    )


def _try(entry: Try) -> TryView:
    return TryView(
        at=int(entry.at),
        seconds=entry.seconds,
        status_code=entry.status_code,
        error=entry.error,
        by_hand=entry.by_hand,
    )
