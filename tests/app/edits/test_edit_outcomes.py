"""Reports and deltas: which status answers what, and how files are sent."""

from __future__ import annotations

import hashlib

import pytest

from models_store.schemas.behaviors import from_lines
from models_store.schemas.report import Report
from models_store.weights.delta import load_delta
from models_store.work.store import Place
from tests.app.support.sample_report import sample_report
from tests.app.support.worker import Worker, edit_body, small_delta
from tests.support.services import Api


@pytest.fixture
def edits(api: Api, worker: Worker) -> dict[str, str]:
    """An edit in each status."""
    made = {}
    for status in ("queued", "running", "succeeded", "failed", "canceled"):
        made[status] = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.claim(made["running"])
    worker.succeed(made["succeeded"], points={0: small_delta(0), 3: small_delta(3)})
    worker.fail(made["failed"])
    api.http.post(f"/v1/edits/{made['canceled']}/cancel")
    return made


@pytest.mark.parametrize(
    ("status", "report", "delta"),
    [
        ("queued", (409, "edit_not_finished"), (409, "edit_not_finished")),
        ("running", (409, "edit_not_finished"), (409, "edit_not_finished")),
        ("succeeded", (200, None), (200, None)),
        ("failed", (404, "no_report"), (404, "no_delta")),
        ("canceled", (404, "no_report"), (404, "no_delta")),
    ],
)
def test_each_status_has_its_answers(
    api: Api,
    edits: dict[str, str],
    status: str,
    report: tuple[int, str | None],
    delta: tuple[int, str | None],
) -> None:
    id = edits[status]
    answers = [
        (report, api.http.get(f"/v1/edits/{id}/report")),
        (delta, api.http.get(f"/v1/edits/{id}/delta")),
    ]
    if status != "succeeded":
        compare = api.http.post(f"/v1/edits/{id}/compare", json={"prompts": ["a"]})
        body = {"variant": f"pico:{id}", "format": "native"}
        answers += [(delta, compare), (delta, api.http.post("/v1/exports", json=body))]
    for (expected, code), answer in answers:
        assert answer.status_code == expected
        if code is not None:
            assert answer.json()["code"] == code
        if expected == 409:
            assert int(answer.headers["Retry-After"]) > 0


def test_the_delta_is_what_the_worker_stored(api: Api, edits: dict[str, str]) -> None:
    id = edits["succeeded"]
    answer = api.http.get(f"/v1/edits/{id}/delta")
    digest = hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{id}.safetensors"'
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert load_delta(answer.content).method == "bias"


def test_other_points_have_their_own_deltas(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/delta"
    selected, other = api.http.get(path), api.http.get(path, params={"point": 3})
    assert api.http.get(path, params={"point": 0}).content == selected.content
    assert other.status_code == 200
    assert other.content != selected.content
    assert api.http.get(path, params={"point": 9}).status_code == 404
    assert api.http.get(path, params={"point": "x"}).status_code == 400


def test_head_tells_all_but_the_bytes(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/delta"
    whole, head = api.http.get(path), api.http.head(path)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("ETag", "Content-Length", "Accept-Ranges", "Content-Disposition"):
        assert head.headers[name] == whole.headers[name]


def test_a_file_that_the_client_has_is_not_sent_again(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/delta"
    etag = api.http.get(path).headers["ETag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = api.http.get(path, headers={"If-None-Match": given})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag
    assert api.http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_parts_of_a_file_can_be_had(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/delta"
    whole = api.http.get(path)
    data, size = whole.content, len(whole.content)
    for given, part, first in (
        ("bytes=0-9", data[:10], 0),
        ("bytes=10-", data[10:], 10),
        ("bytes=-7", data[-7:], size - 7),
        (f"bytes={size - 1}-{size + 99}", data[-1:], size - 1),
        (f"bytes=-{size + 5}", data, 0),
    ):
        answer = api.http.get(path, headers={"Range": given})
        assert (answer.status_code, answer.content) == (206, part), given
        last = first + len(part) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    endless = "9" * 5_000
    for given in ("bytes=0-1,4-5", "lines=1-2", "bytes=x-", "bytes=5-2", f"bytes=0-{endless}"):
        answer = api.http.get(path, headers={"Range": given})
        assert (answer.status_code, answer.content) == (200, data), given
    for given in (f"bytes={size}-", "bytes=-0"):
        answer = api.http.get(path, headers={"Range": given})
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"
        assert answer.json()["code"] == "range_not_satisfiable"


def test_a_part_is_only_of_the_file_that_was_meant(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/delta"
    etag = api.http.get(path).headers["ETag"]
    for condition, status in ((etag, 206), ('"another"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        assert api.http.get(path, headers=headers).status_code == status


def test_a_damaged_file_is_not_sent(api: Api, worker: Worker, edits: dict[str, str]) -> None:
    id = edits["succeeded"]
    place = Place("edit", "default", id)
    for damage in (small_delta(0)[:-1] + b"?", b""):
        api.store.objects.put(f"{place.attempt(1)}/delta", damage)
        for headers in ({}, {"Range": "bytes=0-3"}):
            answer = api.http.get(f"/v1/edits/{id}/delta", headers=headers)
            assert answer.status_code == 500
            assert answer.json()["code"] == "corrupt_artifact"
    api.store.objects.delete(f"{place.attempt(1)}/delta")
    assert api.http.get(f"/v1/edits/{id}/delta").status_code == 404


def test_a_report_is_had_as_json_and_in_no_unknown_type(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/report"
    for accept in ("*/*", "application/json", "text/html;q=0.1, application/json"):
        answer = api.http.get(path, headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Vary"] == "Accept"
        assert answer.json() == {}
    answer = api.http.get(path, headers={"Accept": "image/png"})
    assert answer.status_code == 406
    assert "text/markdown" in answer.json()["detail"]


def test_a_report_that_cannot_be_read_is_corrupt(api: Api, edits: dict[str, str]) -> None:
    path = f"/v1/edits/{edits['succeeded']}/report"
    answer = api.http.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "corrupt_artifact"


def test_a_report_is_a_page_and_a_model_card_too(api: Api, worker: Worker) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    report = sample_report()
    worker.succeed(id, report=report.model_dump_json().encode())
    for accept, kind in (
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/markdown", "text/markdown; charset=utf-8"),
    ):
        answer = api.http.get(f"/v1/edits/{id}/report", headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == kind
        assert report.provenance.base_model in answer.text
        styled = "style-src" in answer.headers["Content-Security-Policy"]
        assert styled == (accept != "text/markdown")
    answer = api.http.get(f"/v1/edits/{id}/report")
    assert Report.model_validate_json(answer.content) == report
    assert answer.headers["ETag"]


def test_texts_are_those_of_the_request_until_the_edit_has_made_others(
    api: Api, worker: Worker
) -> None:
    id = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    answer = api.http.get(f"/v1/edits/{id}/texts")
    assert answer.headers["Content-Type"] == "application/jsonl"
    given, _ = from_lines(answer.content)
    assert given.name == edit_body()["behavior"]["name"]
    worker._end(Place("edit", "default", id), files={"texts": b"made"})
    assert api.http.get(f"/v1/edits/{id}/texts").content == b"made"
