"""Python client of Scalpel, edit-as-a-service for large language models."""

from __future__ import annotations

from scalpel_client import errors, models, params
from scalpel_client._async.client import AsyncScalpel
from scalpel_client._base import Unknown
from scalpel_client._shared.defaults import VERSION
from scalpel_client._sync.client import Scalpel
from scalpel_client.errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DownloadError,
    FieldError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ScalpelError,
    SecretLostError,
    StreamError,
    UnprocessableEntityError,
    WaitTimeoutError,
    WebhookVerificationError,
    WorkFailedError,
)
from scalpel_client.models import Edit, Event, Export, Receipt

__version__ = VERSION
__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncScalpel",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "DownloadError",
    "Edit",
    "Event",
    "Export",
    "FieldError",
    "InternalServerError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "Receipt",
    "Scalpel",
    "ScalpelError",
    "SecretLostError",
    "StreamError",
    "Unknown",
    "UnprocessableEntityError",
    "WaitTimeoutError",
    "WebhookVerificationError",
    "WorkFailedError",
    "errors",
    "models",
    "params",
]
