"""`.ci/audit.py` against a list of vulnerabilities on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit.py"
FLAW = {
    "id": "PYSEC-2000-1",
    "aliases": ["CVE-2000-1"],
    "affected": [
        {
            "package": {"name": "idna", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.0"}]}],
        }
    ],
}


class _List(BaseHTTPRequestHandler):
    """Answers as OSV does: of idna 3.0 it knows one vulnerability, of all else none."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/":
            self.send_error(404)
            return
        known = (asked["package"]["name"], asked["version"]) == ("idna", "3.0")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [FLAW]} if known else {}).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _List) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def audit(folder: Path, url: str, ignored: str) -> tuple[int, str]:
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci")
    (folder / ".ci" / "audit-ignore.txt").write_text(ignored)
    (folder / "constraints.txt").write_text("idna==3.0\npackaging==24.0\n")
    done = subprocess.run(
        [sys.executable, folder / ".ci" / "audit.py"],
        env={**os.environ, "OSV_URL": url, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_pin_with_a_known_vulnerability_fails(tmp_path: Path, url: str) -> None:
    assert audit(tmp_path, url, "# none\n") == (
        1,
        "pip-audit: idna 3.0: PYSEC-2000-1, fixed in ['9.0']\n"
        "pip-audit: 2 pins, 1 known vulnerabilities\n",
    )


def test_a_list_that_cannot_be_read_fails(tmp_path: Path, url: str) -> None:
    status, said = audit(tmp_path, f"{url}nothing/", "")
    assert status == 1
    assert said.startswith("pip-audit: FAILED, it broke off")


@pytest.mark.parametrize("id", ["PYSEC-2000-1", "CVE-2000-1"])
def test_one_with_a_reason_is_let_pass(tmp_path: Path, url: str, id: str) -> None:
    assert audit(tmp_path, url, f"{id} not reached\n") == (
        0,
        "pip-audit: 2 pins, 0 known vulnerabilities\n",
    )
