"""Answers when things are wrong: bodies, paths, the store, ourselves."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import models_store.errors
from app.http import errors as http_errors
from app.http.error_catalogue import ERRORS
from app.main import create_app
from models_store.errors import ScalpelError
from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, running_api

ROOT = Path(__file__).parents[3]


def test_a_problem_has_all_its_fields(api: Api) -> None:
    answer = api.http.get("/v1/edits/nobody", headers={"X-Request-Id": "mine-1"})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert answer.json() == {
        "type": "/docs/errors#not_found",
        "title": "The resource does not exist",
        "status": 404,
        "detail": "no such id: 'nobody'",
        "instance": "/v1/edits/nobody",
        "code": "not_found",
        "request_id": "mine-1",
        "errors": [],
    }


def test_every_answer_has_a_request_id(api: Api) -> None:
    ids = {api.http.get("/healthz").headers["X-Request-Id"] for _ in range(3)}
    assert len(ids) == 3
    for odd in ("a b", "x" * 200, "ä".encode()):
        answer = api.http.get("/healthz", headers={"X-Request-Id": odd})
        assert answer.headers["X-Request-Id"].startswith("req_")


def test_unknown_paths_and_methods_are_problems_too(api: Api) -> None:
    answer = api.http.get("/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = api.http.patch("/v1/edits")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, POST"
    assert api.http.put("/v1/edits/x/delta").headers["Allow"] == "GET, HEAD"
    for path in ("/v1/chat/nothing", "/v1/completions/x"):
        answer = api.http.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = api.http.get("/v1/chat/completions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_openais_paths_answer_broken_json_in_openais_shape(api: Api) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        headers = {"Content-Type": "application/json"}
        answer = api.http.post(path, content=b"{", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "malformed_json"
        assert answer.json()["error"]["type"] == "invalid_request_error"


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000


def test_bodies_are_bounded(settings: Settings) -> None:
    small = settings.model_copy(update={"max_body_bytes": 50_000})
    with running_api(small) as api:
        for path in ("/v1/edits", "/v1/behaviors", "/v1/base_models"):
            whole = api.http.post(
                path, content=b" " * 50_001, headers={"Content-Type": "application/json"}
            )
            unsized = api.http.post(
                path, content=pieces(60_000), headers={"Content-Type": "application/json"}
            )
            for answer in (whole, unsized):
                assert answer.status_code == 413
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.json()["code"] == "body_too_large"
                assert "50000" in answer.json()["detail"]
                assert "X-Request-Id" in answer.headers
        answer = api.http.post("/v1/chat/completions", content=b" " * 50_001)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        # Said to be large, and never sent: refused without waiting for it.
        with socket.create_connection((httpx.URL(api.url).host, httpx.URL(api.url).port)) as raw:
            raw.settimeout(10)
            raw.sendall(
                b"POST /v1/edits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
            )
            assert raw.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("piece", [1_000_003, 6 * 2**20])
def test_a_connection_goes_on_after_a_body_that_nobody_read(api: Api, piece: int) -> None:
    body = b"x" * (5 * 2**20)
    after = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((httpx.URL(api.url).host, httpx.URL(api.url).port)) as raw:
        raw.settimeout(10)
        for _ in range(2):
            raw.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            assert _status(raw) == 413
            for at in range(0, len(body + after), piece):
                raw.sendall((body + after)[at : at + piece])
            assert _status(raw) == 200


def _status(raw: socket.socket) -> int:
    """Of the next response, which is read to its end."""
    response = http.client.HTTPResponse(raw)
    response.begin()
    response.read()
    return response.status


def test_an_unreadable_store_is_unavailable_until_it_is_back(
    api: Api, worker: Worker, settings: Settings
) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    folder = settings.data / "store"
    folder.rename(folder.with_name("away"))
    for answer in (
        api.http.get(f"/v1/edits/{id}"),
        api.http.get(f"/v1/edits/{id}?wait=2"),
        api.http.get("/v1/edits"),
        api.http.post("/v1/edits", json=edit_body()),
        api.http.post(f"/v1/edits/{id}/cancel"),
    ):
        assert answer.status_code == 503
        assert answer.json()["code"] == "store_unavailable"
        assert int(answer.headers["Retry-After"]) > 0
    readiness = api.http.get("/readyz")
    assert readiness.status_code == 503
    assert readiness.json()["parts"]["store"]["status"] == "missing"
    assert not folder.exists()
    folder.with_name("away").rename(folder)
    assert api.http.get(f"/v1/edits/{id}").json()["status"] == "queued"
    assert api.http.get("/readyz").status_code == 200


def test_a_store_that_is_away_at_the_start_is_opened_later(settings: Settings) -> None:
    settings.data.parent.mkdir(parents=True, exist_ok=True)
    settings.data.write_text("a file where the folder should be")
    with running_api(settings) as api:
        assert api.http.get("/v1/edits").status_code == 503
        assert api.http.get("/readyz").status_code == 503
        settings.data.unlink()
        for _ in range(100):
            if api.http.get("/v1/edits").status_code == 200:
                return
            time.sleep(0.05)
    raise AssertionError("the store was not opened")


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow: what a full disk looks like to it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_nothing_is_half_there(api: Api, worker: Worker) -> None:
    with full_disk():
        answer = api.http.post("/v1/edits", json=edit_body())
    assert answer.status_code == 503
    assert answer.json()["code"] == "store_full"
    assert int(answer.headers["Retry-After"]) > 0
    assert api.http.get("/v1/edits").json()["data"] == []
    assert api.http.post("/v1/edits", json=edit_body()).status_code == 201


def test_a_record_that_cannot_be_read_is_corrupt(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    (path,) = (
        info.path for info in api.store.objects.files("edits") if info.path.endswith("request.json")
    )
    api.store.objects.put(path, b'{"schema_version": 1}')
    api.services._store = None  # a process that has just begun remembers no request
    answer = api.http.get(f"/v1/edits/{id}")
    assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_artifact")


def test_what_nobody_foresaw_is_an_internal_error(settings: Settings) -> None:
    application = create_app(settings, with_keeper=False)

    @application.get("/v1/broken")
    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get("/v1/broken", headers={"X-Request-Id": "r1"})

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert answer.json()["request_id"] == "r1"
    assert "secret" not in answer.text


def test_every_code_in_the_sources_is_explained(api: Api) -> None:
    page = api.http.get("/docs/errors").text
    for code in ERRORS:
        assert f'id="{code}"' in page
    sources = [*(ROOT / "app").rglob("*.py"), *(ROOT / "models_store").rglob("*.py")]
    raised = re.compile(
        r"(?:Conflict|Unavailable|NotFound|Malformed|TooLarge)\((?:[^()]|\([^()]*\))*?"
        r'code="([a-z_]+)"'
    )
    found = {code for path in sources for code in raised.findall(path.read_text())}
    assert {"edit_not_finished", "no_delta", "in_use", "store_full"} <= found
    assert found - ERRORS.keys() == set()
    by_class = {
        kind.code
        for module in (models_store.errors, http_errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, ScalpelError)
    }
    assert by_class - ERRORS.keys() == {"conflict"}  # which always gets a code of its own


def test_the_first_page_shows_the_way(api: Api) -> None:
    page = api.http.get("/").text
    assert f"curl {api.url}/v1/edits" in page
    for link in re.findall(r'href="(/[^"]*)"', page):
        assert api.http.get(link).status_code == 200, link


def test_openapi_json_is_what_the_code_says() -> None:
    from app.cli.openapi import openapi_document

    assert (ROOT / "openapi.json").read_text(encoding="utf-8") == openapi_document(), (
        "run `make openapi`"
    )


def test_the_api_starts_without_torch() -> None:
    """Methods and scorers included."""
    code = """
import json, sys
from app.main import create_app
from models_store.schemas.scorers import SCORERS
from models_store.settings import Settings
import app.loops.background, app.server.uvicorn, app.loops.keeper
dict(SCORERS)
create_app(Settings())
print(json.dumps([name for name in ("torch", "transformers", "sklearn") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == []
