# Generated from `_async` by `make client`: do not change it here.
"""Requests: sent, repeated where that does no harm, and their errors raised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from scalpel_client._base import Model
from scalpel_client._shared.encoding import decoded, given, json_body
from scalpel_client._shared.retries import delay, may_repeat
from scalpel_client.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    status_error,
)

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Transport:
    """Where requests go, and how often they are repeated."""

    http: httpx.Client
    url: str
    headers: Mapping[str, str]
    timeout: httpx.Timeout
    max_retries: int

    def request(
        self,
        method: str,
        path: str,
        model: type[M],
        *,
        query: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> M:
        """Send JSON, if any, and read JSON.

        Args:
            key: the `Idempotency-Key`, which repeats keep.

        Raises:
            APIError: it failed, and so did its repeats.
            APIResponseValidationError: what answers is not the API.
            SecretLostError: a repeat found what was made, but not its secret.
        """
        content: dict[str, Any] = {}
        if json is not None:
            content = {
                "content": json_body(json),
                "headers": {"Content-Type": "application/json"},
            }
        response = self.send(method, path, lambda: content, query=query, key=key)
        return decoded(model, response)

    def send(
        self,
        method: str,
        path: str,
        content: Callable[[], Mapping[str, Any]],
        *,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """The response of a success, read.

        Args:
            content: makes what httpx sends, again for each repeat.
        """
        repeats = 0
        while True:
            try:
                with self.stream(method, path, query=query, key=key, **content()) as response:
                    response.read()
                    return response
            except APIError as error:
                if repeats >= self.max_retries or not may_repeat(error, method, keyed=bool(key)):
                    raise
                time.sleep(delay(repeats, error))
            repeats += 1

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> Iterator[httpx.Response]:
        """One response of a success, whose body has not been read; not repeated.

        Raises:
            APIError: on the way, while it is read too.
        """
        sent = {**self.headers, **(headers or {}), **({"Idempotency-Key": key} if key else {})}
        try:
            with self.http.stream(
                method,
                self.url + path,
                params=given(query or {}),
                headers=sent,
                timeout=content.pop("timeout", self.timeout),
                **content,
            ) as response:
                if not response.is_success:
                    response.read()
                    raise status_error(response)
                yield response
        except httpx.TimeoutException as error:
            raise APITimeoutError(f"{self.url}{path} takes too long: {error}") from error
        except httpx.LocalProtocolError:
            # Its message may quote a header, and so the key.
            raise APIConnectionError(f"the request to {self.url}{path} is malformed") from None
        except httpx.TransportError as error:
            raise APIConnectionError(
                f"nothing answers at {self.url}, or the connection broke: {error}"
            ) from error
