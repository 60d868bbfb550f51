"""The benchmark of lists on S3, over a few edits and without a delay."""

from __future__ import annotations

import json

import pytest

from benchmarks.serving.s3_lists import Figure, main, notes

pytestmark = [pytest.mark.system, pytest.mark.slow]

CLAIMS = [
    "first page of 100 edits",
    "pages from the middle, median",
    "pages from the middle, worst",
    "`GET /v1/models`",
    "`GET /v1/models` again",
    "`POST /v1/edits`, p99",
    "daily sweep",
    "daily sweep, growth of memory",
]


def test_every_figure_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--edits", "200", "--delay", "0", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["claim"].rpartition(", against ")[0].rpartition(", ")[0] for line in lines] == (
        CLAIMS
    )
    assert all(line["ratio"] >= 0 for line in lines)


def test_a_figure_is_held_against_its_goal() -> None:
    claim = Figure("sweep", 45, 300, "MiB").claim()
    assert claim is not None
    assert claim.claim == "sweep, 45.00 MiB, against 300 MiB"
    assert claim.ratio == pytest.approx(0.15)
    assert claim.met


def test_what_has_no_goal_is_in_the_notes() -> None:
    figures = [Figure("one", 1.5), Figure("other", 2.5, 2)]
    assert figures[0].claim() is None
    assert notes(figures, 1_000, 0.03) == (
        "1,000 edits that have ended and 20 queued ones, 30 ms a request. one, 1.50 s."
    )
