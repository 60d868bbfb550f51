"""Downloads from a hub: a real HTTP server with the hub's few answers stands for it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.net.addresses import AddressRefused
from models_store.schemas.catalogue import HubSource
from tests.support.pico import save_pico
from workers.runtime.base_models import check, fetch_data_file, fingerprint
from workers.runtime.base_models.hub import download, download_data_file, download_edit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/pico"


class _Hub(ThreadingHTTPServer):
    """Serves one folder as one repository at one commit."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Answers)
        self.folder = folder
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        """That came with requests."""
        self.spoilt: str | None = None
        """Name of a file that is sent with a wrong byte."""
        self.moved_to: str | None = None
        """Where files are; None: here."""
        self.endless = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may hang up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: _Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """What is known of some paths of a data set."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        files = [self.server.folder / path for path in asked["paths"]]
        if self.path == f"/api/datasets/{REPO}/paths-info/{COMMIT}":
            found = [self._listed(file) for file in files if file.exists()]
            self._send(json.dumps(found).encode())
        else:
            self._refuse("RepoNotFound", 404)

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        path = self.path.partition("?")[0].replace("/datasets/", "/", 1)
        if path.startswith(f"/api/models/{REPO}/") and path.endswith(f"/{COMMIT}"):
            if self.server.endless:
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b" " * 2**20)
            everything = "recursive=true" in self.path
            found = self.server.folder.rglob("*") if everything else self.server.folder.iterdir()
            self._send(json.dumps([self._listed(file) for file in found]).encode())
        elif path.startswith(f"/{REPO}/resolve/{COMMIT}/"):
            name = path.partition(f"{COMMIT}/")[2]
            self.server.asked.append(name)
            if self.server.moved_to is not None and self.command == "GET":
                self.send_response(302)
                self.send_header("Location", self.server.moved_to + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = (self.server.folder / name).read_bytes()
            if name == self.server.spoilt:
                data = data[:-1] + bytes([data[-1] ^ 1])
            self._send(data)
        elif REPO in path:
            self._refuse("RevisionNotFound", 404)
        elif "gated" in path:
            self._refuse("GatedRepo", 403)
        else:
            self._refuse("RepoNotFound", 404)

    def _listed(self, file: Path) -> dict[str, object]:
        path = str(file.relative_to(self.server.folder))
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "0" * 40}
        data = file.read_bytes()
        listed: dict[str, object] = {
            "type": "file",
            "path": path,
            "size": len(data),
            "oid": hashlib.sha1(data).hexdigest(),
        }
        if file.suffix in (".safetensors", ".jsonl"):
            sha256 = hashlib.sha256(data).hexdigest()
            listed["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
        return listed

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, code: str, status: int) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[_Hub]:
    server = _Hub(save_pico(tmp_path / "served"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_weights_and_tokenizer_come_and_nothing_that_runs(hub: _Hub, tmp_path: Path) -> None:
    (hub.folder / "modeling_evil.py").write_text("import os; os.abort()")
    (hub.folder / "pytorch_model.bin").write_bytes(b"pickle")
    (hub.folder / "consolidated.safetensors").write_bytes(b"second copy")
    (hub.folder / "original").mkdir()
    (hub.folder / "original" / "params.json").write_text("{}")
    target = tmp_path / "target"
    target.mkdir()
    download(HubSource(repo=REPO, revision=COMMIT), target, endpoint=hub.url)
    assert sorted(path.name for path in target.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert check(target) == check(hub.folder)
    assert fingerprint(target) == fingerprint(hub.folder)
    assert not {"modeling_evil.py", "pytorch_model.bin"} & set(hub.asked)


def test_of_an_edit_its_files_come_if_they_are_not_too_large(hub: _Hub, tmp_path: Path) -> None:
    (hub.folder / "adapter_config.json").write_text("{}")
    (hub.folder / "adapter_model.bin").write_bytes(b"pickle")
    target, source = tmp_path / "target", HubSource(repo=REPO, revision=COMMIT)
    target.mkdir()
    with pytest.raises(InvalidRequest, match=r"bytes, over 1000"):
        download_edit(source, target, 1000, endpoint=hub.url)
    assert hub.asked == []
    download_edit(source, target, 10**9, endpoint=hub.url)
    names = sorted(path.name for path in target.iterdir())
    assert names == ["adapter_config.json", "model.safetensors"]
    nowhere = HubSource(repo="someone/else", revision=COMMIT)
    with pytest.raises(InvalidRequest, match="no repository someone/else"):
        download_edit(nowhere, target, 10**9, endpoint=hub.url)


def test_only_base_models_are_downloaded_with_the_operator_s_token(
    hub: _Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_operator")
    source = HubSource(repo=REPO, revision=COMMIT)
    targets = [tmp_path / name for name in ("edit", "base")]
    for target in targets:
        target.mkdir()
    download_edit(source, targets[0], 10**9, endpoint=hub.url)
    assert hub.tokens == {None}
    download(source, targets[1], endpoint=hub.url)
    assert "Bearer hf_operator" in hub.tokens
    gated = HubSource(repo="someone/gated", revision=COMMIT)
    with pytest.raises(InvalidRequest, match="no token is used here: download its files"):
        download_edit(gated, targets[0], 10**9, endpoint=hub.url)


def test_a_file_with_other_bytes_than_named_is_not_taken(hub: _Hub, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    source = HubSource(repo=REPO, revision=COMMIT)
    hub.spoilt = "model.safetensors"
    with pytest.raises(BaseModelUnavailable, match=r"model\.safetensors came with other bytes"):
        download(source, target, endpoint=hub.url)
    hub.spoilt = None
    download(source, target, endpoint=hub.url)
    assert fingerprint(target) == fingerprint(hub.folder)


def test_half_a_download_is_not_taken_for_a_whole_one_when_the_hub_is_gone(
    hub: _Hub, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    source = HubSource(repo=REPO, revision=COMMIT)
    download(source, target, endpoint=hub.url)
    (target / "model.safetensors").unlink()
    with pytest.raises(BaseModelUnavailable, match="has no repository someone/gone"):
        download(HubSource(repo="someone/gone", revision=COMMIT), target, endpoint=hub.url)


@pytest.mark.parametrize(
    ("repo", "revision", "says"),
    [
        (REPO, "f" * 40, "has no commit ffff"),
        ("someone/else", COMMIT, "has no repository someone/else"),
        ("someone/gated", COMMIT, "is gated: accept its terms"),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: _Hub, tmp_path: Path, repo: str, revision: str, says: str
) -> None:
    with pytest.raises(BaseModelUnavailable, match=says):
        download(HubSource(repo=repo, revision=revision), tmp_path, endpoint=hub.url)


def test_one_file_of_a_data_set_comes_and_its_bytes_are_checked(hub: _Hub, tmp_path: Path) -> None:
    (hub.folder / "main").mkdir()
    (hub.folder / "main" / "test.jsonl").write_text('{"text": "one"}')
    source = HubSource(repo=REPO, revision=COMMIT)
    hub.spoilt = "main/test.jsonl"
    with pytest.raises(BaseModelUnavailable, match="came with other bytes"):
        download_data_file(source, "main/test.jsonl", tmp_path / "bad", endpoint=hub.url)
    hub.spoilt = None
    download_data_file(source, "main/test.jsonl", tmp_path / "good", endpoint=hub.url)
    files = [path for path in (tmp_path / "good").rglob("*") if path.is_file()]
    assert files == [tmp_path / "good" / "main" / "test.jsonl"]
    assert files[0].read_text() == '{"text": "one"}'
    with pytest.raises(BaseModelUnavailable, match=r"has no file train\.jsonl at 0123"):
        download_data_file(source, "train.jsonl", tmp_path / "good", endpoint=hub.url)


def test_a_file_of_a_data_set_is_downloaded_once(hub: _Hub, tmp_path: Path) -> None:
    (hub.folder / "main").mkdir()
    (hub.folder / "main" / "test.jsonl").write_text('{"text": "one"}')
    source = HubSource(repo=REPO, revision=COMMIT)
    first = fetch_data_file(source, "main/test.jsonl", tmp_path / "shelf", endpoint=hub.url)
    assert first.read_text() == '{"text": "one"}'
    hub.asked.clear()
    again = fetch_data_file(source, "main/test.jsonl", tmp_path / "shelf", endpoint=hub.url)
    assert again == first
    assert not hub.asked


def test_a_hub_that_nobody_answers_for_is_told(tmp_path: Path) -> None:
    source = HubSource(repo=REPO, revision=COMMIT)
    with pytest.raises(
        BaseModelUnavailable, match=r"could not be downloaded .*--repo-type dataset"
    ):
        download_data_file(source, "test.jsonl", tmp_path, endpoint="http://127.0.0.1:9")


def test_without_a_connection_the_way_around_is_told(tmp_path: Path) -> None:
    """In a process of its own, since the library reads HF_HUB_OFFLINE when it is imported."""
    code = (
        "import os; os.environ['HF_HUB_OFFLINE'] = '1'\n"
        "import sys; from pathlib import Path\n"
        "from models_store.schemas.catalogue import HubSource\n"
        "from models_store.errors import BaseModelUnavailable\n"
        "from workers.runtime.base_models import materialise\n"
        f"source = HubSource(repo={REPO!r}, revision={COMMIT!r})\n"
        "try: materialise(source, Path(sys.argv[1]))\n"
        "except BaseModelUnavailable as error: print(error.message)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        timeout=280,
        capture_output=True,
        text=True,
    ).stdout
    assert f"{REPO} at {COMMIT} could not be downloaded" in told
    assert f"hf download {REPO} --revision {COMMIT} --local-dir FOLDER" in told
    assert '{"type": "folder"}' in told
    assert not [path for path in (tmp_path / "base_models").iterdir() if path.name[0] != "."]


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "169.254.169.254", "[::ffff:127.0.0.2]", "0x7f.2", "2130706434"]
)
def test_a_hub_cannot_redirect_into_the_house(hub: _Hub, tmp_path: Path, host: str) -> None:
    with _victim(hub) as victim:
        hub.moved_to = f"http://{host}:{hub.server_address[1]}"
        with pytest.raises(BaseModelUnavailable, match="could not be downloaded") as refused:
            download(HubSource(repo=REPO, revision=COMMIT), tmp_path, endpoint=hub.url)
        assert isinstance(refused.value.__cause__, AddressRefused)
        assert victim.asked == []


def test_a_hub_may_redirect_to_where_the_operator_allows(
    hub: _Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALPEL_OUTGOING_ALLOW", "127.0.0.2/32")
    monkeypatch.setenv("SCALPEL_OUTGOING_HTTP", "true")
    with _victim(hub) as allowed:
        hub.moved_to = f"http://127.0.0.2:{hub.server_address[1]}"
        download(HubSource(repo=REPO, revision=COMMIT), tmp_path, endpoint=hub.url)
        assert "model.safetensors" in allowed.asked
    assert check(tmp_path) == check(hub.folder)


def test_a_hub_that_sends_without_end_is_cut_off(hub: _Hub, tmp_path: Path) -> None:
    hub.endless = True
    with pytest.raises(BaseModelUnavailable, match="more than 67108864 bytes"):
        download(HubSource(repo=REPO, revision=COMMIT), tmp_path, endpoint=hub.url)


@contextmanager
def _victim(hub: _Hub) -> Iterator[_Hub]:
    """The same content on the same port of another address."""
    server = _Hub(hub.folder, "127.0.0.2", hub.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
