"""A stand-in of the Hugging Face hub: over real HTTP, as much of it as pushing and pulling call."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_aWordThatNobodyMaySee"
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_SMALL = (".md", ".json", ".txt", "SHA256SUMS")


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    """Names of the files that came as LFS."""
    messages: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr((self.messages, self.files)).encode()).hexdigest()


@dataclass
class Hub:
    url: str
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Uploaded for LFS, by SHA-256."""
    calls: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """It takes `TOKEN` only."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield Handler.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif not self._known():
            self._json(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([\w./-]+?)/preupload/main", self.path):
            self._preupload(self.hub.repos[found[1]], json.loads(body))
        elif re.fullmatch(r"/([\w./-]+?)\.git/info/lfs/objects/batch", self.path):
            self._batch(json.loads(body))
        elif self.path == "/lfs/verify":
            asked = json.loads(body)
            there = len(self.hub.objects.get(asked["oid"], b"")) == asked["size"]
            self._json(200 if there else 422, {})
        elif found := re.fullmatch(r"/api/models/([\w./-]+?)/commit/main", self.path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._json(404, {"error": "no such call"})

    def do_PUT(self) -> None:
        data = self._body()
        if self.path != f"/lfs/{hashlib.sha256(data).hexdigest()}":
            return self._json(400, {"error": "other bytes than announced"})
        self.hub.objects[self.path.removeprefix("/lfs/")] = data
        return self._json(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self._body()
        found = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([\w.-]+))?", path)
        resolve = re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)", path)
        match = found or resolve
        repo = self.hub.repos.get(match[1]) if match else None
        if match is None or repo is None or (repo.private and not self._known()):
            return self._json(401, {"error": "Repository not found"}, "RepoNotFound")
        if match[2] not in (None, "main", repo.commit):
            return self._json(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        if found:
            siblings = [{"rfilename": name} for name in repo.files]
            info = {"id": match[1], "sha": repo.commit, "private": repo.private}
            return self._json(200, {**info, "siblings": siblings})
        return self._resolve(repo, match[3])

    def _resolve(self, repo: Repo, file: str) -> None:
        data = repo.files.get(file)
        if data is None:
            return self._json(404, {"error": "Entry not found"}, "EntryNotFound")
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if file in repo.large:
            headers["X-Linked-Size"] = str(len(data))
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        return self._send(200, data, headers)

    def _validate(self, card: str) -> None:
        front = _FRONT_MATTER.match(card)
        try:
            data = yaml.safe_load(front[1]) if front else None
            sound = isinstance(data, dict)
        except yaml.YAMLError:
            sound = False
        errors = [] if sound else [{"message": "the metadata cannot be read"}]
        self._json(200 if sound else 400, {"errors": errors, "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.url}/{name}", "id": name}
        if name in self.hub.repos:
            return self._json(409, {"error": "You already created this model repo", **url})
        self.hub.repos[name] = Repo(asked.get("visibility") == "private")
        return self._json(200, url)

    def _preupload(self, repo: Repo, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "regular" if file["path"].endswith(_SMALL) else "lfs",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in asked["files"]
        ]
        self._json(200, {"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        url = self.hub.url
        objects = [
            {
                **one,
                "actions": {
                    "upload": {"href": f"{url}/lfs/{one['oid']}"},
                    "verify": {"href": f"{url}/lfs/verify"},
                },
            }
            for one in asked["objects"]
        ]
        self._json(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repo = self.hub.repos[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repo.messages.append(value["summary"])
            elif line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            else:
                repo.files[value["path"]] = self.hub.objects[value["oid"]]
                repo.large.add(value["path"])
        url = f"{self.hub.url}/{name}/commit/{repo.commit}"
        self._json(200, {"commitUrl": url, "commitOid": repo.commit})

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _body(self) -> bytes:
        self.hub.calls.append(f"{self.command} {self.path}")
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self, status: int, body: Any, code: str = "") -> None:
        headers = {"Content-Type": "application/json"}
        if code:
            headers |= {"X-Error-Code": code, "X-Error-Message": body["error"]}
        self._send(status, json.dumps(body).encode(), headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: `calls` has it."""
