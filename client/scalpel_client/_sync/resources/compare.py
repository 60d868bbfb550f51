# Generated from `_async` by `make client`: do not change it here.
"""`client.compare`"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

from scalpel_client._shared.encoding import json_body
from scalpel_client._shared.sse import ServerEvent
from scalpel_client._sync.events import EVENT_STREAM, server_events
from scalpel_client._sync.transport import Transport
from scalpel_client.errors import StreamError
from scalpel_client.params import LiveCompareParams


class Compare:
    """Responses of several variants to one prompt, side by side."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def stream(self, **request: Unpack[LiveCompareParams]) -> Iterator[ServerEvent]:
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
        with self._transport.stream(
            "POST", "/v1/compare", headers=headers, content=json_body(request)
        ) as response:
            for event in server_events(response):
                if event.type == "error":
                    raise StreamError(event.data["code"], event.data["message"])
                yield event
