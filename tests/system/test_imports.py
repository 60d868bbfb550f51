"""An adapter that PEFT made, sent as a form and served: what is said is what PEFT's model says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from typer.testing import CliRunner

from app.cli import main as cli
from models_store.schemas.catalogue import SMOLLM2
from tests.support.adapters import make_adapter
from tests.system.service import Service
from workers.runtime.loading import load_base

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

PROMPT = "the food was"


def said_by_peft(folder: Path, adapter: Path, tokens: int) -> str:
    base = load_base(folder, device="cpu", dtype="float32")
    model = PeftModel.from_pretrained(base.model, adapter)
    ids = torch.tensor([base.tokenizer(PROMPT)["input_ids"]])
    length = ids.shape[1]
    with torch.no_grad():
        for _ in range(tokens):
            following = model(ids).logits[0, -1].argmax()
            if int(following) in base.stop_ids:
                break
            ids = torch.cat([ids, following.view(1, 1)], dim=1)
    text: str = base.tokenizer.decode(ids[0, length:], skip_special_tokens=True)
    return text


def test_an_adapter_is_sent_and_served(
    pico_service: Service, edited_pico_folder: Path, tmp_path: Path
) -> None:
    base = load_base(edited_pico_folder, device="cpu", dtype="float32")
    adapter = make_adapter(base, tmp_path / "adapter", r=2)
    pico_service.clear()
    with pico_service.client() as client:

        def say(model: str) -> str:
            body = {"model": model, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
            answer = client.post("/v1/completions", json=body)
            answer.raise_for_status()
            return str(answer.json()["choices"][0]["text"])

        names = ("adapter_config.json", "adapter_model.safetensors")
        files = [("file", (name, (adapter / name).read_bytes())) for name in names]
        data = {"base_model": SMOLLM2.id, "suffix": "theirs"}
        sent = client.post("/v1/imports", data=data, files=files)
        assert sent.status_code == 201, sent.text
        edit = sent.json()
        while edit["finished_at"] is None:
            time.sleep(0.2)
            edit = client.get(f"/v1/edits/{edit['id']}", params={"wait": 30}).json()
        assert edit["status"] == "succeeded", edit["error"]
        assert edit["imported"]["facts"]["proof"]["loader"] == "peft"

        assert say(f"{SMOLLM2.id}:theirs") == said_by_peft(edited_pico_folder, adapter, 12)
        assert say(f"{SMOLLM2.id}:theirs") != say(SMOLLM2.id)
        assert say(f"{SMOLLM2.id}:theirs@0") == say(SMOLLM2.id)


def test_the_command_line_imports_a_folder(
    pico_service: Service, edited_pico_folder: Path, tmp_path: Path
) -> None:
    base = load_base(edited_pico_folder, device="cpu", dtype="float32")
    adapter = make_adapter(base, tmp_path / "adapter", ("q_proj",), r=2)
    pico_service.clear()
    run = CliRunner().invoke(
        cli.app,
        ["import", SMOLLM2.id, str(adapter), "--suffix", "mine", "--url", pico_service.url],
    )
    assert run.exit_code == 0, run.output
    assert f" {SMOLLM2.id}:edit_" in run.output
