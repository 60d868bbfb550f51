"""Signing in with a browser: a cookie that only the server can read, and what it is worth."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from app.domain.accounts.api_keys import ApiKey
from app.domain.accounts.sessions import SESSION_SECONDS, Sessions
from app.http.pages.html import style_hash
from app.loops.keeper.sweep import sweep
from models_store.audit.check import lines_of
from models_store.settings import Settings
from tests.app.support.sample_report import full_report, sample_report
from tests.app.support.worker import Worker, edit_body
from tests.support.local import local_client
from tests.support.services import Api, RedisServer, api_settings, running_api

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
COOKIE = "scalpel_session"


@pytest.fixture
def settings(tmp_path: Path, redis_server: RedisServer) -> Settings:
    return api_settings(tmp_path, redis_server, auth="keys", drain_seconds=1)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with running_api(settings) as running:
        Worker(running.store, running.services.live.client).register("pico")
        yield running


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style":
            self.styles.append(data)

    def field(self, name: str) -> str:
        (value,) = [attrs["value"] for _, attrs in self.tags if attrs.get("name") == name]
        assert value is not None
        return value


_opened: list[httpx.Client] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def shown(browser: httpx.Client) -> dict[str, str]:
    """The cookie that it sends, to be sent by another."""
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}


def sign_in(api: Api, **options: object) -> tuple[httpx.Client, str, ApiKey]:
    """A browser that has signed in, with a key made for it."""
    secret, key = api.store.keys.create(name="me", **options)  # type: ignore[arg-type]
    browser = local_client(api.url, headers=BROWSER)
    _opened.append(browser)
    answer = browser.post("/login", data={"key": secret, "next": "/"})
    assert answer.status_code == 303, answer.text
    return browser, secret, key


def test_a_person_is_asked_to_sign_in_and_then_sees_the_page_that_was_asked_for(api: Api) -> None:
    secret, _ = api.store.keys.create(name="me")
    path = "/v1/edits?limit=5"
    with local_client(api.url, headers=BROWSER) as browser:
        asked = browser.get(path)
        assert (asked.status_code, asked.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert asked.headers["Cache-Control"] == "no-store"
        next = Page(asked.text).field("next")
        wrong = browser.post("/login", data={"key": "sk-wrong", "next": next})
        assert wrong.status_code == 401
        assert "not accepted" in wrong.text
        assert Page(wrong.text).field("next") == path
        entered = browser.post("/login", data={"key": f" {secret} ", "next": next})
        assert (entered.status_code, entered.headers["Location"]) == (303, path)
        assert browser.get(path).json()["data"] == []


def test_the_cookie_is_for_the_server_alone_and_stands_nowhere_in_the_store(api: Api) -> None:
    secret, _ = api.store.keys.create(name="me")
    for scheme, name in (("http", COOKIE), ("https", f"__Host-{COOKIE}")):
        answer = api.http.post(
            "/login", data={"key": secret}, headers={"X-Forwarded-Proto": scheme}
        )
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"{name}=")
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/", f"max-age={12 * 3600}"} <= parts
        assert ("secure" in parts) == (scheme == "https")
        value = cookie.split("=", 1)[1].split(";")[0]
        assert len(value) == 43
        for info in api.store.objects.files("sessions"):
            assert value not in info.path + api.store.objects.read(info.path).decode()
        api.http.cookies.clear()


def test_a_sign_in_holds_in_every_process_and_after_a_restart(settings: Settings) -> None:
    with running_api(settings) as one:
        browser, _, _ = sign_in(one)
        assert browser.get("/v1/edits").status_code == 200
    cookies = shown(browser)
    with running_api(settings) as two, running_api(settings) as three:
        for api in (two, three):
            assert api.http.get("/v1/edits", headers=cookies).status_code == 200


def test_a_sign_in_ends_when_the_key_is_revoked(api: Api) -> None:
    browser, _, key = sign_in(api)
    api.store.keys.revoke(api.store.keys.get(key.id))
    deadline = time.monotonic() + 5
    while browser.get("/v1/edits").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_sign_in_ends_with_the_life_of_its_key_and_after_half_a_day(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    short, _, _ = sign_in(api, expires_at=int(now()) + 1000)
    long, _, _ = sign_in(api)
    for seconds, statuses in (
        (990, (200, 200)),
        (1010, (401, 200)),
        (12 * 3600 + 10, (401, 401)),
    ):
        monkeypatch.setattr(time, "time", lambda moved=seconds: now() + moved)
        assert (short.get("/v1/edits").status_code, long.get("/v1/edits").status_code) == statuses
    assert len(api.store.objects.files("sessions")) == 2
    done = sweep(api.store.work, lambda: False, now() + SESSION_SECONDS + 60)
    assert done["sessions"] == 2
    assert api.store.objects.files("sessions") == []


def test_signing_out_ends_it_everywhere_at_once(settings: Settings) -> None:
    with running_api(settings) as one, running_api(settings) as two:
        browser, _, key = sign_in(one)
        cookies = shown(browser)
        assert two.http.get("/v1/edits", headers=cookies).status_code == 200
        home = browser.get("/")
        assert "Signed in with the key <strong>me</strong> of the tenant default" in home.text
        assert home.headers["Cache-Control"] == "no-store"
        form = {"csrf_token": Page(home.text).field("csrf_token")}
        assert browser.post("/logout", data={"csrf_token": "x"}).status_code == 403
        assert browser.post("/logout", data=form).headers["Location"] == "/login"
        assert dict(browser.cookies) == {}
        for api in (one, two):
            assert api.http.get("/v1/edits", headers=cookies).status_code == 401
        lines = [(line.event, line.key_id) for line in lines_of(one.store.objects)]
        assert {("session.begun", key.id), ("session.ended", key.id)} <= set(lines)


def test_what_changes_something_needs_the_token_of_the_session(api: Api) -> None:
    browser, secret, _ = sign_in(api)
    other, _, _ = sign_in(api)
    token = Page(browser.get("/").text).field("csrf_token")
    stranger = Page(other.get("/").text).field("csrf_token")
    for method, path in (
        ("POST", "/v1/edits"),
        ("PUT", "/v1/aliases/bot"),
        ("DELETE", "/v1/edits/edit_x"),
        ("POST", "/v1/edits/edit_x/cancel"),
        ("POST", "/v1/behaviors"),
        ("POST", "/v1/chat/completions"),
    ):
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": stranger}):
            answer = browser.request(method, path, json=edit_body(), headers=headers)
            assert (answer.status_code, "csrf_failed" in answer.text) == (403, True), path
    made = browser.post("/v1/edits", json=edit_body(), headers={"X-CSRF-Token": token})
    assert made.status_code == 201
    # A key needs no token, with a cookie or without; and a wrong key is not made up for by one.
    bearer = {"Authorization": f"Bearer {secret}"}
    assert browser.post("/v1/edits", json=edit_body(), headers=bearer).status_code == 201
    assert browser.get("/v1/edits", headers={"Authorization": "Bearer x"}).status_code == 401
    # The token alone opens nothing.
    alone = api.http.post("/v1/edits", json=edit_body(), headers={"X-CSRF-Token": token})
    assert alone.status_code == 401


def test_pages_of_others_can_neither_sign_in_nor_out_nor_lead_away(api: Api) -> None:
    secret, _ = api.store.keys.create(name="me")
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for path in ("/login", "/logout"):
        answer = api.http.post(path, data={"key": secret}, headers=evil)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
        assert "Set-Cookie" not in answer.headers
    for next in (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x=y",
        "",
    ):
        entered = api.http.post("/login", data={"key": secret, "next": next})
        assert entered.headers["Location"] == "/"
        assert 'href="/"' in api.http.get("/login", params={"next": next}).text


def test_a_session_has_the_rights_of_its_key_and_no_more(api: Api) -> None:
    browser, _, _ = sign_in(api, tenant="red", scopes=("edits:read",))
    token = Page(browser.get("/").text).field("csrf_token")
    answer = browser.post("/v1/edits", json=edit_body(), headers={"X-CSRF-Token": token})
    assert answer.json()["code"] == "missing_scope"
    assert browser.get("/v1/api_keys").status_code == 403


@pytest.mark.parametrize("cookie", ["x", "x" * 5000, "../../api_keys", "é", '"', "a; b"])
def test_a_made_up_cookie_opens_nothing(api: Api, cookie: str) -> None:
    headers = {"Cookie": f"{COOKIE}={cookie}".encode()}
    assert api.http.get("/v1/edits", headers=headers).status_code == 401


def test_a_form_is_bounded(api: Api) -> None:
    answer = api.http.post("/login", data={"key": "x" * 10_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_sessions_of_one_store_are_told_apart(api: Api) -> None:
    sessions = Sessions(api.store.objects, api.store.audit)
    _, key = api.store.keys.create(name="me")
    first, second = sessions.begin(key, "a" * 64), sessions.begin(key, "b" * 64)
    sessions.end(first, key)
    sessions.end(first, None)
    assert sessions.find(first) is None
    found = sessions.find(second)
    assert found is not None
    assert found.key_sha256 == "b" * 64


def test_no_page_runs_or_loads_anything_that_its_policy_does_not_let_in(api: Api) -> None:
    """As a browser decides it: by the policy in the header, element by element."""
    worker = Worker(api.store, api.services.live.client)
    browser, secret, _ = sign_in(api)
    paths = ["/", "/docs", "/docs/errors", "/login", "/v1/nowhere"]
    for report in (sample_report(), full_report()):
        headers = {"Authorization": f"Bearer {secret}"}
        id = api.http.post("/v1/edits", json=edit_body(), headers=headers).json()["id"]
        worker.claim(id)
        worker.succeed(id, report=report.model_dump_json().encode())
        paths.append(f"/v1/edits/{id}/report")
    drawn = 0
    for path in paths:
        answer = browser.get(path)
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'none'", path
        assert policy["frame-ancestors"] == "'none'", path
        assert not {"script-src", "script-src-elem"} & policy.keys()
        assert "unsafe" not in str(policy)
        if "text/html" not in answer.headers["Content-Type"]:
            continue
        page = Page(answer.text)
        allowed = {f"'{style_hash(text)}'" for text in page.styles}
        assert allowed == set(policy["style-src"].split()), path
        assert policy["base-uri"] == "'none'"
        for tag, attrs in page.tags:
            # `<style>` is let in by its hash; nothing else of this kind is let in at all.
            assert tag not in {
                "script",
                "link",
                "iframe",
                "object",
                "embed",
                "base",
                "img",
                "image",
            }
            assert "style" not in attrs, (path, tag, attrs)
            assert not [name for name in attrs if name.startswith("on")], (path, tag, attrs)
            for name in ("href", "src", "action", "xlink:href"):
                assert re.fullmatch(r"(/(?!/)|#).*", attrs.get(name) or "/"), (path, tag, attrs)
            if tag == "form":
                assert policy["form-action"] == "'self'"
            drawn += tag == "svg"
    assert drawn > 2, "the receipts have drawings"
