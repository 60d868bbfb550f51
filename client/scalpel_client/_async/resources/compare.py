"""`client.compare`"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Unpack

from scalpel_client._async.events import EVENT_STREAM, server_events
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.encoding import json_body
from scalpel_client._shared.sse import ServerEvent
from scalpel_client.errors import StreamError
from scalpel_client.params import LiveCompareParams


class AsyncCompare:
    """Responses of several variants to one prompt, side by side."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def stream(self, **request: Unpack[LiveCompareParams]) -> AsyncIterator[ServerEvent]:
        """Events as the texts come.

        `comparison.created` names the outputs, `comparison.delta` has a piece of text of the one at
        `index`, `comparison.finished` its end, and `comparison.completed` the usage.

        Args:
            request: `prompt` or `messages`; `model` with `strengths`, or `variants`; `max_tokens`,
                `temperature`, `top_p`, `seed`, `stop`.

        Raises:
            StreamError: the API could not go on.
        """
        headers = {"Accept": EVENT_STREAM, "Content-Type": "application/json"}
        async with self._transport.stream(
            "POST", "/v1/compare", headers=headers, content=json_body(request)
        ) as response:
            async for event in server_events(response):
                if event.type == "error":
                    raise StreamError(event.data["code"], event.data["message"])
                yield event
