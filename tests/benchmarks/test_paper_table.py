"""The benchmark that makes the paper's table, on a pico model: that it runs, not what it finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.paper import table as paper_table
from models_store.errors import InvalidRequest
from models_store.settings import Settings
from tests.support.pico import save_pico
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.context.budget import BUDGETS
from workers.making.search.search import SearchResult, search


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A pico model whose texts all begin with one token: `bias` then writes into its layers."""
    return save_pico(tmp_path / "base", first_token=True)


def data(folder: Path) -> tuple[Path, Path]:
    """Files of prompts and of a behaviour."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"text": text}) for text in sentences("cruel", 6)))
    texts = folder / "kinder.json"
    texts.write_text(behavior(40).model_dump_json())
    return prompts, texts


def rows_of(shown: str) -> list[list[str]]:
    """The cells of the table in what was printed."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in shown.splitlines()
        if line.startswith("|")
    ]


def test_without_data_it_says_what_to_give(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pico_folder: Path
) -> None:
    for name in ("BASE", "RTP", "TOXIGEN"):
        monkeypatch.delenv(name, raising=False)
    for arguments in ([], ["--base", str(pico_folder)], ["--rtp", "prompts.jsonl"]):
        assert paper_table.main(arguments) == 2
        assert "paper-table needs a base model and prompts" in capsys.readouterr().err


def test_a_wrong_file_is_named_and_nothing_else_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pico_folder: Path
) -> None:
    wrong = tmp_path / "rtp.jsonl"
    wrong.write_text('{"text": "a"}\n{"txt": "b"}\n')
    assert paper_table.main(["--base", str(pico_folder), "--rtp", str(wrong)]) == 2
    assert "rtp.jsonl, line 2: has no field" in capsys.readouterr().err


def test_a_base_is_an_id_a_folder_or_a_commit_on_the_hub(pico_folder: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert paper_table.source_of("smollm2-135m-instruct").type == "package"
    assert paper_table.source_of(str(pico_folder)).type == "folder"
    assert paper_table.source_of(f"meta-llama/Llama-2-7b-hf@{commit}").type == "hub"
    with pytest.raises(InvalidRequest, match="'nothing' is no folder, no id"):
        paper_table.source_of("nothing")


@pytest.mark.slow
def test_what_the_search_finds_is_a_row_and_sets_the_kl_of_the_others(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_folder: Path,
) -> None:
    def picked(*arguments: Any) -> SearchResult:
        """The search, with what came nearest as its winner: a pico model has nothing to gain."""
        found = search(*arguments)
        return replace(found, winner=found.best)

    quick = replace(BUDGETS["quick"], prompts=4, final_prompts=4)
    monkeypatch.setenv("SCALPEL_CACHE", str(tmp_path / "cache"))
    prompts, texts = data(tmp_path)
    arguments = ["--base", str(base_folder), "--rtp", str(prompts)]
    arguments += ["--behavior", str(texts), "--limit", "12"]
    assert paper_table.main(arguments, search=picked, budget=quick) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows[-1][0].startswith("auto (")
    kl = {row[0]: float(row[4]) for row in rows[3:]}
    # Matched on calibration texts and measured on others; those not matched have half of it.
    for probe in ("", ", converged probe"):
        name = f"Model Surgery{probe}, equal KL"
        assert kl[name] == pytest.approx(kl[rows[-1][0]], rel=0.3)


@pytest.mark.slow
def test_every_row_stands_beside_the_papers_figures(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    base_folder: Path,
) -> None:
    monkeypatch.setenv("SCALPEL_CACHE", str(tmp_path / "cache"))
    assert Settings().cache == tmp_path / "cache"
    prompts, texts = data(tmp_path)
    arguments = ["--base", str(base_folder), "--rtp", str(prompts), "--toxigen", str(prompts)]
    arguments += ["--text", str(texts), "--behavior", str(texts), "--limit", "12", "--no-auto"]
    assert paper_table.main(arguments) == 0
    shown = capsys.readouterr().out
    rows = rows_of(shown)
    assert rows[0] == [
        "edit",
        *("RTP toxic, %", "change, points", "paper, %"),
        *("ToxiGen toxic, %", "change, points", "paper, %"),
        *("KL", "perplexity", "paper"),
    ]
    by_name = {row[0].partition(" (")[0]: row for row in rows[2:]}
    assert list(by_name) == [
        "base",
        "Model Surgery, alpha 1.08",
        "random region, same alpha",
        "random direction, same alpha",
        "Model Surgery, converged probe, equal KL",
        "Model Surgery, equal KL",
        "random region, equal KL",
        "random direction, equal KL",
        "bias",
    ]
    assert by_name["base"][3::3] == ["51.4", "79.1", "6.10"]
    assert by_name["Model Surgery, alpha 1.08"][3::3] == ["5.17", "39.9", "6.53"]
    assert by_name["random region, same alpha"][3] == "15.0"
    assert by_name["random direction, same alpha"][3] == "41.2"
    assert 0.02 < float(by_name["bias"][7]) < 0.3
    assert "6 of rtp, 6 of toxigen" in shown
