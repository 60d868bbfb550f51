# Generated from openapi.json by `make client`: do not change it here.
"""Calls under `base_models`."""

from __future__ import annotations

from typing import Literal

from scalpel_client import models, params
from scalpel_client._async.pager import AsyncPager
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import new_key, segment


class AsyncBaseModels:
    """Calls under `base_models`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> AsyncPager[models.BaseModel]:
        """List the base models.

        Ordered by id.

        Args:
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A position: `last_id` of the page before; it need not exist any more.
        """
        return AsyncPager(
            self._transport,
            "/v1/base_models",
            models.BaseModel,
            query={"limit": limit, "order": order, "after": after},
        )

    async def create(
        self,
        *,
        id: str,
        source: params.Source,
        chat: bool | None = None,
        description: str | None = None,
        licence: str | None = None,
        pool: str | None = None,
        quantization: str | None = None,
        idempotency_key: str | None = None,
    ) -> models.BaseModel:
        """Register a base model.

        An editor fetches, converts, checks and pins its weights; then it can be edited.

        Args:
            chat: Whether it takes chat messages; null: if its tokenizer has a chat template.
            description: For people.
            id: Its name in requests: `base_model`, and the beginning of a variant.
            licence: Of the weights, such as `apache-2.0`.
            pool: Name of the editors that may edit it, such as `cpu` or `gpu-80g`.
            quantization: An earlier quantization of the weights, if any.
            source: Where its weights are.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return await self._transport.request(
            "POST",
            "/v1/base_models",
            models.BaseModel,
            json={
                "chat": chat,
                "description": description,
                "id": id,
                "licence": licence,
                "pool": pool,
                "quantization": quantization,
                "source": source,
            },
            key=idempotency_key or new_key(),
        )

    async def delete(self, base_model_id: str) -> models.DeletedBaseModel:
        """Remove a base model.

        Its edits remain, but cannot be served until it is registered again.
        """
        return await self._transport.request(
            "DELETE", f"/v1/base_models/{segment(base_model_id)}", models.DeletedBaseModel
        )

    async def retrieve(self, base_model_id: str, *, wait: float | None = None) -> models.BaseModel:
        """Read a base model.

        With what its registration has found out of the weights.

        Args:
            wait: Wait until it has finished, for at most so many seconds.
        """
        return await self._transport.request(
            "GET",
            f"/v1/base_models/{segment(base_model_id)}",
            models.BaseModel,
            query={"wait": wait},
        )
