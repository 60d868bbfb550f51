"""Real weights, which tests need that random ones do not convince."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from models_store.errors import BaseModelUnavailable
from models_store.schemas.catalogue import BaseModelSpec
from models_store.settings import Settings
from workers.runtime.base_models import materialise


def weights(spec: BaseModelSpec, environment: Mapping[str, str] = os.environ) -> Path:
    """The model's folder in the user's cache, converted at first use.

    Where it cannot be had, the test is skipped; in CI, which must have it, the test fails.
    """
    try:
        return materialise(spec.source, Settings().cache)
    except BaseModelUnavailable as error:
        if environment.get("CI", "").lower() in ("1", "true"):
            pytest.fail(error.message)
        pytest.skip(error.message)
