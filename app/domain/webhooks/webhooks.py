"""Webhooks: a tenant's addresses that receive the events of its edits.

`webhooks/{tenant}/{id}/{n:08}.json`, numbered histories. The secrets are in them as they are, since
they have to sign: who can read the store can sign as Scalpel.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.domain.edits.idempotency import Sender, create_once
from models_store.audit.log import NOBODY, AuditLog
from models_store.errors import Conflict, InvalidRequest, NotFound
from models_store.ids import ID_PATTERN
from models_store.net.addresses import AddressRefused, AddressRule
from models_store.objects.histories import Histories, Version
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Actor
from models_store.work.outbox import WEBHOOKS

HookEvent = Literal[
    "edit.created",
    "edit.started",
    "edit.attempt_ended",
    "edit.succeeded",
    "edit.failed",
    "edit.canceled",
]
HOOK_EVENTS: tuple[HookEvent, ...] = get_args(HookEvent)
Change = Literal[
    "webhook.created",
    "webhook.updated",
    "webhook.rotated",
    "webhook.enabled",
    "webhook.disabled",
    "webhook.deleted",
]
MOST_WEBHOOKS = 16
_SHOWN = 100
"""A tenant's."""
MAX_URL_LENGTH = 2048
_SECRET_BYTES = 32
_MOST_SECRETS = 3


