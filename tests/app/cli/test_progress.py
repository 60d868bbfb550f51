"""How much of an edit is done, and how long it will still take."""

from __future__ import annotations

import io
from unittest.mock import create_autospec

import pytest
from rich.console import Console

from app.cli.client import Client
from app.cli.progress import finished, show, time_left
from app.cli.work.making import follow
from app.domain.edits.shares import share_done

PARTS = {"fit": 60.0, "search": 120.0, "test": 20.0}


@pytest.mark.parametrize(
    ("stage", "progress", "done"),
    [
        (None, 0.0, 0.0),
        ("load", 0.5, 0.0),
        ("extract", 0.5, 0.15),
        ("probe", 0.1, 0.3),
        ("tune", 0.0, 0.3),
        ("tune", 0.5, 0.6),
        ("evaluate", 0.5, 0.95),
        ("publish", 0.0, 1.0),
    ],
)
def test_a_stage_counts_by_what_it_is_expected_to_take(
    stage: str | None, progress: float, done: float
) -> None:
    assert share_done(stage, progress, PARTS) == pytest.approx(done)


def test_a_method_without_a_search_goes_from_the_fit_to_the_test() -> None:
    assert share_done("evaluate", 0.0, {"fit": 10.0, "search": 0.0, "test": 30.0}) == 0.25


def test_the_time_left_is_the_estimate_at_first_and_the_pace_at_last() -> None:
    assert time_left(0.0, 0.0, 600) == "about 10 min left"
    # Twice as slow as expected: half way, as much by one as by the other.
    assert time_left(0.5, 600, 600) == "about 8 min left"
    assert time_left(0.9, 5400, 600) == "about 9 min left"
    assert time_left(0.99, 600, 600) == "less than a minute left"


def test_without_an_estimate_the_pace_tells_as_soon_as_there_is_one() -> None:
    assert time_left(0.0, 30.0, None) == ""
    assert time_left(0.25, 100, None) == "about 5 min left"


def test_an_edit_that_has_ended_is_not_shown_as_not_begun() -> None:
    states = [
        {"stage": "tune", "status": "running", "progress": 0.5, "finished_at": None},
        {"stage": None, "status": "succeeded", "progress": 1.0, "finished_at": 1},
    ]
    client = create_autospec(Client, instance=True)
    client.follow.return_value = iter(states)
    console = Console(file=io.StringIO(), width=80)
    assert show(client, "edit_1", console, estimate=PARTS) == states[-1]
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[:2] for line in lines if line.strip()] == [["tune", "60%"]]


def test_ctrl_c_names_a_command_that_can_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    client = create_autospec(Client, instance=True)
    client.follow.side_effect = KeyboardInterrupt
    with pytest.raises(SystemExit):
        finished(client, "/v1/base_models/mine")
    said = " ".join(capsys.readouterr().err.split())
    assert "mine goes on; `scalpel models base`" in said
    assert "watch" not in said


def test_the_id_is_said_before_the_time_is_estimated(capsys: pytest.CaptureFixture[str]) -> None:
    client = create_autospec(Client, instance=True)
    client.post.side_effect = KeyboardInterrupt
    with pytest.raises(SystemExit) as ended:
        follow(client, {"id": "edit_1", "warnings": []}, {}, wait=True, as_json=False)
    assert (ended.value.code, capsys.readouterr().out) == (130, "edit_1\n")
