"""What is changed is there, and so are the tests that are to notice it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.changes import mutants
from tests.mutants.targets import AREAS, EQUIVALENT, Target

TARGETS = [target for targets in AREAS.values() for target in targets]


@pytest.mark.parametrize("target", TARGETS, ids=[target.path for target in TARGETS])
def test_modules_and_tests_are_there(target: Target) -> None:
    assert all(Path(path).is_file() for path in (target.path, *target.tests))


@pytest.mark.parametrize("path", EQUIVALENT)
def test_no_exception_outlives_its_line(path: str) -> None:
    made = {one.changed for one in mutants(path, Path(path).read_text(encoding="utf-8"))}
    assert set(EQUIVALENT[path]) <= made
