"""Tests on real weights do not pass by being skipped where the weights must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from tests.support.weights import weights


@pytest.mark.parametrize(
    ("environment", "outcome"),
    [({"CI": "true"}, pytest.fail.Exception), ({}, pytest.skip.Exception)],
    ids=["fails in CI", "is skipped elsewhere"],
)
def test_a_test_whose_weights_are_missing(
    environment: dict[str, str], outcome: type[BaseException], tmp_path: Path
) -> None:
    spec = BaseModelSpec(id="missing", source=FolderSource(path=tmp_path / "missing"))
    with pytest.raises(outcome, match="missing"):
        weights(spec, environment)
