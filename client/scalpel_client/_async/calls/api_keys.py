# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `api_keys`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scalpel_client import models
from scalpel_client._async.pager import AsyncPager
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import new_key, segment


class AsyncApiKeys:
    """Calls under `api_keys`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        tenant: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> AsyncPager[models.ApiKey]:
        """List API keys.

        Newest first by default; includes keys that ended in the last 30 days.

        Args:
            tenant: Another tenant; for the operator only.
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A position: `last_id` of the page before; it need not exist any more.
        """
        return AsyncPager(
            self._transport,
            "/v1/api_keys",
            models.ApiKey,
            query={"tenant": tenant, "limit": limit, "order": order, "after": after},
        )

    async def create(
        self,
        *,
        name: str,
        scopes: Sequence[str],
        expires_at: int | None = None,
        tenant: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.ApiKey:
        """Make an API key.

        The secret is in this response only: a repeat with the same `Idempotency-Key` returns
        the key
        without it.

        Args:
            expires_at: Unix seconds; null: never.
            name: What it is for.
            scopes: At most those of the key that makes it.
            tenant: Another tenant; for the operator only.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return await self._transport.request(
            "POST",
            "/v1/api_keys",
            models.ApiKey,
            json={"expires_at": expires_at, "name": name, "scopes": scopes, "tenant": tenant},
            key=idempotency_key or new_key(),
        )

    async def revoke(self, key_id: str, *, tenant: str | None = None) -> models.ApiKey:
        """Revoke an API key.

        At once in this process, within 3 seconds in others.

        Args:
            tenant: Another tenant; for the operator only.
        """
        return await self._transport.request(
            "DELETE", f"/v1/api_keys/{segment(key_id)}", models.ApiKey, query={"tenant": tenant}
        )

    async def retrieve(self, key_id: str, *, tenant: str | None = None) -> models.ApiKey:
        """Read an API key.

        Without the key itself, which is shown once.

        Args:
            tenant: Another tenant; for the operator only.
        """
        return await self._transport.request(
            "GET", f"/v1/api_keys/{segment(key_id)}", models.ApiKey, query={"tenant": tenant}
        )

    async def rotate(
        self,
        key_id: str,
        *,
        tenant: str | None = None,
        overlap_seconds: int | None = None,
        idempotency_key: str | None = None,
    ) -> models.ApiKey:
        """Rotate an API key.

        The new key has the scopes and the lifetime of the old one.

        Args:
            tenant: Another tenant; for the operator only.
            overlap_seconds: How long the old key is still accepted.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return await self._transport.request(
            "POST",
            f"/v1/api_keys/{segment(key_id)}/rotate",
            models.ApiKey,
            query={"tenant": tenant},
            json={"overlap_seconds": overlap_seconds},
            key=idempotency_key or new_key(),
        )
