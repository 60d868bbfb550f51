"""One JSON request to a scorer elsewhere: bounded in time, size and number of tries."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import httpx

from models_store.errors import EditFailed, InvalidRequest, Unavailable
from models_store.operator.scorers import OperatorScorer

MAX_RESPONSE_BYTES = 4 * 2**20
CONNECT_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.25
_AWAY = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Away(Exception):
    """It may be there again in a moment."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause
        """Of the header Retry-After."""


class Caller:
    """Sends requests to one scorer; may be used by several threads at a time."""

    def __init__(
        self, scorer: OperatorScorer, url: str, *, first_pause: float = FIRST_PAUSE_SECONDS
    ) -> None:
        """Raise `InvalidRequest` where the variable with the key is not set."""
        self._scorer = scorer
        self._url = url
        self._first_pause = first_pause
        headers = {"User-Agent": "scalpel"}
        if scorer.key_env is not None:
            key = os.environ.get(scorer.key_env, "")
            if not key:
                raise InvalidRequest(
                    f"the scorer {scorer.name} takes its key from the environment variable "
                    f"{scorer.key_env}, which is not set for this editor"
                )
            headers["Authorization"] = f"Bearer {key}"
        timeout = httpx.Timeout(
            scorer.timeout_seconds, connect=min(CONNECT_SECONDS, scorer.timeout_seconds)
        )
        # Redirects are not followed: the key is for this server alone.
        self._http = httpx.Client(headers=headers, timeout=timeout)

    def post(self, body: Any) -> dict[str, Any]:
        """The JSON object that the scorer returns.

        Raises:
            Unavailable: it could not be reached, took too long or broke, again and again.
            EditFailed: it refused the request, or returned something else than an object.
        """
        tries = 1 + self._scorer.retries
        for number in range(1, tries + 1):
            try:
                return self._object(self._send(body))
            except _Away as away:
                if number == tries:
                    raise Unavailable(
                        f"the scorer {self._scorer.name} at {self._url} is away: {away} "
                        f"({tries} tries)",
                        code="scorer_unavailable",
                    ) from away
                pause = self._first_pause * 2**number if away.pause is None else away.pause
                time.sleep(min(pause, LONGEST_PAUSE_SECONDS))
        raise AssertionError("there is at least one try")

    def refuse(self, what: str) -> EditFailed:
        """The error to raise for a response that cannot be used."""
        return EditFailed(f"the scorer {self._scorer.name} at {self._url} {what}")

    def _send(self, body: Any) -> bytes:
        until = time.monotonic() + self._scorer.timeout_seconds
        too_slow = f"it took more than {self._scorer.timeout_seconds:g} s"
        try:
            with self._http.stream("POST", self._url, json=body) as response:
                if response.status_code in _AWAY:
                    raise _Away(f"it returned {response.status_code}", _pause(response))
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > MAX_RESPONSE_BYTES:
                        raise self.refuse(f"returned more than {MAX_RESPONSE_BYTES} bytes")
                    # The client's own limit is for each piece, and pieces may come one by one.
                    if time.monotonic() > until:
                        raise _Away(too_slow)
        except httpx.ConnectTimeout as error:
            raise _Away("it cannot be reached in time") from error
        except httpx.TimeoutException as error:
            raise _Away(too_slow) from error
        except httpx.TransportError as error:
            raise _Away(str(error) or type(error).__name__) from error
        except httpx.HTTPError as error:
            raise self.refuse(f"cannot be understood: {error}") from error
        if response.status_code != 200:
            raise self.refuse(f"returned {response.status_code}: {_excerpt(bytes(data))}")
        return bytes(data)

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            content = json.loads(data)
        except ValueError:
            raise self.refuse(f"does not return JSON: {_excerpt(data)}") from None
        if not isinstance(content, dict):
            raise self.refuse(f"does not return a JSON object: {_excerpt(data)}")
        return content


def _pause(response: httpx.Response) -> float | None:
    """Retry-After in seconds; a date is not waited for."""
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() else None


def _excerpt(data: bytes) -> str:
    return repr(data[:200].decode("utf-8", "replace"))
