"""A small HTTP client of Scalpel's own API, for the command line and the demonstration."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from models_store.errors import ScalpelError

_FINAL = ("succeeded", "failed", "canceled")
_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 30.0
_TRIES = 5
"""Of a download that brings nothing new."""


class ApiError(ScalpelError):
    """A response that is not a success, or none at all; its text is fit to be shown."""

    code = "api_error"


DEFAULT_URL = "http://127.0.0.1:8080"


class Client:
    """Talks to one API; `key` is sent as a bearer token where there is one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=httpx.Timeout(120.0, connect=5.0)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        return self._request("GET", path, params=params)

    def post(self, path: str, body: Any) -> Any:
        return self._request("POST", path, json=body)

    def send_files(self, path: str, fields: dict[str, str], files: Sequence[Path]) -> Any:
        """Send a form with files."""
        with ExitStack() as opened, _readable(self.url):
            parts = [("file", (f.name, opened.enter_context(f.open("rb")))) for f in files]
            # As long as it takes to send them.
            timeout = httpx.Timeout(None, connect=5.0)
            response = self._http.post(path, data=fields, files=parts, timeout=timeout)
        return _checked(response).json()

    def download(self, path: str) -> bytes:
        with _readable(self.url):
            response = self._http.get(path)
        return _checked(response).content

    def save(self, path: str, file: Path) -> None:
        """Download into a new file; where the connection breaks, go on behind what has arrived.

        Raises:
            ApiError: the API refuses, or finds what it has stored damaged.
            Unreachable: nothing comes any more.
        """
        etag, size, tries = "", 0, 0
        while True:
            ranged = {"Range": f"bytes={size}-", "If-Range": etag} if size else {}
            try:
                with self._http.stream("GET", path, headers=ranged) as response:
                    if response.status_code >= 400:
                        response.read()
                        _checked(response)
                    etag = response.headers["ETag"]
                    with file.open("ab" if response.status_code == 206 else "wb") as out:
                        for chunk in response.iter_raw():
                            out.write(chunk)
                return
            except httpx.TransportError as error:
                arrived = file.stat().st_size if file.exists() else 0
                tries = 0 if arrived > size else tries + 1
                if tries >= _TRIES:
                    raise Unreachable(f"the download of {path} breaks off: {error}") from error
                size = arrived
                time.sleep(_POLL_SECONDS)

    def text(self, path: str, accept: str) -> str:
        with _readable(self.url):
            response = self._http.get(path, headers={"Accept": accept})
        return _checked(response).text

    def stream_chat(self, body: dict[str, Any]) -> Iterator[str]:
        """The pieces of a streamed chat completion."""
        with (
            _readable(self.url),
            self._http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as got,
        ):
            if got.status_code >= 400:
                got.read()
                _checked(got)
            for line in got.iter_lines():
                data = line.removeprefix("data: ")
                if data == line or data == "[DONE]":
                    continue
                event = json.loads(data)
                if "error" in event:
                    raise ApiError(event["error"]["message"])
                for choice in event["choices"]:
                    yield choice["delta"].get("content") or ""

    def follow(self, edit_id: str) -> Iterator[dict[str, Any]]:
        """The edit, again and again, until it is at a final status; short outages are retried.

        Raises:
            Unreachable: nothing answers, at the beginning or for a while.
        """
        last_response = float("-inf")
        while True:
            try:
                edit = self.get(f"/v1/edits/{edit_id}")
            except Unreachable:
                if time.monotonic() - last_response > _PATIENCE_SECONDS:
                    raise
            else:
                last_response = time.monotonic()
                yield edit
                if edit["status"] in _FINAL:
                    return
            time.sleep(_POLL_SECONDS)

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        with _readable(self.url):
            response = self._http.request(method, path, **arguments)
        return _checked(response).json()


class Unreachable(ApiError):
    """Nothing answers under the address."""

    code = "unreachable"


@contextmanager
def _readable(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise Unreachable(
            f"nothing answers at {url} ({error}): is `scalpel up` running there? "
            "SCALPEL_URL or --url names another address"
        ) from error


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
    except ValueError:
        raise ApiError(f"{response.status_code} from {response.url}: {response.text}") from None
    if isinstance(problem.get("error"), dict):  # OpenAI's shape
        raise ApiError(problem["error"]["message"])
    lines = [problem.get("detail") or problem.get("title") or str(problem)]
    lines += [f"  {error['pointer']}: {error['detail']}" for error in problem.get("errors") or ()]
    raise ApiError("\n".join(lines))
