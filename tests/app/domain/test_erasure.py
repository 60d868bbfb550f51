"""What is left of an edit that was deleted, and of a tenant that was erased."""

from __future__ import annotations

import io
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from app.cli.main import app
from app.domain.erasure import erase_tenant
from models_store.errors import InvalidRequest
from models_store.live import keys as redis_keys
from models_store.objects.store import ObjectStore
from models_store.settings import Settings
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body, texts
from tests.support.services import Api, running_api

MARK = "xylophone-7421"


def marked_edit(**changes: Any) -> dict[str, Any]:
    behavior = {
        "name": f"tone {MARK}",
        "undesired": texts(f"bad {MARK}"),
        "desired": texts("good"),
        "prompts": [f"what of {MARK} in place {n}?" for n in range(30)],
    }
    return edit_body(behavior=behavior, metadata={"note": MARK}, **changes)


def found(objects: ObjectStore) -> list[str]:
    """Where the mark is in the store, names included."""
    return [
        info.path
        for info in objects.files("")
        if MARK in info.path or MARK.encode() in objects.read(info.path)
    ]


def test_of_a_deleted_edit_nothing_remains_that_its_sender_wrote(api: Api, worker: Worker) -> None:
    objects, http = api.store.objects, api.http
    ended, open_ = (http.post("/v1/edits", json=marked_edit(seed=n)).json()["id"] for n in (1, 2))
    worker.succeed(ended)
    worker.claim(open_)
    exports = [
        http.post("/v1/exports", json={"variant": f"pico:{ended}{term}", "format": "native"}).json()
        for term in ("", "@0.5")
    ]
    other = http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.succeed(other)
    kept = http.post("/v1/exports", json={"variant": f"pico:{other}", "format": "native"}).json()
    worker.export(exports[0]["id"], {"delta.safetensors": b"delta"})
    assert found(objects)
    for edit in (ended, open_):
        assert http.delete(f"/v1/edits/{edit}").json() == {
            "id": edit,
            "object": "edit",
            "deleted": True,
        }
        assert http.get(f"/v1/edits/{edit}").status_code == 404
        folder = Place("edit", "default", edit).folder
        left = [f"{folder}/{name}.json" for name in ("deleted", "summary")]
        assert objects.paths(folder) == left
    assert found(objects) == []
    for export in exports:
        assert http.get(f"/v1/exports/{export['id']}").status_code == 404
    assert http.get(f"/v1/exports/{kept['id']}").status_code == 200
    assert objects.children("open/default") == [kept["id"]]


