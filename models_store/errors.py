"""The errors of all of Scalpel; only `app.http.errors` maps them to HTTP.

Each has a stable `code` for programs and a `message` for people: what was wrong, what was expected
and, if anything can be done, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAMED = 3


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the request body, such as `/behavior/undesired/3`."""
    code: str
    detail: str


@dataclass(frozen=True)
class LimitUse:
    """How much of one of its limits a tenant has used."""

    name: str
    size: int
    left: int
    window: float | None = None
    """Seconds in which the limit refills; None where only the tenant can free some of it."""
    full_in: float | None = None
    """Seconds until all of it is free."""


class ScalpelError(Exception):
    """Base of all errors that Scalpel raises on purpose."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(ScalpelError):
    """The request can be read but not carried out."""

    code = "invalid_request"

    def __init__(
        self, message: str, *, code: str | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.errors = tuple(errors)

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> InvalidRequest:
        """Several fields are wrong: the message names the first three."""
        more = len(errors) - _NAMED
        details = [error.detail for error in errors[:_NAMED]]
        details += [f"and {more} more"] if more > 0 else []
        return cls("; ".join(details), errors=errors)

    @classmethod
    def at(cls, pointer: str, detail: str, code: str = "invalid_value") -> InvalidRequest:
        """One field is wrong; `pointer` is its JSON pointer."""
        return cls(detail, errors=[FieldError(pointer, code, detail)])


class NoChatTemplate(InvalidRequest):
    """A conversation for a base model without a chat template."""

    code = "no_chat_template"

    def __init__(self, base_model: str, pointer: str) -> None:
        detail = (
            f"{base_model} has no chat template: ask it for plain text, as /v1/completions does"
        )
        super().__init__(detail, errors=[FieldError(pointer, self.code, detail)])


class Malformed(ScalpelError):
    """The request cannot be read: broken JSON, an invalid query or cursor."""

    code = "malformed_json"


class PolicyRefused(ScalpelError):
    """The operator's policy does not allow it."""

    code = "policy_refused"


class NotFound(ScalpelError):
    """It does not exist, or belongs to another tenant: the two look the same."""

    code = "not_found"


class Conflict(ScalpelError):
    """The request is valid, but not in the present state."""

    code = "conflict"

    def __init__(self, message: str, *, code: str, retry_after: int | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class TooLarge(ScalpelError):
    """A body or a file is larger than allowed."""

    code = "body_too_large"


class QuotaExceeded(ScalpelError):
    """The tenant has reached one of its limits."""

    code = "quota_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after: int,
        code: str | None = None,
        use: LimitUse | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.use = use


class Unavailable(ScalpelError):
    """A part that the request needs is down or busy; the same request may succeed later."""

    code = "overloaded"

    def __init__(self, message: str, *, code: str, retry_after: int = 5) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class NewerRecord(ScalpelError):
    """A stored record of a later version of Scalpel, while several run on one store."""

    code = "newer_record"
    retry_after = 5


class CorruptArtifact(ScalpelError):
    """Stored bytes are not what was written."""

    code = "corrupt_artifact"


class BaseModelUnavailable(ScalpelError):
    """The weights of a base model are missing, broken or not those that were registered."""

    code = "base_model_unavailable"


class EditFailed(ScalpelError):
    """An edit failed; `code` is one of the contract's."""

    code = "edit_error"
