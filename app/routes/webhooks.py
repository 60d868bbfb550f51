"""Webhooks: addresses of one's own that are told of the events of edits."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from app.domain.edits.submission import claim_id
from app.domain.events.events import Event, durable_events
from app.domain.webhooks.deliveries import Delivery, DeliveryStatus, Try, message_id
from app.domain.webhooks.webhooks import (
    HOOK_EVENTS,
    MAX_URL_LENGTH,
    Change,
    HookEvent,
    WebhookVersion,
)
from app.loops.courier import Sent, body_of, send
from app.loops.courier.decisions import tried
from app.request.audit import logged
from app.request.auth import Reader, Writer
from app.request.idempotency import KeyHeader, mark_created, sender
from app.request.pagination import Page, PageDep, page_of
from app.request.strict_input.json_body import JsonRoute
from app.services import Services, ServicesDep, StoreDep
from models_store import ids
from models_store.errors import InvalidRequest, Malformed, NotFound

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=JsonRoute)

_OVERLAP_SECONDS = 24 * 3600
_MOST_OVERLAP_SECONDS = 7 * 24 * 3600
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH)]
Events = Annotated[tuple[HookEvent, ...], Field(min_length=1, max_length=len(HOOK_EVENTS))]
Description = Annotated[str, Field(max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class WebhookBody(_Body):
    """An address, and the events to send there."""

    url: Url
    """`https://…`, at a public address."""
    events: Events = HOOK_EVENTS
    description: Description = ""


class WebhookPatch(_Body):
    """Fields to change; others stay."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = None


class SecretRotation(_Body):
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
    """Newest first."""


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
    request: Request,
    response: Response,
    store: StoreDep,
    who: Writer,
    idempotency_key: KeyHeader = None,
) -> WebhookWithSecret:
    """It receives the events of edits made from now on."""
    who_sends = sender(request, store, who, idempotency_key)
    earlier = who_sends.key.find() if who_sends.key is not None else None
    id = earlier.id if earlier is not None else claim_id(who_sends.key, "webhook")
    known = store.webhooks.newest(who.tenant, id)
    if known is not None and known.deleted:
        raise NotFound(f"no such webhook: {id}")
    version = known or store.webhooks.add(
        who.tenant,
        id,
        body.url,
        events=tuple(dict.fromkeys(body.events)),
        description=body.description,
        key_id=who.key_id,
        first=partial(logged, store, who, "webhook.created", id=id),
    )
    mark_created(response, f"/v1/webhooks/{id}", replayed=known is not None)
    return _with_secret(id, version, shown=known is None)


@router.get("", summary="List webhooks")
def list_webhooks(store: StoreDep, who: Reader, page: PageDep) -> Page[WebhookSummary]:
    found = store.webhooks.all(who.tenant)
    shown, has_more = page.cut(page.ordered(found))
    return page_of([WebhookSummary(**_fields(id, found[id])) for id in shown], has_more)


