"""Exports pushed to a hub and pulled from it by the command line."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils._http import default_client_factory

from app.cli.main import main
from models_store.cards.sums import SUMS_NAME, write_sums
from tests.app.support.worker import Worker, edit_body
from tests.support.hub import TOKEN, Hub, running_hub
from tests.support.services import Api

# Of huggingface_hub, in how it sends a file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "somebody/kinder"
CARD = b'---\nbase_model: "owner/name"\n---\n\n# A card\n'
FILES = {
    "adapter_config.json": b'{"r": 1}',
    "adapter_model.safetensors": bytes(range(256)) * 25_000,
    "README.md": CARD,
}
ALL = {
    **FILES,
    SUMS_NAME: write_sums((name, hashlib.sha256(data).hexdigest()) for name, data in FILES.items()),
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    # A worker's, left by an earlier test of this process, refuses http.
    set_client_factory(default_client_factory)
    with running_hub() as running:
        yield running


@pytest.fixture
def export(api: Api, worker: Worker) -> str:
    edit = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
    worker.succeed(edit)
    body = {"variant": "pico:kinder", "format": "peft"}
    id: str = api.http.post("/v1/exports", json=body).json()["id"]
    return id


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Scalpel:
    """The command line, as somebody has it who is signed in to the hub."""

    def __init__(
        self, folder: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self._capture = capture
        self._patch = patch

    def __call__(self, *words: str) -> Done:
        self._patch.setattr(sys, "argv", ["scalpel", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capture.readouterr()
        assert TOKEN not in said.out + said.err
        return Done(int(ended.value.code or 0), said.out, said.err)

    def push(self, api: Api, export: str, *words: str) -> Done:
        return self("push", export, REPO, "--url", api.url, *words)

    def pull(self, *words: str) -> Done:
        return self("pull", REPO, str(self.folder / "got"), *words)


@pytest.fixture
def scalpel(
    hub: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Scalpel:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # The stand-in has no Xet, which the library would send large files by.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    disable_progress_bars()
    return Scalpel(tmp_path, capsys, monkeypatch)


def got(folder: Path) -> dict[str, bytes]:
    """The files; all that is in the folder, but for what a pull that failed may go on with."""
    paths = [path for path in (folder / "got").iterdir() if path.name != ".cache"]
    return {path.name: path.read_bytes() for path in paths}


def test_what_is_pushed_is_pulled(
    api: Api, worker: Worker, export: str, hub: Hub, scalpel: Scalpel, tmp_path: Path
) -> None:
    worker.export(export, ALL)
    pushed = scalpel.push(api, export, "--private")
    assert (pushed.returncode, pushed.stdout.strip()) == (0, f"{hub.url}/{REPO}"), pushed.stderr
    repo = hub.repos[REPO]
    assert repo.files == ALL
    assert repo.private
    assert repo.large == {"adapter_model.safetensors"}
    assert export in repo.messages[-1]
    pulled = scalpel.pull()
    assert (pulled.returncode, pulled.stderr) == (0, ""), pulled.stderr
    assert got(tmp_path) == ALL


def test_an_export_of_an_earlier_version_gets_its_sums_when_it_is_pushed(
    api: Api, worker: Worker, export: str, hub: Hub, scalpel: Scalpel
) -> None:
    worker.export(export, FILES)
    assert scalpel.push(api, export).returncode == 0
    assert hub.repos[REPO].files == ALL
    assert not hub.repos[REPO].private


def test_each_file_that_is_wrong_or_missing_is_named(
    api: Api, worker: Worker, export: str, hub: Hub, scalpel: Scalpel, tmp_path: Path
) -> None:
    worker.export(export, ALL)
    assert scalpel.push(api, export).returncode == 0
    files = hub.repos[REPO].files
    weights = files["adapter_model.safetensors"]
    files["adapter_model.safetensors"] = weights[:-1] + b"\0"
    del files["adapter_config.json"]
    files["pytorch_model.bin"] = b"what nobody pushed"
    pulled = scalpel.pull()
    assert pulled.returncode == 1
    assert pulled.stderr.splitlines() == [
        "missing adapter_config.json",
        "wrong adapter_model.safetensors",
        "scalpel: 2 of 3 files are not what was pushed",
    ]
    assert "pytorch_model.bin" not in got(tmp_path)


def test_sums_that_lead_out_of_the_folder_are_refused(
    hub: Hub, api: Api, worker: Worker, export: str, scalpel: Scalpel
) -> None:
    worker.export(export, ALL)
    assert scalpel.push(api, export).returncode == 0
    hub.repos[REPO].files[SUMS_NAME] = write_sums([("../secret", "0" * 64)])
    pulled = scalpel.pull()
    assert pulled.returncode == 1
    assert "'../secret' is outside its folder" in pulled.stderr


def test_a_name_in_the_sums_does_not_steer_the_terminal(
    hub: Hub, api: Api, worker: Worker, export: str, scalpel: Scalpel
) -> None:
    worker.export(export, ALL)
    assert scalpel.push(api, export).returncode == 0
    hub.repos[REPO].files[SUMS_NAME] = f"{'0' * 64}  a\x1b[2Jb\n".encode()
    assert "\x1b" not in scalpel.pull().stderr


def test_a_damaged_export_is_not_pushed(
    api: Api, worker: Worker, export: str, hub: Hub, scalpel: Scalpel
) -> None:
    worker.export(export, ALL)
    result = api.store.work.read("export", "default", export).result
    assert result is not None
    path = next(one.path for one in result.artifacts if one.name == "adapter_model.safetensors")
    data = FILES["adapter_model.safetensors"]
    api.store.objects.put(path, data[:-1] + b"\0")
    pushed = scalpel.push(api, export)
    assert pushed.returncode == 1
    assert "adapter_model.safetensors is damaged" in pushed.stderr
    assert hub.calls == []


def test_a_private_push_to_a_public_repository_is_refused(
    api: Api, worker: Worker, export: str, hub: Hub, scalpel: Scalpel
) -> None:
    worker.export(export, ALL)
    assert scalpel.push(api, export).returncode == 0
    hub.repos[REPO].files.clear()
    pushed = scalpel.push(api, export, "--private")
    assert pushed.returncode == 1
    assert "is there already, and public" in pushed.stderr
    assert hub.repos[REPO].files == {}


def test_what_cannot_be_done_is_said_without_the_token(
    api: Api, worker: Worker, export: str, hub: Hub, scalpel: Scalpel
) -> None:
    waiting = scalpel.push(api, export)
    assert (waiting.returncode, waiting.stderr) == (
        1,
        f"scalpel: {export} is queued: only one that has succeeded has files\n",
    )
    worker.export(export, ALL)
    wrong = scalpel.push(api, export, "--token", "hf_wrong")
    assert wrong.returncode == 4
    assert "hf_wrong" not in wrong.stderr
    assert "401" in wrong.stderr
    missing = scalpel.pull()
    assert (missing.returncode, "Repository Not Found" in missing.stderr) == (4, True)
    away = scalpel.pull("--endpoint", "http://127.0.0.1:1")
    assert (away.returncode, away.stderr[:16]) == (3, "scalpel: the hub")
    assert TOKEN not in scalpel("push", "--help").stdout


def test_a_private_repository_is_pulled_with_a_token_only(
    api: Api, worker: Worker, export: str, scalpel: Scalpel, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.export(export, ALL)
    assert scalpel.push(api, export, "--private").returncode == 0
    monkeypatch.delenv("HF_TOKEN")
    assert scalpel.pull().returncode == 4
    assert scalpel.pull("--token", TOKEN).returncode == 0


def test_starting_takes_no_library_of_the_hub() -> None:
    code = "import sys, app.cli.main; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
