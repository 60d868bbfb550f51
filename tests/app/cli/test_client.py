"""The client before servers that are broken, hostile, or not Scalpel."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.cli.client import Client, Unreachable, WrongUse
from tests.app.cli.command import Scalpel

Respond = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers each request by `respond`, and keeps its path and key."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.respond: Respond = lambda request: send(request, {})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.path, self.headers.get("Idempotency-Key")))
                outer.respond(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


def send(request: BaseHTTPRequestHandler, body: Any, *, length: int | None = None) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request.send_response(200)
    request.send_header("Content-Length", str(len(data) if length is None else length))
    request.end_headers()
    request.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.mark.parametrize("key", ["sk-sec\nret", "sk-sécret", "sk-\x00secret"])
def test_a_key_that_cannot_be_sent_is_not_said(key: str) -> None:
    with pytest.raises(WrongUse) as refused:
        Client("http://127.0.0.1:1", key)
    assert "sk-" not in str(refused.value)


def test_space_around_a_key_is_dropped(command: Scalpel, server: Server) -> None:
    server.respond = lambda request: send(
        request, {"data": [], "sent": request.headers["Authorization"]}
    )
    shown = command.done("list", "--json", "--url", server.url, "--key", " sk-secret\n")
    assert json.loads(shown)["sent"] == "Bearer sk-secret"


@pytest.mark.parametrize("body", [{"hello": 1}, ["hello"], "hello", b"<html>"])
def test_another_server_is_named_as_such(command: Scalpel, server: Server, body: Any) -> None:
    server.respond = lambda request: send(request, body)
    ended = command("list", "--url", server.url)
    assert (ended.code, "does not answer as Scalpel does" in ended.err) == (3, True), ended.err
    assert command("login", server.url).code == 3


def test_a_stream_of_something_else_is_named_as_such(command: Scalpel, server: Server) -> None:
    server.respond = lambda request: send(request, b"data: {broken\n\n")
    ended = command("chat", "pico:a", "hello", "--url", server.url)
    assert (ended.code, "does not answer as Scalpel does" in ended.err) == (3, True)


def test_a_download_that_always_breaks_off_ends(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.client._POLL_SECONDS", 0.01)

    def broken(request: BaseHTTPRequestHandler) -> None:
        send(request, b"x" * len(server.seen), length=99)
        request.close_connection = True

    server.respond = broken
    with Client(server.url) as client, pytest.raises(Unreachable, match="breaks off"):
        client.save("/file", tmp_path / "file")
    assert len(server.seen) == 5


@pytest.mark.parametrize("call", ["create", "send_files", "send_lines"])
def test_what_is_made_is_sent_again_with_the_same_key(
    server: Server, tmp_path: Path, call: str
) -> None:
    def lost_once(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        if len(server.seen) != 1:
            send(request, {"id": "edit_1"})

    server.respond = lost_once
    file = tmp_path / "file"
    file.write_bytes(b"data")
    arguments: dict[str, tuple[Any, ...]] = {
        "create": ({},),
        "send_files": ({}, [file]),
        "send_lines": (b"{}",),
    }
    with Client(server.url) as client:
        for _ in range(2):
            assert getattr(client, call)("/v1/edits", *arguments[call]) == {"id": "edit_1"}
        server.seen.clear()
        with pytest.raises(Unreachable):
            client.post("/v1/edits/edit_1/cancel", None)
    assert [key for _, key in server.seen] == [None]


def export(name: str, data: bytes, **changes: Any) -> dict[str, Any]:
    sha256 = "sha256:" + hashlib.sha256(data).hexdigest()
    file = {"name": name, "sha256": sha256, "url": "/elsewhere"}
    times = {"finished_at": 1, "stage": None, "progress": 1.0}
    found = {"id": "exp_1", "status": "succeeded", "format": "peft", "proof": None}
    return {**found, **times, "files": [file], **changes}


@pytest.mark.parametrize(
    ("name", "format"),
    [("../out", "peft"), ("/tmp/out", "peft"), ("..", "peft"), ("a\x1bb", "peft"), ("a", "../b")],
)
def test_names_of_files_lead_out_of_no_folder(
    command: Scalpel,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    format: str,
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    server.respond = lambda request: send(request, export(name, b"", format=format))
    ended = command("export", "exp_1", "--url", server.url)
    assert (ended.code, "that is no name of a file" in ended.err) == (1, True), ended.err
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]
    assert not any("files" in path or path == "/elsewhere" for path, _ in server.seen)


def test_a_file_is_replaced_only_by_what_was_exported(
    command: Scalpel, server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "adapter.bin"
    file.write_bytes(b"before")
    sent = [b"changed", b"after"]

    def respond(request: BaseHTTPRequestHandler) -> None:
        is_file = request.path == "/v1/exports/exp_1/files/adapter.bin"
        send(request, sent.pop(0) if is_file else export(file.name, b"after"))

    server.respond = respond
    words = ("export", "exp_1", "--url", server.url, "-o", tmp_path, "--force")
    assert (command(*words).code, file.read_bytes()) == (1, b"before")
    assert (command(*words).code, file.read_bytes()) == (0, b"after")