@router.get("/{webhook_id}", summary="Read a webhook and its history")
def read_webhook(webhook_id: str, store: StoreDep, who: Reader) -> WebhookView:
    history = store.webhooks.history(who.tenant, webhook_id)
    changes = [
        WebhookChange(
            version=one.number,
            type=one.change,
            at=one.created_at,
            reason=one.disabled_reason if one.change == "webhook.disabled" else None,
            key_id=one.key_id,
        )
        for one in history
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
    store.webhooks.get(who.tenant, webhook_id)
    if changes:
        names = ", ".join(sorted(changes))
        line = partial(logged, store, who, "webhook.changed", id=webhook_id, changed=names)
        store.webhooks.update(who.tenant, webhook_id, who.key_id, line, **changes)
    return read_webhook(webhook_id, store, who)


@router.delete("/{webhook_id}", summary="Delete a webhook")
def delete_webhook(webhook_id: str, store: StoreDep, who: Writer) -> DeletedWebhook:
    store.webhooks.get(who.tenant, webhook_id)
    logged(store, who, "webhook.deleted", id=webhook_id)
    store.webhooks.delete(who.tenant, webhook_id, who.key_id)
    return DeletedWebhook(id=webhook_id)


@router.post("/{webhook_id}/rotate", summary="Rotate a webhook's secret")
def rotate_secret(
    webhook_id: str, body: SecretRotation, store: StoreDep, who: Writer
) -> WebhookWithSecret:
    """Messages are signed with both secrets while they overlap."""
    store.webhooks.get(who.tenant, webhook_id)
    logged(store, who, "webhook.rotated", id=webhook_id)
    version = store.webhooks.rotate(who.tenant, webhook_id, body.overlap_seconds, who.key_id)
    return _with_secret(webhook_id, version, shown=True)


@router.post("/{webhook_id}/test", summary="Send a test message")
async def test_webhook(webhook_id: str, services: ServicesDep, who: Writer) -> WebhookTest:
    """Sent once, at once, also to a disabled webhook; not listed among its deliveries."""
    webhook = await run_in_threadpool(lambda: services.store.webhooks.get(who.tenant, webhook_id))
    id = f"msg_{webhook_id.rpartition('_')[2]}_{ids.new_id('webhook').rpartition('_')[2]}"
    body = body_of("webhook.test", time.time(), {"webhook_id": webhook_id})
    sent = await send(services.outgoing, webhook, id, body)
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
        found = store.deliveries.walk(
            who.tenant, webhook_id, after=page.after, descending=page.descending
        )
        wanted = (one for one in found if status is None or one.status == status)
        shown, has_more = page.cut(wanted)
    except NotFound:
        detail = f"after: {page.after!r} is no id of a delivery to {webhook_id}"
        raise Malformed(detail, code="bad_request") from None
    return page_of([_delivery(one) for one in shown], has_more)


@router.post("/{webhook_id}/deliveries/{delivery_id}/retry", summary="Retry a delivery")
async def retry_delivery(
    webhook_id: str, delivery_id: str, services: ServicesDep, who: Writer
) -> WebhookDelivery:
    """At once, whatever its status; a failure changes nothing."""
    found = await run_in_threadpool(
        partial(_to_retry, services, who.tenant, webhook_id, delivery_id)
    )
    webhook, event, edit_id = found
    body = body_of(event.type, event.created_at, event.model_dump(mode="json"))
    sent = await send(services.outgoing, webhook, delivery_id, body)
    return await run_in_threadpool(
        partial(_retried, services, who.tenant, webhook_id, edit_id, event, sent)
    )


def _to_retry(
    services: Services, tenant: str, webhook_id: str, delivery_id: str
) -> tuple[WebhookVersion, Event, str]:
    store = services.store
    webhook = store.webhooks.get(tenant, webhook_id)
    delivery = store.deliveries.get(tenant, webhook_id, delivery_id)
    work = store.work.read("edit", tenant, delivery.edit_id)
    for event in durable_events(work):
        if event.id == delivery.event_id:
            return webhook, event, delivery.edit_id
    raise NotFound(f"no such event any more: {delivery_id}")


def _retried(
    services: Services,
    tenant: str,
    webhook_id: str,
    edit_id: str,
    event: Event,
    sent: Sent,
) -> WebhookDelivery:
    """Write the try down; the courier may be writing too."""
    store = services.store
    while True:
        last = store.deliveries.last(tenant, webhook_id, edit_id)
        one = tried(
            last,
            event,
            sent,
            time.time(),
            most_tries=services.settings.webhook_tries,
            first_pause=services.settings.webhook_retry_seconds,
            by_hand=True,
        )
        if store.deliveries.append(tenant, webhook_id, edit_id, one):
            break
    assert event.id is not None
    id = message_id(webhook_id, edit_id, event.id)
    return _delivery(store.deliveries.get(tenant, webhook_id, id))


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


def _delivery(one: Delivery) -> WebhookDelivery:
    return WebhookDelivery(
        id=one.id,
        webhook_id=one.webhook_id,
        edit_id=one.edit_id,
        event_id=one.event_id,
        type=one.tries[0].event_type,
        status=one.status,
        next_try_at=int(one.next_try_at) if one.next_try_at is not None else None,
        tries=[_try(entry) for entry in one.tries if entry.outcome != "skipped"],
    )


def _try(one: Try) -> TryView:
    return TryView(
        at=int(one.at),
        seconds=one.seconds,
        status_code=one.status_code,
        error=one.error,
        by_hand=one.by_hand,
    )
