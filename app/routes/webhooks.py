"""Webhooks: addresses that receive the events of edits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from app.domain.bodies import RequestBody, View
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
from models_store.errors import InvalidRequest, NotFound

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
    """Types of events to send; by default the final ones."""
    description: Description = ""
    """For people."""


class WebhookPatch(RequestBody):
    """Fields to change; others stay."""

    url: Url | None = None
    """Another address."""
    events: Events | None = None
    """Other types of events."""
    description: Description | None = None
    """For people."""
    enabled: bool | None = None
    """Whether anything is sent."""


class SecretRotation(RequestBody):
    """How long messages are also signed with the old secret."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_MOST_OVERLAP_SECONDS)] = _OVERLAP_SECONDS
    """Seconds in which both secrets sign."""


class WebhookChange(View):
    version: int
    """Number of the version, from 1."""
    type: Change
    """What was changed."""
    at: int
    """Unix seconds."""
    reason: str | None
    """Why it was disabled."""
    key_id: str | None
    """The API key that did it; null without one."""


class WebhookSummary(View):
    """A webhook; its secret is shown once, when it is made."""

    id: str
    """`whk_…`."""
    object: Literal["webhook"] = "webhook"
    """What kind of thing this is: always the same word."""
    url: str
    """Where events are sent."""
    events: tuple[HookEvent, ...]
    """Types of events that are sent."""
    description: str
    """For people."""
    enabled: bool
    """Whether anything is sent."""
    disabled_reason: str | None
    """Why nothing is sent; null: it is enabled, or you disabled it."""
    version: int
    """Number of the version, from 1."""
    created_at: int
    """Unix seconds."""
    updated_at: int
    """Unix seconds of its newest version."""


class WebhookView(WebhookSummary):
    history: list[WebhookChange]
    """The last 100 changes, newest first."""


class WebhookWithSecret(WebhookSummary):
    secret: str | None
    """`whsec_…`: keep it. Null when the request is repeated."""


class DeletedWebhook(View):
    id: str
    """The webhook that was deleted."""
    object: Literal["webhook"] = "webhook"
    """What kind of thing this is: always the same word."""
    deleted: Literal[True] = True
    """Always true."""


class TryView(View):
    at: int
    """Unix seconds."""
    seconds: float
    """How long it took."""
    status_code: int | None
    """Null without a response."""
    error: str | None
    """Why it failed; null if it did not."""
    by_hand: bool
    """Whether a request started it."""


class WebhookDelivery(View):
    """One event to one webhook."""

    id: str
    """The `webhook-id` of the message, the same at every retry."""
    object: Literal["webhook_delivery"] = "webhook_delivery"
    """What kind of thing this is: always the same word."""
    webhook_id: str
    """Where it goes."""
    edit_id: str
    """The edit that it is about."""
    event_id: int
    """Of the event."""
    type: str
    """Of the event."""
    status: DeliveryStatus
    """`pending`: will be retried; `failed`: given up; `skipped`: the webhook was disabled."""
    next_try_at: int | None
    """Unix seconds; null: none is due."""
    tries: list[TryView]
    """Oldest first."""


class WebhookTest(View):
    """Outcome of a test message."""

    object: Literal["webhook_test"] = "webhook_test"
    """What kind of thing this is: always the same word."""
    message_id: str
    """The `webhook-id` of the message."""
    delivered: bool
    """Whether the response was 2xx."""
    status_code: int | None
    """Null without a response."""
    error: str | None
    """Why it failed; null if it did not."""
    seconds: float
    """How long it took."""


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
    """Without their secrets."""
    webhooks = store.webhooks.all(who.tenant)
    shown, has_more = page.cut(page.ordered(webhooks))
    return page_of([WebhookSummary(**_fields(id, webhooks[id])) for id in shown], has_more)


@router.get("/{webhook_id}", summary="Read a webhook and its history")
def read_webhook(webhook_id: str, store: StoreDep, who: Reader) -> WebhookView:
    """Without its secret."""
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
    """Nothing more is sent to it."""
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
        raise NotFound(detail) from None
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
