"""One tree of errors for every part of Scalpel; only `app.http.errors` knows how HTTP says them.

Each error has a stable `code` for programs and a `message` for people: what was wrong, what was
expected and, where there is something to do, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the request body, such as `/behavior/undesired/3`."""
    code: str
    detail: str


@dataclass(frozen=True)
class Standing:
    """How far a tenant has used up one of its limits."""

    name: str
    size: int
    left: int
    window: float | None = None
    """Seconds in which all of it is free again; None where only the tenant makes room."""
    full_in: float | None = None
    """Seconds until nothing is used up."""


class ScalpelError(Exception):
    """Base of all errors that Scalpel raises on purpose."""

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(ScalpelError):
    """The request can be understood but not carried out as it stands."""

    code = "invalid_request"

    def __init__(
        self, message: str, *, code: str | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(message, code=code)
        self.errors = tuple(errors)

    @classmethod
    def at(cls, pointer: str, detail: str, code: str = "invalid_value") -> InvalidRequest:
        """One field is wrong; `pointer` is its JSON pointer."""
        return cls(detail, errors=[FieldError(pointer, code, detail)])


class NoChatTemplate(InvalidRequest):
    """A conversation for a base model that takes none."""

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
    """No such thing, or it belongs to another tenant: the two look the same."""

    code = "not_found"


class Conflict(ScalpelError):
    """The request is fine, but not in the state that things are in."""

    code = "conflict"

    def __init__(self, message: str, *, code: str, retry_after: int | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class TooLarge(ScalpelError):
    """A body or a file is larger than allowed."""

    code = "body_too_large"


class QuotaExceeded(ScalpelError):
    """The tenant has used up what it may use for now."""

    code = "quota_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after: int,
        code: str | None = None,
        standing: Standing | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.standing = standing


class Unavailable(ScalpelError):
    """A part that the request needs is away; the same request may go through later."""

    code = "overloaded"

    def __init__(self, message: str, *, code: str, retry_after: int = 5) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class CorruptArtifact(ScalpelError):
    """Stored bytes are not what their record says they are."""

    code = "corrupt_artifact"


class BaseModelUnavailable(ScalpelError):
    """The weights of a base model are missing, broken or not the ones that were pinned."""

    code = "base_model_unavailable"


class EditFailed(ScalpelError):
    """An edit came to an end that is not a success; `code` is one of the contract's."""

    code = "edit_error"
