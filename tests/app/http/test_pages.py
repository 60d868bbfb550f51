"""Pages for people."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.http.pages import api_page
from app.routes import pages
from tests.support.services import Api

_LINK = re.compile(r'(?:href|src)="([^"]+)"')


def test_the_pages_load_nothing_from_elsewhere_and_their_links_lead_somewhere(api: Api) -> None:
    for path in ("/", "/docs", "/docs/errors"):
        page = api.http.get(path)
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<script" not in page.text
        for link in set(_LINK.findall(page.text)):
            if link.startswith("#"):
                assert page.text.count(f'id="{link[1:]}"') == 1, link
            else:
                assert link.startswith("/"), link
                assert api.http.get(link).status_code == 200, link


def _pages_made(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> list[str]:
    """Names of the pages made from now on, each of which takes `seconds` longer."""
    made: list[str] = []
    own = pages.page

    def noted(name: str, *arguments: Any, **values: Any) -> Any:
        made.append(name)
        time.sleep(seconds)
        return own(name, *arguments, **values)

    monkeypatch.setattr(pages, "page", noted)
    return made


def test_pages_are_made_once_and_sent_to_those_who_do_not_have_them(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _pages_made(monkeypatch)
    for path in ("/", "/docs", "/docs/errors", "/openapi.json"):
        first, second = api.http.get(path), api.http.get(path)
        assert first.content == second.content
        assert first.headers["Content-Type"] == second.headers["Content-Type"]
        policy = first.headers.get("Content-Security-Policy")
        assert policy == second.headers.get("Content-Security-Policy")
        same = api.http.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (same.status_code, same.content) == (304, b"")
        other = api.http.get(path, headers={"If-None-Match": '"another"'})
        assert other.content == first.content
    assert made == ["landing.html", "docs.html", "errors.html"]


def test_a_page_that_many_ask_for_at_once_is_made_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _pages_made(monkeypatch, seconds=0.3)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: api.http.get("/docs/errors").status_code, range(16)))
    assert answers == [200] * 16
    assert made == ["errors.html"]


def test_the_docs_have_every_call_and_every_field(api: Api) -> None:
    page = api.http.get("/docs").text
    document = api.http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in page
    for schema in document["components"]["schemas"].values():
        for name in schema.get("properties", ()):
            assert f"<code>{name}</code>" in page or name in ("data", "first_id", "has_more")


def test_a_type_is_said_in_words() -> None:
    document = {
        "paths": {},
        "components": {
            "schemas": {
                "Thing": {
                    "properties": {
                        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                        "kind": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]},
                        "labels": {"additionalProperties": {"type": "string", "maxLength": 9}},
                        "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 2.0**31},
                        "extra": {"default": {}},
                    },
                    "required": ["kind"],
                }
            }
        },
    }
    thing = api_page.schemas(document)["Thing"]
    types = {name: [*api_page.type_in_words(one)] for name, one in thing["properties"].items()}
    assert {name: "".join(piece.text for piece in pieces) for name, pieces in types.items()} == {
        "parts": "list of Thing",
        "kind": '"a" or "b" or null',
        "labels": "object of string (at most 9 characters)",
        "share": "number (≥ 0, < 2147483648)",
        "extra": "anything",
    }
    assert types["parts"][-1].schema == "Thing"


def test_the_docs_say_what_is_required_and_what_the_default_is(api: Api) -> None:
    page = api.http.get("/docs").text
    body = page.partition('<section id="EditBody">')[2].partition("</section>")[0]
    rows = {row.partition("</code>")[0]: row for row in body.split("<tr><th><code>")[1:]}
    required = [name for name, row in rows.items() if "<small>required</small>" in row]
    assert required == ["base_model", "behavior"]
    assert "; default 0" in rows["seed"]
