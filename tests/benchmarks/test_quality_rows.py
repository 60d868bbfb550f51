"""The file that rows of the quality table lie in, and going on where a run was cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality.rows import RULES, RowFile, digests
from models_store.errors import InvalidRequest
from tests.benchmarks.rows import OPTIONS, rates, row


def test_rows_are_there_again_when_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "made" / "rows.jsonl"
    file = RowFile(path)
    made = [row("base", rates(1, 0)), row("random_direction/2", rates(0, 0.5), failed=None)]
    for one in made:
        file.append(one)
    read = RowFile(path)
    assert read.rows == made == file.rows
    assert read.has("tiny", "toxicity", 0, "random_direction/2")
    assert not read.has("tiny", "toxicity", 1, "base")
    assert not read.has("tiny", "toxicity", 0, "random_direction/1")
    assert [one.name for one in read.rows] == ["base", "random_direction"]


def test_a_line_that_was_cut_is_measured_again_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = RowFile(path)
    file.append(row("base", rates(1, 0)))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"base":"tiny","behav')
    read = RowFile(path)
    assert [one.arm for one in read.rows] == ["base"]
    read.append(row("bias", rates(0, 0)))
    assert [one.arm for one in RowFile(path).rows] == ["base", "bias"]


def test_a_file_of_something_else_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(InvalidRequest, match=r"other\.jsonl, line 1: not a row of this table"):
        RowFile(path)
    assert path.read_text() == '{"text": "a"}\n'


def test_rows_that_were_measured_differently_are_not_mixed(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.append(row("base", rates(1, 0)))
    file.require(OPTIONS)
    with pytest.raises(InvalidRequest, match="name another file with --out"):
        file.require(OPTIONS.model_copy(update={"prompts": 200}))
    with pytest.raises(InvalidRequest, match="name another file with --out"):
        file.require(OPTIONS.model_copy(update={"rules": RULES - 1}))


def test_prompts_are_named_and_not_told() -> None:
    one, other = digests(["a secret prompt", "another"])
    assert one != other
    assert "secret" not in one
    assert digests(["a secret prompt"]) == (one,)
