"""What goes wrong, as a tree: `ScalpelError` is above all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import ValidationError


class ScalpelError(Exception):
    """Anything that this client raises on purpose."""


class APIError(ScalpelError):
    """A request that did not bring what it should."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class APIConnectionError(APIError):
    """Nothing answers, or the connection broke."""


class APITimeoutError(APIConnectionError):
    """No response came in time."""


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request."""

    pointer: str
    """JSON pointer into the body, such as `/behavior/undesired/3`."""
    code: str
    detail: str


class APIStatusError(APIError):
    """A response that is not a success."""

    def __init__(self, response: httpx.Response) -> None:
        """Args:
        response: with its body read.
        """
        body = _json(response)
        inner = body.get("error")
        openai: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
        self.status_code = response.status_code
        self.code: str = str(body.get("code") or openai.get("code") or f"http_{self.status_code}")
        """Stable name of what is wrong: the API's own page `/docs/errors` has all."""
        self.errors = tuple(_field_errors(body))
        """What is wrong with which fields."""
        self.param: str | None = self.errors[0].pointer if self.errors else openai.get("param")
        """The field that is wrong, as a JSON pointer into the body."""
        self.request_id: str | None = response.headers.get("x-request-id")
        self.retry_after = seconds(response.headers.get("retry-after"))
        """Seconds after which it may be tried again, if the API says so."""
        self.response = response
        self.body = body
        detail = body.get("detail") or openai.get("message") or response.text or "no details"
        lines = [f"{self.status_code} {self.code}: {detail}"]
        lines += [f"  {error.pointer}: {error.detail}" for error in self.errors]
        super().__init__("\n".join(lines))


class APIResponseValidationError(APIError):
    """A success that is not what this API answers with, such as a page of a proxy."""

    def __init__(self, response: httpx.Response, reason: ValidationError | str) -> None:
        """Args:
        response: its body need not be read.
        reason: why it is not what is expected.
        """
        self.response = response
        self.status_code = response.status_code
        kind = response.headers.get("content-type", "no type")
        why = reason if isinstance(reason, str) else _first(reason)
        super().__init__(
            f"{self.status_code} of {response.request.url.path} ({kind}) is not what the API"
            f" answers with: {why}"
        )


class SecretLostError(APIError):
    """The response with a new secret was lost, and its repeat cannot tell it again."""

    def __init__(self, id: str) -> None:
        super().__init__(
            f"{id} was made, but the response with its secret was lost, and secrets are told once:"
            f" revoke or delete {id}, and ask for another"
        )
        self.id = id
        """What was made, and is of no use now."""


class BadRequestError(APIStatusError):
    """400"""


class AuthenticationError(APIStatusError):
    """401"""


class PermissionDeniedError(APIStatusError):
    """403"""


class NotFoundError(APIStatusError):
    """404"""


class ConflictError(APIStatusError):
    """409"""


class UnprocessableEntityError(APIStatusError):
    """422: a field is wrong; `param` says which."""


class RateLimitError(APIStatusError):
    """429: `retry_after` says when to come back."""


class InternalServerError(APIStatusError):
    """500 and above"""


class StreamError(APIError):
    """The API ended a stream of events with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class WorkFailedError(ScalpelError):
    """An edit, an export or a registration that was waited for has failed or was canceled."""

    def __init__(self, work: Any) -> None:
        """Args:
        work: the edit, export or base model as it is now.
        """
        self.work = work
        self.code: str = work.error.code if work.error is not None else work.status
        reason = f": {work.error.message} ({self.code})" if work.error is not None else ""
        super().__init__(f"{work.object} {work.id} has ended as {work.status}{reason}")


class WaitTimeoutError(ScalpelError, TimeoutError):
    """What was waited for has not ended in time; it goes on."""


class DownloadError(ScalpelError):
    """What has arrived is not what its checksum says."""


class WebhookVerificationError(ScalpelError):
    """A request that is not signed with the webhook's secret, or not now."""


_BY_STATUS = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def status_error(response: httpx.Response) -> APIStatusError:
    """The error that a response is."""
    status = response.status_code
    kind = InternalServerError if status >= 500 else _BY_STATUS.get(status, APIStatusError)
    return kind(response)


def seconds(header: str | None) -> float | None:
    """`Retry-After` where it is a number of seconds, as that of this API always is."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None


def _first(error: ValidationError) -> str:
    """Where and what: without the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = "/".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _json(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _field_errors(body: Mapping[str, Any]) -> list[FieldError]:
    return [
        FieldError(str(one.get("pointer", "")), str(one.get("code", "")), str(one.get("detail")))
        for one in body.get("errors") or ()
        if isinstance(one, Mapping)
    ]
