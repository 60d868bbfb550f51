"""The dashboard's pages and files as they are sent; in a browser, see `tests/dashboard`."""

from __future__ import annotations

import html
import re

import pytest

from app.dashboard import CONTENT_SECURITY_POLICY
from app.dashboard.assets import assets
from app.dashboard.differences import marked
from app.dashboard.heat import heat_strip
from models_store.schemas.report import Report, TermReport
from tests.app.support.sample_report import early_report, full_report, sample_report
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api

PAGES = ("", "/new", "/playground", "/behaviors", "/models", "/admin")
_LINK = re.compile(r'(?:href|src)="([^"]+)"')
_IMPORT = re.compile(r"from '\./([^']+)'")


def finished(api: Api, worker: Worker, report: Report) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
    points = dict.fromkeys(range(6), b"point")
    worker.succeed(id, report=report.model_dump_json().encode(), points=points)
    return id


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_and_loads_files_of_this_server_alone(api: Api, path: str) -> None:
    page = api.http.get(f"/dashboard{path}")
    assert page.status_code == 200
    assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert page.headers["Cache-Control"] == "no-store"
    assert "<style" not in page.text
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=", page.text)
    assert 'aria-current="page"' in page.text or path == "/new"
    for link in set(_LINK.findall(page.text)) - {"#main"}:
        assert link.startswith("/"), link
        assert api.http.get(link).status_code == 200, link


def test_files_are_kept_for_as_long_as_they_are_the_same(api: Api) -> None:
    for name, data in assets().files.items():
        file = api.http.get(f"{assets().base}/{name}")
        assert file.content == data
        assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        same = api.http.get(
            f"{assets().base}/{name}", headers={"If-None-Match": file.headers["ETag"]}
        )
        assert (same.status_code, same.content) == (304, b"")
        for imported in _IMPORT.findall(data.decode()):
            assert imported in assets().files
    earlier = api.http.get("/dashboard/static/0123456789abcdef/api.js")
    assert earlier.headers["Cache-Control"] == "no-cache"
    assert api.http.get(f"{assets().base}/../__init__.py").status_code == 404
    assert api.http.get(f"{assets().base}/nothing.js").status_code == 404


@pytest.mark.parametrize("report", [full_report(), sample_report(), early_report()])
def test_the_page_of_an_edit_has_its_receipt(api: Api, worker: Worker, report: Report) -> None:
    id = finished(api, worker, report)
    page = api.http.get(f"/dashboard/edits/{id}").text
    assert report.verdict.sentence in html.unescape(page)
    assert 'data-copy="curl"' in page
    assert f"{api.url}/v1/edits" in page
    anchors = {link[1:] for link in _LINK.findall(page) if link.startswith("#")} - {""}
    for anchor in anchors:
        assert page.count(f'id="{anchor}"') == 1, anchor
    candidates = report.search.candidates if report.search is not None else ()
    for candidate in candidates:
        assert f"candidate-{candidate.index}" in anchors
        assert f"/v1/edits/{id}/delta?point={candidate.index}" in page


def test_what_a_model_or_a_person_wrote_is_shown_and_never_obeyed(api: Api, worker: Worker) -> None:
    bad = "<script>alert(1)</script>\"'><img src=x>"
    report = full_report()
    samples = tuple(
        one.model_copy(update={"prompt": bad, "base": bad, "edited": bad}) for one in report.samples
    )
    behavior = {**edit_body()["behavior"], "name": bad}
    id = api.http.post("/v1/edits", json=edit_body(behavior=behavior)).json()["id"]
    assert "<script>alert" not in api.http.get(f"/dashboard/edits/{id}").text
    worker.succeed(
        id, report=report.model_copy(update={"samples": samples}).model_dump_json().encode()
    )
    page = api.http.get(f"/dashboard/edits/{id}").text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "alert(1)" in page


def test_what_is_not_there_is_a_page_too(api: Api, worker: Worker) -> None:
    page = api.http.get("/dashboard/edits/edit_01KA0000000000000000000000")
    assert page.status_code == 404
    assert "There is nothing here" in page.text
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    assert 'id="live"' in api.http.get(f"/dashboard/edits/{id}").text
    worker.fail(id)
    failed = api.http.get(f"/dashboard/edits/{id}").text
    assert "it went wrong" in failed
    assert 'id="live"' not in failed


def test_layers_are_as_dark_as_their_change_is_large() -> None:
    terms = (
        TermReport(layer=1, module="mlp.down_proj", expert=None, rows=8, norm=3.0),
        TermReport(layer=1, module="mlp.down_proj", expert=None, rows=8, norm=4.0),
        TermReport(layer=3, module="mlp.down_proj", expert=None, rows=2, norm=1.0),
        TermReport(layer=0, module="mlp.gate_proj", expert=None, rows=1, norm=10.0),
    )
    plain = sample_report()
    report = plain.model_copy(update={"method": plain.method.model_copy(update={"terms": terms})})
    down, gate = heat_strip(report, 6)
    assert (down.module, gate.module) == ("mlp.down_proj", "mlp.gate_proj")
    assert [cell.heat for cell in down.cells] == [0, 0.5, 0, 0.1, 0, 0]
    assert [cell.rows for cell in down.cells] == [0, 16, 0, 2, 0, 0]
    assert [cell.heat for cell in gate.cells] == [1, 0, 0, 0, 0, 0]
    assert [len(strip.cells) for strip in heat_strip(report, None)] == [4, 4]
    nothing = plain.model_copy(update={"method": plain.method.model_copy(update={"terms": ()})})
    assert heat_strip(nothing, 6) == ()


def test_words_that_only_one_text_has_are_marked() -> None:
    before, after = marked("The food was  bad, sadly.", "The food was good.")
    assert before == ((False, "The food was"), (False, "  "), (True, "bad, sadly."))
    assert after == ((False, "The food was"), (False, " "), (True, "good."))
    assert "".join(text for _, text in marked("a b", "a  b")[1]) == "a  b"
    assert marked("", "") == ((), ())
    assert marked("same text", "same text") == (((False, "same text"),), ((False, "same text"),))
