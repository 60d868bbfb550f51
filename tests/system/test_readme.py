"""The README's commands, run as they stand there, do what it says.

On a pico model, and by `make test-all` on the real one.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models_store.weights.delta import load_delta
from tests.system.conftest import ONE_THREAD
from tests.system.service import Commands, Service, run_commands, running_service

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

README = Path(__file__).parents[2] / "README.md"
REAL = pytest.param(
    "smollm2", marks=[pytest.mark.smollm2, pytest.mark.long, pytest.mark.timeout(3600)]
)


@dataclass(frozen=True)
class ReadmeRun:
    """What the README's commands did."""

    commands: Commands
    folder: Path
    edit: dict[str, Any]

    @property
    def output(self) -> str:
        return self.commands.output


@pytest.fixture(scope="module", params=["pico", REAL])
def readme_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReadmeRun]:
    """The README's block of commands, word for word, in a folder of its own."""
    folder = tmp_path_factory.mktemp("readme")
    if request.param == "pico":
        yield run_readme(request.getfixturevalue("pico_service"), folder)
        return
    request.getfixturevalue("smollm2_folder")
    with running_service(folder / "data", **ONE_THREAD) as service:
        yield run_readme(service, folder)


def run_readme(service: Service, folder: Path) -> ReadmeRun:
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "curl" in block]
    service.clear()
    commands = run_commands(service, code, folder)
    with service.client() as client:
        (listed,) = client.get("/v1/edits").json()["data"]
        edit = client.get(f"/v1/edits/{listed['id']}").json()
    return ReadmeRun(commands, folder, edit)


def test_every_command_succeeds(readme_run: ReadmeRun) -> None:
    assert readme_run.commands.status == 0, readme_run.output[-2000:] + readme_run.commands.errors


def test_the_edit_ends_well_and_its_receipt_is_shown(readme_run: ReadmeRun) -> None:
    assert readme_run.edit["status"] == "succeeded"
    assert readme_run.edit["report_summary"]["verdict"] in readme_run.output


@pytest.mark.parametrize("readme_run", [REAL], indirect=True)
def test_the_edit_works_and_its_receipt_says_so(readme_run: ReadmeRun) -> None:
    summary = readme_run.edit["report_summary"]

    # By the leading scorer: the whole interval of the change lies below zero.
    assert summary["edited"] < summary["base"]
    assert summary["high"] < 0


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
