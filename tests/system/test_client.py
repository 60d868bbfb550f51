"""The Python client against the whole service: the blocks of its page, run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from models_store.weights.delta import load_delta
from tests.support.services import own_environment
from tests.system.service import Service

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "client.md"


@pytest.fixture(scope="module")
def page_run(pico_service: Service, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which the page's blocks ran as one program, and what they printed."""
    folder = tmp_path_factory.mktemp("client")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    pico_service.clear()
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env=own_environment(SCALPEL_URL=pico_service.url, PYTHONPATH=str(ROOT / "client")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + pico_service.logs()
    return folder, done.stdout


def test_the_edit_is_made_followed_and_downloaded(page_run: tuple[Path, str]) -> None:
    folder, output = page_run
    delta = load_delta((folder / "kinder.safetensors").read_bytes())

    assert delta.method == "bias"
    for event in ("edit.created None", "edit.stage evaluate", "edit.succeeded"):
        assert event in output


def test_the_export_is_downloaded_whole_and_file_by_file(page_run: tuple[Path, str]) -> None:
    folder, output = page_run
    with zipfile.ZipFile(folder / "kinder-peft.zip") as archive:
        packed = {Path(name).name: archive.read(name) for name in archive.namelist()}

    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(packed)
    weights = (folder / "adapter_model.safetensors").read_bytes()
    assert weights == packed["adapter_model.safetensors"]
    size = len(weights)
    assert f"{size} of {size} bytes" in output


def test_errors_say_what_is_wrong(page_run: tuple[Path, str]) -> None:
    _, output = page_run

    assert "invalid_request /seed " in output
    assert "404 not_found: " in output


def test_the_client_needs_httpx_and_pydantic_alone(tmp_path: Path) -> None:
    code = (
        "import sys, scalpel_client\n"
        "known = {'torch', 'fastapi', 'openai', 'app', 'models_store', 'redis'}\n"
        "assert not known & set(sys.modules)\n"
    )
    environment = own_environment(PYTHONPATH=str(ROOT / "client"))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
