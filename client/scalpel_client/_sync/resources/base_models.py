# Generated from `_async` by `make client`: do not change it here.
"""`client.base_models`"""

from __future__ import annotations

from scalpel_client._shared.defaults import Deadline
from scalpel_client._sync.calls import base_models as calls
from scalpel_client._sync.waiting import succeeded
from scalpel_client.models import BaseModel


class BaseModels(calls.BaseModels):
    """Models that can be edited."""

    def wait(self, base_model_id: str, *, timeout: float | None = None) -> BaseModel:
        """Wait until a base model is registered.

        Raises:
            WorkFailedError: its registration has failed.
            WaitTimeoutError: it has not ended after `timeout` seconds, and goes on.
        """
        return succeeded(self, base_model_id, Deadline(timeout))
