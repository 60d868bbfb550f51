"""schemathesis shoots at the API over HTTP: no error of the server's, no answer that its own
description does not have, nothing accepted that it forbids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.security.fuzzing import Campaign, run_campaign
from tests.security.target import running_target

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

CASES = 4_000


def campaign(folder: Path, auth: str, **options: Any) -> Campaign:
    with running_target(folder, auth) as target:
        done = run_campaign(target, folder, seed=1, **options)
        assert target.errors == []
        assert "Traceback" not in target.said(), target.said()[-4000:]
    assert done.passed, done.output[-20_000:]
    return done


def test_every_call_answers_as_described_where_no_keys_are_needed(tmp_path: Path) -> None:
    """With what covers the schemas; random and chained calls come with the long tests."""
    done = campaign(tmp_path, "none", examples=3, phases=("examples", "coverage"))
    assert done.cases >= CASES


@pytest.mark.long
@pytest.mark.parametrize("auth", ["none", "keys"])
def test_every_call_answers_as_described_at_random_and_in_chains(auth: str, tmp_path: Path) -> None:
    assert campaign(tmp_path, auth, examples=6 if auth == "none" else 1).cases >= CASES // 2
