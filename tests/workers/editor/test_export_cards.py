"""What an export carries besides weights: a model card whose lines work, and checksums."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from models_store.cards import CARD_NAME
from models_store.cards.sums import SUMS_NAME
from models_store.schemas.canary import NAME as CANARY
from models_store.weights.peft import CONFIG_NAME
from tests.workers.conftest import Bench, Made
from workers.editor.formats import peft
from workers.editor.jobs.inputs import base_of, mixture_of
from workers.generator.vllm.adapters import RANKS
from workers.runtime.edits.apply import WeightEditor

PROMPT = "the food was very"
LIBRARIES = {
    "native": ("scalpel", "adapter"),
    "peft": ("peft", "adapter"),
    "gguf": ("gguf", "adapter"),
    "merged": ("transformers", "finetune"),
}


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    return shared_bench


@pytest.fixture
def edited(made: Made) -> str:
    """The id of an edit of `pico`."""
    return made.id


def exported(bench: Bench, variant: str, format: str, folder: Path) -> str:
    """The card of an export whose files are put into a folder."""
    outcome = bench.do(bench.submit_export(variant, format))
    folder.mkdir()
    for artifact in outcome.artifacts:
        (folder / artifact.name).write_bytes(bench.file(outcome, artifact.name))
    return (folder / CARD_NAME).read_text(encoding="utf-8")


def logits(model: Any, folder: Path) -> torch.Tensor:
    ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits
    return found


@pytest.mark.parametrize("format", LIBRARIES)
def test_an_export_carries_a_card_and_checksums_of_all_its_files(
    bench: Bench, edited: str, format: str, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    card = exported(bench, f"pico:{edited}@0.5", format, folder)
    data = yaml.safe_load(card.split("---\n")[1])
    assert (data["library_name"], data["base_model_relation"]) == LIBRARIES[format]
    assert data["base_model"] == "pico"
    assert f"## Receipt of `{edited}`" in card
    assert "Exported at strength 0.5" in card
    sums = (folder / SUMS_NAME).read_text()
    named = {line.split("  ")[1] for line in sums.splitlines()}
    assert named == {path.name for path in folder.iterdir()} - {SUMS_NAME, CANARY}
    check = subprocess.run(["sha256sum", "--strict", "-c", SUMS_NAME], cwd=folder)
    assert check.returncode == 0


# Of PEFT, in how it asks a model of transformers.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("format", ["native", "peft", "merged"])
def test_the_lines_of_a_card_load_what_is_exported(
    bench: Bench,
    edited: str,
    pico_folder: Path,
    format: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "export"
    card = exported(bench, f"pico:{edited}", format, folder)
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(folder)
    (folder / "pico").symlink_to(pico_folder)
    found: dict[str, Any] = {"logits": logits}
    code = lines.replace("path/to/the/base/model", "pico")
    code = code.replace("    ...", '    edited = logits(base.model, Path("pico"))')
    exec(code, found)
    if format != "native":
        found["edited"] = logits(found["model"], pico_folder)

    place = bench.submit_export(f"pico:{edited}", "native")
    task = bench.task(place)
    base = base_of(task, dtype="float32")
    plain = logits(base.model, pico_folder)
    with WeightEditor(base).applied(mixture_of(task, task.request.settings.variant)):
        expected = logits(base.model, pico_folder)
    assert (expected - plain).abs().max() > 1e-3
    assert (found["edited"] - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("rank", "told"), [(1, 8), (8, 8), (9, 16), (33, 64), (512, 512)])
def test_a_card_tells_vllm_a_rank_that_it_takes(rank: int, told: int) -> None:
    config = json.dumps({"r": rank}).encode()
    load = peft.use({CONFIG_NAME: config}, "owner/name").load
    assert f"vllm serve owner/name --enable-lora --max-lora-rank {told} --lora-modules" in load
    assert told in RANKS


def test_an_edit_without_a_readable_receipt_is_exported_all_the_same(
    bench: Bench, edited: str, tmp_path: Path
) -> None:
    result = bench.store.work.read("edit", "default", edited).result
    assert result is not None
    report = result.artifact("report")
    assert report is not None
    data = bench.store.objects.read(report.path)
    bench.store.objects.put(report.path, b"{}")
    try:
        card = exported(bench, f"pico:{edited}", "peft", tmp_path / "export")
    finally:
        bench.store.objects.put(report.path, data)
    assert "It cannot be read." in card
