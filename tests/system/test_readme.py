"""The README's commands, run as they stand there, do what it says."""

from __future__ import annotations

import json
import zipfile

import pytest

from models_store.weights.delta import load_delta
from tests.system.conftest import ReadmeRun

pytestmark = [pytest.mark.system, pytest.mark.smollm2, pytest.mark.timeout(900)]


def test_every_command_succeeds(readme_run: ReadmeRun) -> None:
    assert readme_run.status == 0, readme_run.output[-2000:] + readme_run.errors


def test_the_edit_works_and_its_receipt_says_so(readme_run: ReadmeRun) -> None:
    summary = readme_run.edit["report_summary"]

    assert readme_run.edit["status"] == "succeeded"
    # By the leading scorer: the whole interval of the change lies below zero.
    assert summary["edited"] < summary["base"]
    assert summary["high"] < 0
    assert summary["verdict"] in readme_run.output


def test_the_downloaded_delta_is_a_small_one_of_that_base(readme_run: ReadmeRun) -> None:
    data = (readme_run.folder / "kinder.safetensors").read_bytes()
    delta = load_delta(data)

    assert len(data) < 500_000
    assert delta.method == "bias"
    assert {term.module for term in delta.terms} == {"mlp.down_proj"}


def test_the_comparison_has_one_text_a_strength(readme_run: ReadmeRun) -> None:
    line = next(line for line in readme_run.output.splitlines() if '"comparison"' in line)
    comparison, _ = json.JSONDecoder().raw_decode(line[line.index('{"object":"comparison"') :])

    outputs = comparison["results"][0]["outputs"]
    assert [output["strength"] for output in outputs] == [0, 0.5, 1]
    assert len({output["text"] for output in outputs}) == 3


def test_the_completion_streams_to_its_end(readme_run: ReadmeRun) -> None:
    assert '"object": "chat.completion.chunk"' in readme_run.output
    assert "data: [DONE]" in readme_run.output


def test_the_adapter_is_proved_and_holds_what_peft_wants(readme_run: ReadmeRun) -> None:
    with zipfile.ZipFile(readme_run.folder / "kinder-peft.zip") as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}

    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "'passed': True" in readme_run.output
