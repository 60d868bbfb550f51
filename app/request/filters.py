"""What lists are filtered by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Query, Request

_KEY = "metadata["


async def _metadata(
    request: Request,
    shown: Annotated[
        str | None,
        Query(
            alias=f"{_KEY}key]",
            description="Only those with this value of `key` in their metadata; `key` is any name.",
        ),
    ] = None,
) -> Mapping[str, str]:
    return {
        name[len(_KEY) : -1]: value
        for name, value in request.query_params.items()
        if name.startswith(_KEY) and name.endswith("]")
    }


MetadataDep = Annotated[Mapping[str, str], Depends(_metadata)]
"""The values that are wanted, by name."""