class SigningSecret(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str = Field(repr=False)
    """`whsec_` and 32 bytes in base64."""
    until: float | None = None
    """Unix seconds up to which it signs; None: for good."""


class WebhookVersion(Version):
    """A webhook from here on."""

    change: Change
    """What made this version."""
    url: str
    events: tuple[HookEvent, ...] = HOOK_EVENTS
    description: str = ""
    secrets: tuple[SigningSecret, ...]
    """Newest first."""
    disabled_reason: str | None = None
    """None while it is enabled."""
    made_at: int = Field(default_factory=lambda: int(time.time()))
    key_id: str | None = None
    """Who changed it."""

    @property
    def enabled(self) -> bool:
        return self.disabled_reason is None

    def signing(self, now: float) -> list[str]:
        """The secrets that sign at that time."""
        return [
            secret.value for secret in self.secrets if secret.until is None or now < secret.until
        ]


@dataclass(frozen=True)
class Webhook:
    """A webhook as it is now."""

    id: str
    version: WebhookVersion


class Webhooks:
    """The webhooks of every tenant.

    Raises (all methods that take an id):
        NotFound: the tenant has no such webhook.
    """

    def __init__(self, objects: ObjectStore, rule: AddressRule, audit: AuditLog) -> None:
        self._audit = audit
        self._versions: Histories[WebhookVersion] = Histories(objects, WEBHOOKS, WebhookVersion)
        self._rule = rule

    def add(
        self,
        sender: Sender,
        url: str,
        *,
        events: tuple[HookEvent, ...] = HOOK_EVENTS,
        description: str = "",
    ) -> tuple[Webhook, bool]:
        """Make a webhook with a fresh secret; the one that a repeated request has made already.

        Returns:
            It; whether it was there already.

        Raises:
            InvalidRequest: it may not be sent to that address.
            Conflict: `too_many_webhooks`.
        """
        tenant = sender.tenant

        def find(id: str) -> Webhook | None:
            version = self.newest(tenant, id)
            return None if version is None else Webhook(id, _there(version, id))

        def make(claim: Callable[[], str]) -> Webhook:
            self._check(url)
            if len(self.all(tenant)) >= MOST_WEBHOOKS:
                raise Conflict(
                    f"there are {MOST_WEBHOOKS} webhooks, which is as many as can be: delete one",
                    code="too_many_webhooks",
                )
            id = claim()
            self._log("webhook.created", tenant, id, sender.actor)
            version = WebhookVersion(
                change="webhook.created",
                url=url,
                events=events,
                description=description,
                secrets=(SigningSecret(value=new_secret()),),
                key_id=sender.actor.key_id,
            )
            return Webhook(id, self._versions.append(tenant, id, version))

        return create_once(sender, "webhook", find, make)

    def newest(self, tenant: str, id: str) -> WebhookVersion | None:
        """The newest version, a deletion too."""
        return self._versions.newest(tenant, id) if ID_PATTERN.fullmatch(id) else None

    def get(self, tenant: str, id: str) -> WebhookVersion:
        return _there(self.newest(tenant, id), id)

    def history(self, tenant: str, id: str) -> list[WebhookVersion]:
        """The last 100 versions, oldest first."""
        self.get(tenant, id)
        numbers = self._versions.numbers(tenant, id)[-_SHOWN:]
        return list(self._versions.versions(tenant, id, numbers))

    def all(self, tenant: str) -> dict[str, WebhookVersion]:
        """Every webhook that there is, by id, oldest first."""
        return dict(self._versions.in_force(tenant))

    def update(self, tenant: str, id: str, actor: Actor = NOBODY, **changes: Any) -> WebhookVersion:
        """Change `url`, `events`, `description` or `enabled`.

        Raises:
            InvalidRequest: it may not be sent to that address.
        """
        self.get(tenant, id)
        if "url" in changes:
            self._check(changes["url"])
        self._log("webhook.changed", tenant, id, actor, changed=", ".join(sorted(changes)))
        enabled = changes.pop("enabled", None)
        change: Change = "webhook.updated"
        if enabled is not None:
            change = "webhook.enabled" if enabled else "webhook.disabled"
            changes["disabled_reason"] = None if enabled else "switched off"
        return self._change(
            tenant, id, lambda _: {**changes, "change": change, "key_id": actor.key_id}
        )

    def rotate(
        self, tenant: str, id: str, overlap_seconds: float, actor: Actor = NOBODY
    ) -> WebhookVersion:
        """Sign with a fresh secret; the ones before sign too, for so long."""
        now = time.time()

        def fresh(current: WebhookVersion) -> dict[str, Any]:
            until = now + overlap_seconds
            old = [
                secret.model_copy(update={"until": until if secret.until is None else secret.until})
                for secret in current.secrets
                if secret.until is None or now < secret.until
            ]
            kept = (SigningSecret(value=new_secret()), *old)[:_MOST_SECRETS]
            return {"secrets": kept, "change": "webhook.rotated", "key_id": actor.key_id}

        self.get(tenant, id)
        self._log("webhook.rotated", tenant, id, actor)
        return self._change(tenant, id, fresh)

    def disable(self, tenant: str, id: str, reason: str) -> WebhookVersion | None:
        """Send nothing more to it; None when it is disabled or gone already."""
        current = self.newest(tenant, id)
        if current is None or current.deleted or not current.enabled:
            return None
        self._log("webhook.disabled", tenant, id, NOBODY, reason=reason)
        fields = {"disabled_reason": reason, "change": "webhook.disabled", "key_id": None}
        return self._change(tenant, id, lambda _: fields)

    def delete(self, tenant: str, id: str, actor: Actor = NOBODY) -> None:
        self.get(tenant, id)
        self._log("webhook.deleted", tenant, id, actor)
        fields = {"deleted": True, "secrets": (), "change": "webhook.deleted"}
        self._change(tenant, id, lambda _: {**fields, "key_id": actor.key_id})

    def _change(
        self, tenant: str, id: str, fields: Callable[[WebhookVersion], dict[str, Any]]
    ) -> WebhookVersion:
        def following(newest: WebhookVersion | None) -> WebhookVersion:
            current = _there(newest, id)
            kept = current.model_dump(exclude={"writer", "created_at", "number"})
            return WebhookVersion.model_validate(
                {**kept, **fields(current), "number": current.number + 1}
            )

        return self._versions.change(tenant, id, following)

    def _log(self, event: str, tenant: str, id: str, actor: Actor, **fields: JsonValue) -> None:
        self._audit.append(event, tenant=tenant, actor=actor, id=id, **fields)

    def _check(self, url: str) -> None:
        """Refuse what could never be sent to; names are looked up at each delivery only."""
        try:
            parsed = httpx.URL(url)
            self._rule.check_url(parsed.scheme, parsed.userinfo, parsed.raw_host.decode("ascii"))
        except (httpx.InvalidURL, AddressRefused) as error:
            raise InvalidRequest.at("/url", f"url: {error}", "address_not_allowed") from None


def _there(version: WebhookVersion | None, id: str) -> WebhookVersion:
    if version is None or version.deleted:
        raise NotFound(f"no such webhook: {id[:100]}")
    return version


def new_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
