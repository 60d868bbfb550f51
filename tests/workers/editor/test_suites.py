"""Suites that a request names are run with the edit, and their data are checked before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models_store.errors import InvalidRequest
from models_store.schemas.report import Report
from models_store.settings import Settings
from tests.workers.conftest import Bench

Body = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """There are data for one suite."""
    file = tmp_path / "suites.toml"
    file.write_text('[refusal]\ndata = { harmless = "prompts.jsonl" }\nmax_new_tokens = 2\n')
    (tmp_path / "prompts.jsonl").write_text('{"text": "what is good"}\n{"text": "who is kind"}\n')
    return settings.model_copy(update={"suites": file})


def test_the_receipt_has_the_suites_that_were_asked_for(bench: Bench, body: Body) -> None:
    _, outcome = bench.edit(**body(suites=["refusal"], effort="quick"))
    report = Report.model_validate_json(bench.file(outcome, "report"))
    (suite,) = report.suites
    assert suite.name == "refusal"
    assert suite.data.startswith("prompts.jsonl sha256:")
    assert [(metric.name, metric.items) for metric in suite.metrics] == [("harmless_refused", 2)]


def test_wrong_data_are_told_before_anything_is_fitted(
    bench: Bench, body: Body, tmp_path: Path
) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"text": "what is good"}\n{"txt": "who"}\n')
    with pytest.raises(InvalidRequest, match=r"prompts\.jsonl, line 2: has no field"):
        bench.edit(**body(suites=["refusal"], effort="quick"))
    assert {stage for stage, _ in bench.told} == {"load"}
