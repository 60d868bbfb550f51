"""What becomes of an import: what it is read, served and counted as, and who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.domain.variants.covered import not_covered
from models_store.operator.policy import Serving
from models_store.schemas.imports import ImportFacts
from models_store.schemas.records import DeltaRef, json_object
from models_store.settings import Settings
from models_store.work.store import Place
from tests.app.support.imports import adapter, pair, send, stored
from tests.app.support.worker import Worker, small_delta
from tests.support.services import Api, running_api


def imported(api: Api, worker: Worker, tenant: str = "default", **options: Any) -> str:
    """An import that has succeeded."""
    answer = send(api, adapter(), **options)
    assert answer.status_code == 201, answer.text
    id = str(answer.json()["id"])
    facts = ImportFacts(
        kind="peft", files=(), modules=("self_attn.q_proj",), layers=(0,), rank=2, terms=2
    )
    place = Place("edit", tenant, id)
    worker.end(place, files={"delta": small_delta(7)}, data={"imported": json_object(facts)})
    return id


def test_what_a_receipt_would_say_is_404_and_all_else_works(api: Api, worker: Worker) -> None:
    id = imported(api, worker, suffix="theirs")
    edit = api.http.get(f"/v1/edits/{id}").json()
    assert edit["imported"]["facts"]["rank"] == 2
    assert (edit["points"], edit["report_summary"]) == ([], None)
    for path in ("report", "reproduce"):
        method = "POST" if path == "reproduce" else "GET"
        answer = api.http.request(method, f"/v1/edits/{id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_report")
        assert "was imported" in answer.json()["detail"]
    assert api.http.get(f"/v1/edits/{id}/texts").status_code == 404
    assert api.http.get(f"/v1/edits/{id}/delta").content == small_delta(7)
    assert api.http.get(f"/v1/edits/{id}/delta", params={"point": 0}).status_code == 404
    models = {model["id"] for model in api.http.get("/v1/models").json()["data"]}
    assert f"pico:{id}" in models
    export = {"variant": "pico:theirs@0.5", "format": "peft"}
    assert api.http.post("/v1/exports", json=export).status_code == 201
    assert api.http.delete(f"/v1/edits/{id}").status_code == 200
    assert stored(api, id) == {}
    place = Place("edit", "default", id)
    assert b"adapter_model" not in api.store.objects.read(f"{place.folder}/deleted.json")


def test_what_a_newer_version_knows_of_an_import_is_no_matter(api: Api, worker: Worker) -> None:
    facts = {"kind": "peft", "files": [], "modules": [], "layers": [0], "rank": 2, "terms": 2}
    data = {"imported": {**facts, "approximation": None, "next_year": 1}}
    id = send(api, adapter()).json()["id"]
    worker.end(Place("edit", "default", id), files={"delta": small_delta()}, data=data)
    answer = api.http.get("/v1/edits")
    assert answer.status_code == 200
    assert answer.json()["data"][0]["imported"]["facts"]["rank"] == 2


def test_bytes_of_imports_count_as_stored(settings: Settings) -> None:
    few = settings.model_copy(update={"limit_stored_bytes": 20_000})
    with running_api(few) as api:
        Worker(api.store, api.services.live.client).register("pico")
        large = adapter({**pair(), **pair("0.mlp.gate_proj", rank=2)})
        padded = [*large[:1], ("file", ("adapter_model.safetensors", large[1][1][1]))]
        for _ in range(8):
            answer = send(api, padded)
            if answer.status_code != 201:
                break
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")


POLICY = """
[[rule]]
name = "red makes its own"
effect = "deny"
tenants = ["red"]
behaviors = ["imported"]

[serving]
compositions = "any"
"""


def test_what_has_no_receipt_needs_the_scope(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    with running_api(settings.model_copy(update={"auth": "keys", "policy": file})) as api:
        worker = Worker(api.store, api.services.live.client)
        worker.register("pico")

        def key(tenant: str, *more: str) -> dict[str, str]:
            scopes = ("edits:read", "edits:write", "models:generate", *more)
            secret, _ = api.store.keys.create(name="test", tenant=tenant, scopes=scopes)
            return {"Authorization": f"Bearer {secret}"}

        careful, trusted = key("blue"), key("blue", "edits:unsafe")
        answer = send(api, adapter(), headers=key("red"))
        assert (answer.status_code, answer.json()["code"]) == (403, "policy_refused")
        id = imported(api, worker, "blue", headers=careful)
        for name in (f"pico:{id}", f"pico:{id}@0.1"):
            body = {"variant": name, "format": "peft"}
            answer = api.http.post("/v1/exports", json=body, headers=careful)
            assert (answer.status_code, answer.json()["code"]) == (403, "policy_refused")
            assert "has no receipt" in answer.json()["detail"]
            assert "POST /v1/receipts" in answer.json()["detail"]
            assert api.http.post("/v1/exports", json=body, headers=trusted).status_code == 201


def test_a_receipt_of_an_edit_on_top_covers_an_import() -> None:
    def term(edit: str, strength: float = 1.0) -> DeltaRef:
        return DeltaRef(edit_id=edit, path=edit, sha256=edit, strength=strength)

    parents = {"import": (), "child": (term("import", 0.5),)}

    def reason(*terms: DeltaRef) -> str | None:
        return not_covered(terms, parents, Serving(compositions="any"), ["import"])

    assert reason(term("import", 0.5), term("child")) is None
    assert reason(term("import", 0.25), term("child", 0.5)) is None
    assert "import has no receipt" in (reason(term("import")) or "")
    assert "import has no receipt" in (reason(term("import"), term("child")) or "")
    assert reason(term("import", 0.0)) is None
