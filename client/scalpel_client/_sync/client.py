# Generated from `_async` by `make client`: do not change it here.
"""`Scalpel`"""

from __future__ import annotations

import os
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from scalpel_client._shared.defaults import DEFAULT_URL, USER_AGENT, checked_key, timeouts
from scalpel_client._sync.calls.aliases import Aliases
from scalpel_client._sync.calls.api_keys import ApiKeys
from scalpel_client._sync.calls.canaries import Canaries
from scalpel_client._sync.calls.health import Health
from scalpel_client._sync.calls.models import Models
from scalpel_client._sync.resources.base_models import BaseModels
from scalpel_client._sync.resources.compare import Compare
from scalpel_client._sync.resources.edits import Edits
from scalpel_client._sync.resources.exports import Exports
from scalpel_client._sync.resources.texts import Behaviors, Imports, Receipts
from scalpel_client._sync.resources.webhooks import Webhooks
from scalpel_client._sync.transport import Transport

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.resources import Chat, Completions


class Scalpel:
    """The API of one server.

    ```python
    with Scalpel() as client:
        edit = client.edits.create_and_wait(
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
        http_client: httpx.Client | None = None,
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
        self._http = http_client or httpx.Client()
        headers = {"User-Agent": USER_AGENT}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        self._transport = Transport(self._http, self.base_url, headers, self.timeout, max_retries)
        transport = self._transport
        self.aliases = Aliases(transport)
        self.api_keys = ApiKeys(transport)
        self.base_models = BaseModels(transport)
        self.behaviors = Behaviors(transport)
        self.canaries = Canaries(transport)
        self.compare = Compare(transport)
        self.edits = Edits(transport)
        self.exports = Exports(transport)
        self.health = Health(transport)
        self.imports = Imports(transport)
        self.models = Models(transport)
        self.receipts = Receipts(transport)
        self.webhooks = Webhooks(transport)

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

    def openai(self, **options: Any) -> OpenAI:
        """A client of OpenAI's API on this server, for chat, completions and what else it has.

        It uses the connections of this client, with their proxies and certificates, and closing it
        closes them.

        Args:
            options: as the class of the `openai` package takes them.

        Raises:
            ImportError: that package is not installed.
        """
        try:
            from openai import OpenAI
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
        return OpenAI(**{**settings, **options})

    @cached_property
    def _openai(self) -> OpenAI:
        return self.openai()

    @property
    def chat(self) -> Chat:
        """`chat.completions.create(…)` of the `openai` package."""
        return self._openai.chat

    @property
    def completions(self) -> Completions:
        """`completions.create(…)` of the `openai` package."""
        return self._openai.completions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._http.close()
