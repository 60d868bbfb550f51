"""The whole quality benchmark on a pico model: that it runs and goes on, not what it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quality import main as quality
from benchmarks.quality.rows import RowFile
from tests.benchmarks.test_quality_data import refusal, texts, write
from tests.support.pico import save_pico
from tests.workers.evaluation.texts import sentences

RIVALS = "paper,paper_alpha,paper_9_epochs,random_direction,random_region,steering,ablation,prompt"


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A pico model whose texts all begin with one token: `bias` then writes into its layers."""
    return save_pico(tmp_path / "base", first_token=True)


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of rows; texts and what is remembered lie beside it."""
    monkeypatch.setenv("SCALPEL_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SCALPEL_CACHE", str(tmp_path / "cache"))
    own = texts(tmp_path / "data", "negative_sentiment")
    openings = [{"text": " ".join(text.split()[:4])} for text in sentences("cruel", 20, seed=1)]
    write(own / "elicit_prompts.jsonl", openings)
    return tmp_path / "rows" / "rows.jsonl"


@pytest.mark.slow
def test_a_run_that_was_cut_measures_only_what_is_missing(
    capsys: pytest.CaptureFixture[str], base_folder: Path, out: Path
) -> None:
    run = ["--base", str(base_folder), "--behaviors", "negative_sentiment", "--prompts", "8"]
    run += ["--out", str(out), "--arms"]
    assert quality.main([*run, "natural"]) == 0
    first = RowFile(out).rows
    assert [row.arm for row in first] == ["base", "natural"]
    assert quality.main([*run, f"natural,{RIVALS}"]) == 0
    rows = RowFile(out).rows
    assert rows[:2] == first
    assert [row.arm for row in rows[2:]] == [
        *("paper", "paper_alpha", "paper_9_epochs"),
        *(f"random_{kind}/{number}" for kind in ("direction", "region") for number in (1, 2, 3)),
        *("steering", "ablation", "prompt"),
    ]
    assert {row.arm: row.failed for row in rows if row.failed} == {}
    of = {row.arm: row for row in rows}
    assert of["paper_alpha"].target_kl is None
    for arm in ("paper", "paper_9_epochs", "random_direction/1", "steering"):
        assert of[arm].target_kl == of["steering"].target_kl
        assert of[arm].harm.kl == pytest.approx(of["natural"].harm.kl, rel=0.5)
        assert of[arm].sheets["test"].prompts == of["base"].sheets["test"].prompts
    capsys.readouterr()
    assert quality.main(["--out", str(out), "--table"]) == 0
    shown = capsys.readouterr().out
    assert "### negative_sentiment" in shown
    assert "| random_direction | " in shown
    assert (out.parent / "base-negative_sentiment.svg").read_text().startswith("<svg")
    text = sentences("cruel", 1, seed=1)[0].split()[:4]
    assert " ".join(text) not in out.read_text()


@pytest.mark.slow
def test_refusals_are_counted_on_three_sets_and_a_search_that_fails_is_told(
    base_folder: Path, out: Path, tmp_path: Path
) -> None:
    refusal(tmp_path / "data")
    run = ["--base", str(base_folder), "--behaviors", "refusal", "--prompts", "6"]
    assert quality.main([*run, "--out", str(out), "--arms", "auto,bias"]) == 0
    rows = {row.arm: row for row in RowFile(out).rows}
    assert set(rows["base"].sheets) == {"harmful", "xstest_safe", "harmless"}
    assert {len(sheet.prompts) for sheet in rows["base"].sheets.values()} == {6}
    auto = rows["auto"]
    assert auto.failed or auto.harm.kl_preserve is not None
    measured = [row for row in rows.values() if row.harm.kl is not None]
    assert measured
    assert all(row.harm.kl_preserve is not None for row in measured)


def test_an_arm_that_there_is_not_is_refused(
    capsys: pytest.CaptureFixture[str], base_folder: Path, out: Path
) -> None:
    run = ["--base", str(base_folder), "--behaviors", "negative_sentiment", "--out", str(out)]
    assert quality.main([*run, "--arms", "magic"]) == 2
    assert "no arm 'magic'; there are ablation," in capsys.readouterr().err
    assert not out.exists()
