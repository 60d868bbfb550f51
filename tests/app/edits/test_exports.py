"""Exports: queued, listed, downloaded file by file or whole."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from app.domain.accounts.stored_bytes import StoredBytes
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api

FILES = {"adapter_config.json": b'{"r": 1}', "adapter_model.safetensors": b"\0" * 3000}


@pytest.fixture
def edit(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
    worker.succeed(id)
    return id


def post(api: Api, **changes: Any) -> Any:
    return api.http.post(
        "/v1/exports", json={"variant": "pico:kinder", "format": "peft", **changes}
    )


def test_an_export_is_queued_and_becomes_files(api: Api, worker: Worker, edit: str) -> None:
    answer = post(api, variant="pico:kinder@0.5")
    assert answer.status_code == 201
    export = answer.json()
    id = export["id"]
    assert answer.headers["Location"] == f"/v1/exports/{id}"
    assert id.startswith("exp_")
    assert export.pop("created_at") > 0
    assert export == {
        "id": id,
        "object": "export",
        "status": "queued",
        "variant": f"pico:{edit}@0.5",
        "format": "peft",
        "dtype": None,
        "files": [],
        "proof": None,
        "finished_at": None,
        "error": None,
    }
    waiting = api.http.get(f"/v1/exports/{id}/files/adapter_config.json")
    assert (waiting.status_code, waiting.json()["code"]) == (409, "export_not_finished")
    worker.export(id, FILES)
    export = api.http.get(f"/v1/exports/{id}", params={"wait": 5}).json()
    assert export["status"] == "succeeded"
    assert export["proof"]["passed"] is True
    assert [(file["name"], file["bytes"]) for file in export["files"]] == [
        (name, len(data)) for name, data in FILES.items()
    ]
    for file in export["files"]:
        answer = api.http.get(file["url"])
        assert answer.content == FILES[file["name"]]
        assert answer.headers["ETag"] == f'"{file["sha256"]}"'
        part = api.http.get(file["url"], headers={"Range": "bytes=1-2"})
        assert (part.status_code, part.content) == (206, answer.content[1:3])
        assert api.http.head(file["url"]).headers["Content-Length"] == str(file["bytes"])
    assert api.http.get(f"/v1/exports/{id}/files/other").status_code == 404


def test_the_archive_holds_every_file(api: Api, worker: Worker, edit: str) -> None:
    id = post(api).json()["id"]
    worker.export(id, FILES)
    answer = api.http.get(f"/v1/exports/{id}/archive")
    assert answer.headers["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES


def test_a_failed_export_has_no_files(api: Api, worker: Worker, edit: str) -> None:
    id = post(api).json()["id"]
    worker.fail(id, "export_mismatch", "export")
    assert api.http.get(f"/v1/exports/{id}").json()["error"]["code"] == "export_mismatch"
    for path in ("archive", "files/adapter_config.json"):
        answer = api.http.get(f"/v1/exports/{id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_files")


def test_a_merged_export_needs_room_for_another_model(api: Api, worker: Worker) -> None:
    limit = api.services.settings.limit_stored_bytes
    for name, size, status in (("small", limit // 2, 201), ("large", limit + 1, 429)):
        worker.register(name, bytes=size)
        body = edit_body(base_model=name, suffix="kinder")
        worker.succeed(api.http.post("/v1/edits", json=body).json()["id"])
        answer = post(api, variant=f"{name}:kinder", format="merged")
        assert answer.status_code == status
    assert answer.json()["code"] == "quota_exceeded"


def test_a_model_in_gguf_has_a_dtype_and_takes_room_by_it(api: Api, worker: Worker) -> None:
    limit = api.services.settings.limit_stored_bytes
    worker.register("gguf", parameters=limit * 2 // 3)
    body = edit_body(base_model="gguf", suffix="kinder")
    worker.succeed(api.http.post("/v1/edits", json=body).json()["id"])

    def asked(**changes: Any) -> Any:
        return post(api, variant="gguf:kinder", format="merged-gguf", **changes)

    assert asked().json()["code"] == "quota_exceeded"  # f16 has two bytes for each weight
    answer = asked(dtype="q8_0")
    assert (answer.status_code, answer.json()["dtype"]) == (201, "q8_0")
    assert asked(dtype="q4_0").json()["errors"][0]["pointer"] == "/dtype"
    refused = post(api, variant="gguf:kinder", dtype="f16")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/dtype"


def test_what_a_queued_export_will_take_counts_until_it_ends(api: Api, worker: Worker) -> None:
    most = api.services.settings.limit_stored_bytes
    worker.register("large", bytes=most * 2 // 3)
    body = edit_body(base_model="large", suffix="kinder")
    worker.succeed(api.http.post("/v1/edits", json=body).json()["id"])

    def count() -> int:
        return StoredBytes(api.store.objects, "default").count(False)

    def asked_anew() -> Any:
        api.services._store = None  # a process that has just begun, and remembers nothing
        return post(api, variant="large:kinder", format="merged")

    before = count()
    first = asked_anew()
    assert first.status_code == 201
    assert before + most * 2 // 3 <= count() < before + most * 2 // 3 + 10_000
    assert asked_anew().json()["code"] == "quota_exceeded"
    place = Place("export", "default", first.json()["id"])
    api.store.objects.put(f"{place.folder}/attempts/1/files/model", b"\0" * 1_000_000)
    assert count() < before + most * 2 // 3 + 10_000, "what is there does not count twice"
    worker.fail(place.id, kind="export")
    assert count() < before + 1_010_000
    assert asked_anew().status_code == 201
    assert post(api, variant="large:kinder", format="peft").status_code == 201


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"variant": "pico:nobody"}, 422, "/variant"),
        ({"variant": "unknown"}, 422, "/variant"),
        ({"variant": "pico"}, 422, "/variant"),
        ({"variant": "pico:kinder@0"}, 422, "/variant"),
        ({"variant": 5}, 422, "/variant"),
        ({"format": "zip"}, 422, "/format"),
        ({"variant": "pico:kinder@9"}, 400, None),
        ({"variant": "pico:"}, 400, None),
    ],
)
def test_what_cannot_be_exported_is_refused(
    api: Api, edit: str, changes: dict[str, Any], status: int, pointer: str | None
) -> None:
    answer = post(api, **changes)
    assert answer.status_code == status
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_exports_of_a_variant_are_listed_by_its_ids(api: Api, worker: Worker, edit: str) -> None:
    made = [post(api, variant=f"pico:kinder@{strength}").json() for strength in (0.5, 1, 0.5)]
    for variant, found in ((f"pico:{edit}@0.5", (2, 0)), (f"pico:{edit}", (1,)), ("pico:no", ())):
        data = api.http.get("/v1/exports", params={"variant": variant}).json()["data"]
        assert [one["id"] for one in data] == [made[place]["id"] for place in found]


def test_exports_are_listed_and_repeats_are_replayed(api: Api, worker: Worker, edit: str) -> None:
    body = {"variant": "pico:kinder", "format": "native"}
    headers = {"Idempotency-Key": "k"}
    first = api.http.post("/v1/exports", json=body, headers=headers).json()["id"]
    again = api.http.post("/v1/exports", json=body, headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first
    second = post(api).json()["id"]
    worker.export(second, FILES)
    page = api.http.get("/v1/exports").json()
    assert [export["id"] for export in page["data"]] == [second, first]
    done = api.http.get("/v1/exports", params={"status": "succeeded"}).json()["data"]
    assert [export["id"] for export in done] == [second]
    for base_model, found in (("pico", [second, first]), ("another", [])):
        data = api.http.get("/v1/exports", params={"base_model": base_model}).json()["data"]
        assert [export["id"] for export in data] == found