def test_an_export_is_canceled_and_deleted(api: Api, worker: Worker) -> None:
    edit = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.succeed(edit)
    body = {"variant": f"pico:{edit}", "format": "native"}
    first, second = (api.http.post("/v1/exports", json=body).json()["id"] for _ in range(2))
    for _ in range(2):
        answer = api.http.post(f"/v1/exports/{first}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    worker.export(second, {"delta.safetensors": b"delta"})
    refused = api.http.post(f"/v1/exports/{second}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "export_already_finished")
    for export in (first, second):
        assert api.http.delete(f"/v1/exports/{export}").json()["deleted"] is True
        assert api.http.get(f"/v1/exports/{export}").status_code == 404
        assert api.http.delete(f"/v1/exports/{export}").status_code == 404


def test_a_tenant_that_is_erased_has_left_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = settings.model_copy(update={"auth": "keys", "redis_url": settings.redis_url})
    with running_api(locked) as api:
        http, objects, client = api.http, api.store.objects, api.services.live.client
        worker = Worker(api.store, client)
        worker.register("pico")
        secrets = {
            tenant: api.store.keys.create(name=MARK, tenant=tenant)[0]
            for tenant in ("leaving", "staying")
        }
        keys = {name: {"Authorization": f"Bearer {key}"} for name, key in secrets.items()}
        for tenant, headers in keys.items():
            uploaded = marked_edit()["behavior"]
            assert http.post("/v1/behaviors", json=uploaded, headers=headers).status_code == 201
            form = {"file": (f"{MARK}.jsonl", f'{{"prompt": "{MARK}"}}'.encode())}
            data = {"purpose": "fine-tune"}
            http.post("/v1/files", data=data, files=form, headers=headers).raise_for_status()
            hook = {"url": "https://93.184.215.14/hook", "description": MARK}
            assert http.post("/v1/webhooks", json=hook, headers=headers).status_code == 201
            ids = []
            for n in range(2):
                own = {**headers, "Idempotency-Key": f"{MARK} {n}"}
                body = marked_edit(seed=n, suffix=f"{MARK}-{n}")
                ids.append(http.post("/v1/edits", json=body, headers=own).json()["id"])
            worker.claim(ids[0], tenant=tenant)
            worker.succeed(ids[0], tenant=tenant, report=f'"{MARK}"'.encode())
            worker.claim(ids[1], tenant=tenant)
            worker.tell_stage(ids[1], "extract")
            variant = {"variant": f"pico:{ids[0]}"}
            http.put("/v1/aliases/bot", json=variant, headers=headers).raise_for_status()
            objects.put(f"cache/generations/{tenant}/{MARK}.json", MARK.encode())
            objects.put(f"quarantine/edits/{tenant}/01AAA/edit_1/request.json", MARK.encode())
            # A submission that was interrupted right after its marker.
            objects.create(f"open/{tenant}/{ids[0][:-2]}ZZ", b"{}")
        staying = {path for path in found(objects) if "/staying/" in path}
        leases = list(client.scan_iter(f"{redis_keys.LEASES}*"))
        assert leases
        # The process of an attempt that ends as it finds the tombstone.
        gone = threading.Timer(1.0, client.delete, leases)
        gone.start()
        for name, value in {
            "SCALPEL_DATA": str(locked.data),
            "SCALPEL_REDIS_URL": locked.redis_url,
        }.items():
            monkeypatch.setenv(name, value)
        told = CliRunner().invoke(app, ["tenants", "erase", "leaving", "--yes"])
        assert told.exit_code == 0, told.output
        assert "objects of leaving were removed" in told.output
        assert {path for path in found(objects) if "/staying/" in path} >= staying - {
            path for path in staying if "api_keys" in path
        }
        left = [path for path in found(objects) if "/staying/" not in path]
        assert [path for path in left if not path.startswith("api_keys/")] == []
        assert [p for p in objects.files("") if "/leaving/" in p.path] == []
        assert in_redis(client, MARK) == []
        codes = {http.get("/v1/edits", headers=keys[tenant]).status_code for tenant in keys}
        assert 200 in codes
        api.services._store = None
        api.server.config.app.state.keys.clear()  # type: ignore[union-attr]
        assert http.get("/v1/edits", headers=keys["leaving"]).status_code == 401
        assert len(http.get("/v1/edits", headers=keys["staying"]).json()["data"]) == 2


def in_redis(client: redis.Redis, mark: str) -> list[bytes]:
    """Keys that have the mark in their name or their value."""
    return [
        key
        for key in client.scan_iter("*")
        if mark.encode() in key or mark.encode() in (client.dump(key) or b"")
    ]


@pytest.mark.parametrize("name", ["_", "", "../default", "a/b", "*"])
def test_what_is_no_tenant_is_not_erased(api: Api, name: str) -> None:
    with pytest.raises(InvalidRequest):
        erase_tenant(api.store.work, api.store.keys, api.services.live.client, name)


def test_the_archive_of_an_export_is_not_served_after_its_end(api: Api, worker: Worker) -> None:
    edit = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.succeed(edit)
    body = {"variant": f"pico:{edit}", "format": "native"}
    export = api.http.post("/v1/exports", json=body).json()["id"]
    worker.export(export, {"delta.safetensors": b"delta"})
    archive = api.http.get(f"/v1/exports/{export}/archive")
    assert zipfile.ZipFile(io.BytesIO(archive.content)).namelist() == ["delta.safetensors"]
    api.http.delete(f"/v1/edits/{edit}").raise_for_status()
    assert api.http.get(f"/v1/exports/{export}/archive").status_code == 404
