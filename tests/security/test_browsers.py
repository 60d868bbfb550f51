"""What a browser must not be talked into by the pages of others; with the headers browsers send."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from models_store.settings import Settings
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, RedisServer, api_settings, running_api

EVIL = "https://evil.example"
APP = "https://app.example.org"


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    return api_settings(tmp_path, redis_server, drain_seconds=1)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """Without keys, as `scalpel up` runs on a laptop."""
    with running_api(settings) as running:
        Worker(running.store, running.services.live.client).register("pico")
        yield running


@pytest.mark.parametrize(
    ("command", "host"),
    [
        *((command, "0.0.0.0") for command in ("up", "api", "editor", "generator")),
        ("api", "192.0.2.1"),
        ("api", "example.org"),
    ],
)
def test_without_keys_nothing_starts_on_an_address_that_others_can_reach(
    command: str, host: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli.main", command],
        env={
            **{name: value for name, value in os.environ.items() if "SCALPEL" not in name},
            "SCALPEL_AUTH": "none",
            "SCALPEL_HOST": host,
            "SCALPEL_DATA": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode not in (0, None)
    assert "SCALPEL_AUTH=none is allowed on a loopback address only" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LocalHost:1", 200),
        ("localhost.:1", 200),
        ("[::1]:8080", 200),
        ("127.0.0.7", 200),
        ("evil.example", 400),
        ("evil.example:8080", 400),
        ("127.0.0.1.evil.example", 400),
        ("127.0.0.1@evil.example", 400),
        ("evil@127.0.0.1", 400),
        ("0.0.0.0:8080", 400),
        ("169.254.169.254", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_a_name_that_is_resolved_to_this_machine_does_not_open_it(
    api: Api, host: str, status: int
) -> None:
    answer = api.http.get("/v1/edits", headers={"Host": host})
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["code"] == "bad_host"
        assert answer.headers["Content-Type"] == "application/problem+json"
        openai = api.http.get("/v1/models", headers={"Host": host})
        assert openai.json()["error"]["code"] == "bad_host"


def test_the_operator_says_which_names_the_server_has(settings: Settings) -> None:
    named = settings.model_copy(update={"allowed_hosts": "Scalpel.internal, other", "auth": "keys"})
    with running_api(named) as api:
        for host, status in (("scalpel.internal:80", 200), ("other", 200), ("third", 400)):
            assert api.http.get("/healthz", headers={"Host": host}).status_code == status
    assert Settings(host="10.0.0.5", auth="keys").hosts == {"10.0.0.5"}
    assert Settings(host="0.0.0.0", auth="keys").hosts is None
    assert Settings(host="0.0.0.0", auth="keys", allowed_hosts="a").hosts == {"0.0.0.0", "a"}
    with pytest.raises(ValidationError, match="needs SCALPEL_AUTH=keys"):
        Settings(allowed_hosts="*")


OF_OTHERS = [
    {"Origin": EVIL},
    {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost:3000"},
    {"Origin": EVIL, "Authorization": "Bearer sk-made-up"},
]


@pytest.mark.parametrize("headers", OF_OTHERS, ids=str)
def test_a_page_of_another_site_cannot_drive_a_scalpel_without_keys(
    api: Api, headers: dict[str, str]
) -> None:
    for method, path in (
        ("POST", "/v1/edits"),
        ("PUT", "/v1/aliases/bot"),
        ("DELETE", "/v1/edits/edit_x"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/api_keys"),
    ):
        answer = api.http.request(method, path, json=edit_body(), headers=headers)
        assert answer.status_code == 403, (method, path)
        assert "cross_site" in answer.text
        assert "access-control-allow-origin" not in answer.headers
    assert api.http.get("/v1/edits").json()["data"] == []


def test_programs_and_own_pages_are_let_in(api: Api) -> None:
    own = str(api.http.base_url).rstrip("/")
    for headers in (
        {},
        {"Origin": own},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        answer = api.http.post("/v1/edits", json=edit_body(), headers=headers)
        assert answer.status_code == 201, headers


def test_no_page_of_others_may_read_answers(api: Api) -> None:
    for answer in (
        api.http.get("/v1/edits", headers={"Origin": EVIL}),
        preflight(api, EVIL),
        preflight(api, "null"),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_operator_says_which_sites_pages_may_call(settings: Settings) -> None:
    opened = settings.model_copy(update={"cors_origins": f"{APP}, https://two.example"})
    with running_api(opened) as api:
        allowed = preflight(api, APP)
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == APP
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        assert "Access-Control-Allow-Origin" not in preflight(api, EVIL).headers
        called = api.http.post("/v1/edits", json={}, headers={"Origin": APP})
        assert called.status_code == 422
        assert called.headers["Access-Control-Allow-Origin"] == APP
        assert "Location" in called.headers["Access-Control-Expose-Headers"]
        assert api.http.post("/v1/edits", json={}, headers={"Origin": EVIL}).status_code == 403
    for origin in ("*", "app.example.org", "https://a/b", "https://a@b"):
        with pytest.raises(ValidationError, match="is no origin"):
            Settings(cors_origins=origin)


def test_with_keys_a_key_is_what_counts(settings: Settings) -> None:
    with running_api(settings.model_copy(update={"auth": "keys"})) as api:
        secret, _ = api.store.keys.create(name="x")
        headers = {"Origin": EVIL, "Authorization": f"Bearer {secret}"}
        assert api.http.post("/v1/edits", json={}, headers=headers).status_code == 422
        assert api.http.post("/v1/edits", json={}, headers={"Origin": EVIL}).status_code == 403


def test_every_answer_says_that_it_may_be_shown_and_no_more(api: Api) -> None:
    for path in ("/", "/docs", "/docs/errors", "/v1/edits", "/v1/nowhere", "/healthz"):
        headers = api.http.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert path[:4] != "/v1/" or headers["Cache-Control"] == "no-store"


def preflight(api: Api, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return api.http.options("/v1/edits", headers=headers)
