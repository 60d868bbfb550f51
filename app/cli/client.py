"""A small HTTP client of Scalpel's own API, for the command line and the demonstration."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from models_store.errors import ScalpelError

DEFAULT_URL = "http://127.0.0.1:8080"
MOST_OF_A_PAGE = 100
SLOW_SECONDS = 900.0
"""Of requests that generate many texts."""

_FINAL = ("succeeded", "failed", "canceled")
_POLL_SECONDS = 0.3
_SLOWEST_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0
_TRIES = 5
"""Of a download that brings nothing new."""
LATER = (429, 502, 503, 504)
"""Statuses of requests that may be served later."""

Told = Callable[[int, int | None], None]
"""Is told how many bytes have arrived, and of how many, where that is known."""


class ApiError(ScalpelError):
    """A response that is not a success, or none at all; its text is fit to be shown."""

    code = "api_error"
    exit_code = 1
    status: int | None = None
    """Of the response, if there was one."""


class WrongUse(ApiError):
    """The request cannot be carried out as it is: the caller must change something."""

    code = "wrong_use"
    exit_code = 2


class Unreachable(ApiError):
    """Nothing answers under the address, or not now."""

    code = "unreachable"
    exit_code = 3


class Lost(Unreachable):
    """The request was sent, and no response came: it may have been carried out."""


class NotAllowed(ApiError):
    """The service wants a key, or another one."""

    code = "not_allowed"
    exit_code = 4


class Client:
    """Talks to one API; `key` is sent as a bearer token where there is one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {checked_key(key)}"} if key else {}
        self.url = url.rstrip("/")
        with _readable(self.url):
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=httpx.Timeout(120.0, connect=5.0)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        return self._request("GET", path, params=params)

    def post(self, path: str, body: Any, *, timeout: float | None = None) -> Any:
        """`timeout`: seconds that it may take; by default two minutes."""
        longer = {} if timeout is None else {"timeout": httpx.Timeout(timeout, connect=5.0)}
        return self._request("POST", path, json=body, **longer)

    def create(self, path: str, body: Any) -> Any:
        """Post what makes something; it is made once, though a lost request is sent again."""
        return self._twice(lambda key: self._request("POST", path, json=body, headers=key))

    def put(self, path: str, body: Any) -> Any:
        return self._request("PUT", path, json=body)

    def delete(self, path: str) -> Any:
        return self._request("DELETE", path)

    def page(
        self,
        path: str,
        limit: int,
        filters: Mapping[str, str] | None = None,
    ) -> Any:
        """The first things of a list, from as many of its pages as it takes.

        Args:
            filters: as the call takes them.

        Returns:
            A page as the API sends it, with up to `limit` things.
        """
        params: dict[str, Any] = dict(filters or {})
        found: dict[str, Any] = {}
        things: list[Any] = []
        while True:
            size = min(limit - len(things), MOST_OF_A_PAGE)
            page = self.get(path, **params, limit=size)
            things += page["data"]
            found = found or page
            if not page.get("has_more") or len(things) >= limit:
                break
            params["after"] = page["last_id"]
        if "has_more" in page:
            found["last_id"] = page["last_id"]
            found["has_more"] = page["has_more"]
        return {**found, "data": things}

    def send_files(self, path: str, fields: dict[str, str], files: Sequence[Path]) -> Any:
        """Send a form with files, which makes something; sending may take as long as it takes."""
        timeout = httpx.Timeout(120.0, connect=5.0, write=None)

        def send(key: dict[str, str]) -> Any:
            with ExitStack() as opened:
                parts = [("file", (f.name, opened.enter_context(f.open("rb")))) for f in files]
                return self._request(
                    "POST", path, data=fields, files=parts, headers=key, timeout=timeout
                )

        return self._twice(send)

    def send_lines(self, path: str, lines: bytes, **params: str) -> Any:
        """Send JSON lines, which make something."""
        kind = {"Content-Type": "application/jsonl"}
        return self._twice(
            lambda key: self._request(
                "POST", path, content=lines, headers={**kind, **key}, params=params
            )
        )

    def download(self, path: str) -> bytes:
        with _readable(self.url):
            response = self._http.get(path)
        return _checked(response).content

    def save(self, path: str, file: Path, told: Told | None = None) -> str:
        """Download into a new file; where the connection breaks, go on behind what has arrived.

        Returns:
            Its SHA-256 as the API says it, in hexadecimal; empty where it does not.

        Raises:
            ApiError: the API refuses, or finds what it has stored damaged.
            Unreachable: nothing comes any more.
        """
        etag, size, tries = "", 0, 0
        while True:
            headers = {"Accept-Encoding": "identity"}
            headers |= {"Range": f"bytes={size}-", "If-Range": etag} if size else {}
            goes_on = False
            try:
                with self._http.stream("GET", path, headers=headers) as response:
                    if response.status_code >= 400:
                        response.read()
                        _checked(response)
                    etag = response.headers.get("ETag", "")
                    goes_on = response.status_code == 206
                    _write(response, file, size if goes_on else 0, told)
                return _sha256_of(etag)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                arrived = file.stat().st_size if file.exists() else 0
                tries = 0 if goes_on and arrived > size else tries + 1
                if tries >= _TRIES:
                    raise Unreachable(f"the download of {path} breaks off{_why(error)}") from error
                size = arrived if etag else 0
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
                try:
                    event = json.loads(data)
                except ValueError:
                    raise Unreachable(_no_scalpel(self.url)) from None
                if "error" in event:
                    raise ApiError(event["error"]["message"])
                for choice in event["choices"]:
                    yield choice["delta"].get("content") or ""

    def follow(self, path: str) -> Iterator[dict[str, Any]]:
        """A piece of work, again and again, until it is at a final status; short outages are
        retried.

        Raises:
            Unreachable: nothing answers, at the beginning or for a while.
        """
        last_response, pause = float("-inf"), _POLL_SECONDS
        while True:
            try:
                work = self.get(path)
            except Unreachable:
                if time.monotonic() - last_response > _PATIENCE_SECONDS:
                    raise
            else:
                last_response = time.monotonic()
                yield work
                if work["status"] in _FINAL:
                    return
            time.sleep(pause)
            pause = min(pause * 1.1, _SLOWEST_POLL_SECONDS)

    def _twice(self, send: Callable[[dict[str, str]], Any]) -> Any:
        """Send with a key, and again with the same one where the response is lost."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            return send(key)
        except Lost:
            return send(key)

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        with _readable(self.url):
            response = self._http.request(method, path, **arguments)
        _checked(response)
        try:
            return response.json()
        except ValueError:
            raise Unreachable(_no_scalpel(self.url)) from None


def checked_key(key: str) -> str:
    """A key without the space around it.

    Raises:
        WrongUse: it is none; the key itself is not said.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise WrongUse("the key cannot be one: it has other characters than printable ASCII")
    return key


@contextmanager
def expecting_scalpel(url: str) -> Iterator[None]:
    """Responses that lack what Scalpel's have come from another server."""
    try:
        yield
    except (LookupError, TypeError, AttributeError) as error:
        raise Unreachable(f"{_no_scalpel(url)} ({type(error).__name__}: {error})") from error


def _no_scalpel(url: str) -> str:
    return f"{url} does not answer as Scalpel does: is it its address?"


@contextmanager
def _readable(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise WrongUse(f"{url!r} is no address, such as {DEFAULT_URL} ({error})") from error
    except httpx.ConnectTimeout as error:
        raise Unreachable(f"{url} takes too long to answer") from error
    except httpx.TimeoutException as error:
        raise Lost(f"{url} takes too long to answer") from error
    except httpx.RequestError as error:
        lost = not isinstance(error, (httpx.ConnectError, httpx.LocalProtocolError))
        raise (Lost if lost else Unreachable)(
            f"nothing answers at {url}{_why(error)}: is `scalpel up` running there? "
            "SCALPEL_URL or --url names another address"
        ) from error


def _why(error: Exception) -> str:
    """In words; not of a request that cannot be sent, which quotes its headers."""
    return "" if isinstance(error, httpx.LocalProtocolError) else f" ({error})"


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    status = response.status_code
    try:
        message = _message(response.json())
    except (ValueError, AttributeError, KeyError, TypeError):
        said = " ".join(response.text.split())[:200]
        message = f"{status} from {response.url}{': ' if said else ''}{said}"
    if status == 401:
        message += " (`scalpel login` stores a key; SCALPEL_API_KEY and --key give one)"
    later = status in LATER or "Retry-After" in response.headers
    error = (Unreachable if later else _kind(status))(message)
    error.status = status
    raise error


def _kind(status: int) -> type[ApiError]:
    if status in (401, 403):
        return NotAllowed
    return WrongUse if status < 500 else ApiError


def _message(problem: Any) -> str:
    """What went wrong, and in which field; a line for each where there are several."""
    if isinstance(problem.get("error"), dict):  # OpenAI's shape
        error = problem["error"]
        return f"{error['param']}: {error['message']}" if error.get("param") else error["message"]
    lines = [_field(error) for error in problem.get("errors") or []]
    if len(lines) == 1:
        return lines[0]
    detail = problem.get("detail") or problem.get("title") or str(problem)
    return "\n  ".join([f"{len(lines)} fields are wrong" if lines else detail, *lines])


def _field(error: Any) -> str:
    """The pointer of a field, and what is wrong with it."""
    pointer, detail = error["pointer"], error["detail"]
    named = pointer.strip("/").replace("/", ".") + ": "
    return f"{pointer}: {detail.removeprefix(named)}" if pointer else detail


def _write(response: httpx.Response, file: Path, start: int, told: Told | None) -> None:
    length = response.headers.get("Content-Length")
    size, total = start, None if length is None else start + int(length)
    with file.open("ab" if start else "wb") as out:
        for chunk in response.iter_raw():
            out.write(chunk)
            size += len(chunk)
            if told is not None:
                told(size, total)


def _sha256_of(etag: str) -> str:
    digest = etag.strip('"').removeprefix("sha256:")
    return digest if len(digest) == 64 else ""
