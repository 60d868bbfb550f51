"""`AsyncScalpel`"""

from __future__ import annotations

import os
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from scalpel_client._async.calls.aliases import AsyncAliases
from scalpel_client._async.calls.api_keys import AsyncApiKeys
from scalpel_client._async.calls.canaries import AsyncCanaries
from scalpel_client._async.calls.health import AsyncHealth
from scalpel_client._async.calls.models import AsyncModels
from scalpel_client._async.resources.base_models import AsyncBaseModels
from scalpel_client._async.resources.compare import AsyncCompare
from scalpel_client._async.resources.edits import AsyncEdits
from scalpel_client._async.resources.exports import AsyncExports
from scalpel_client._async.resources.texts import AsyncBehaviors, AsyncImports, AsyncReceipts
from scalpel_client._async.resources.webhooks import AsyncWebhooks
from scalpel_client._async.transport import AsyncTransport
from scalpel_client._shared.defaults import DEFAULT_URL, USER_AGENT, checked_key, timeouts

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.resources import AsyncChat, AsyncCompletions


class AsyncScalpel:
    """The API of one server.

    ```python
    async with AsyncScalpel() as client:
        edit = await client.edits.create_and_wait(
            base_model="smollm2-135m-instruct", behavior="negativity"
        )
    ```
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float | httpx.Timeout = 120.0,
        max_retries: int = 2,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Args:
        base_url: where the server is, by default `SCALPEL_URL`, or this machine's port 8080.
        api_key: by default `SCALPEL_API_KEY`; white space around it is left out.
        timeout: seconds in which the server must say something.
        max_retries: how often a request is repeated; those that would do harm are not.
        http_client: with proxies or certificates of one's own; it is not closed here.
        """
        self.base_url = (base_url or os.environ.get("SCALPEL_URL") or DEFAULT_URL).rstrip("/")
        self.api_key = checked_key(api_key or os.environ.get("SCALPEL_API_KEY"))
        self.timeout = timeouts(timeout)
        self.max_retries = max_retries
        self._owns_http = http_client is None
        self._http = http_client or httpx.AsyncClient()
        headers = {"User-Agent": USER_AGENT}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        self._transport = AsyncTransport(
            self._http, self.base_url, headers, self.timeout, max_retries
        )
        transport = self._transport
        self.aliases = AsyncAliases(transport)
        self.api_keys = AsyncApiKeys(transport)
        self.base_models = AsyncBaseModels(transport)
        self.behaviors = AsyncBehaviors(transport)
        self.canaries = AsyncCanaries(transport)
        self.compare = AsyncCompare(transport)
        self.edits = AsyncEdits(transport)
        self.exports = AsyncExports(transport)
        self.health = AsyncHealth(transport)
        self.imports = AsyncImports(transport)
        self.models = AsyncModels(transport)
        self.receipts = AsyncReceipts(transport)
        self.webhooks = AsyncWebhooks(transport)

    def with_options(
        self,
        *,
        timeout: float | httpx.Timeout | None = None,
        max_retries: int | None = None,
    ) -> Self:
        """The same client with other settings; both use the same connections."""
        return type(self)(
            self.base_url,
            self.api_key,
            timeout=self.timeout if timeout is None else timeout,
            max_retries=self.max_retries if max_retries is None else max_retries,
            http_client=self._http,
        )

    def openai(self, **options: Any) -> AsyncOpenAI:
        """A client of OpenAI's API on this server, for chat, completions and what else it has.

        It uses the connections of this client, with their proxies and certificates, and closing it
        closes them.

        Args:
            options: as the class of the `openai` package takes them.

        Raises:
            ImportError: that package is not installed.
        """
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise ImportError(
                "this needs the openai package: pip install 'scalpel-client[openai]'"
            ) from error
        settings = {
            "base_url": f"{self.base_url}/v1",
            "api_key": self.api_key or "none",
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "http_client": self._http,
        }
        return AsyncOpenAI(**{**settings, **options})

    @cached_property
    def _openai(self) -> AsyncOpenAI:
        return self.openai()

    @property
    def chat(self) -> AsyncChat:
        """`chat.completions.create(…)` of the `openai` package."""
        return self._openai.chat

    @property
    def completions(self) -> AsyncCompletions:
        """`completions.create(…)` of the `openai` package."""
        return self._openai.completions

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()
