"""The way to a server that a tenant names: through checked addresses only."""

from __future__ import annotations

import json
from typing import Any

import httpx

from app.domain.canaries.asking import Post
from app.domain.webhooks.outgoing import Outgoing
from models_store.errors import InvalidRequest
from models_store.net.addresses import AddressRefused


def root_of(url: str) -> str:
    """A server's address without `/v1`, which its users may give or leave out."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def headers_for(api_key: str | None) -> dict[str, str]:
    """Headers of a request for a completion."""
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"Content-Type": "application/json", "User-Agent": "Scalpel-Canary", **key}


def checked_post(outgoing: Outgoing, url: str, api_key: str | None) -> Post:
    """Sends to the server at `url`, if requests may go there.

    Raises (at once, and when it sends):
        InvalidRequest: they may not.
    """
    try:
        parsed = httpx.URL(url)
        outgoing.rule.check_url(parsed.scheme, parsed.userinfo, parsed.raw_host.decode("ascii"))
    except (httpx.InvalidURL, AddressRefused) as error:
        raise _refused(error) from None
    root, headers = root_of(url), headers_for(api_key)

    async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        content = json.dumps(body).encode()
        try:
            response = await outgoing.request("POST", root + path, content=content, headers=headers)
        except AddressRefused as error:
            raise _refused(error) from None
        return response.status, response.body

    return post


def _refused(error: Exception) -> InvalidRequest:
    return InvalidRequest.at("/url", f"url: {error}", "address_not_allowed")
