"""Downloads: a tenant has some under way at a time, so that they take no other tenant's turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Depends

from app.request.auth import Reader
from app.services import ServicesDep


async def _downloading(services: ServicesDep, who: Reader) -> AsyncIterator[None]:
    with services.in_flight.hold(who.tenant, "downloads"):
        yield  # until the last byte is sent


Downloading = Depends(_downloading)
"""Of a route whose response is a file."""
