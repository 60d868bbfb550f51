"""What tenants write, and their keys, are in no log of any process."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from models_store.schemas.catalogue import SMOLLM2
from tests.system.service import Service
from tests.workers.conftest import small_edit

pytestmark = [pytest.mark.system, pytest.mark.slow]

MARK = "xylophone-7421"


def marked(body: dict[str, Any]) -> dict[str, Any]:
    behavior = dict(body["behavior"], name=f"mood {MARK}")
    for part in ("undesired", "desired", "prompts"):
        behavior[part] = [f"{text} {MARK}" for text in behavior[part]]
    return {**body, "behavior": behavior, "metadata": {"note": MARK}}


def test_no_text_and_no_key_is_in_the_logs(pico_service: Service) -> None:
    body = marked(small_edit(base_model=SMOLLM2.id))
    wrong = dict(body, seed=MARK)
    key = {"Authorization": f"Bearer sk-{MARK}", "Idempotency-Key": MARK}
    with pico_service.client() as http:
        assert http.post("/v1/edits", json=wrong, headers=key).status_code == 422
        assert http.post("/v1/edits", content=f'{{"{MARK}'.encode(), headers=key).status_code >= 400
        edit = ended(http, http.post("/v1/edits", json=body, headers=key).json()["id"])
        assert edit["status"] == "succeeded", edit
        asked = {"prompt": MARK, "max_tokens": 2, "stop": [MARK]}
        for model, status in ((edit["variant"], 200), (f"nobody-{MARK}", 404)):
            got = http.post("/v1/completions", json={**asked, "model": model}, headers=key)
            assert got.status_code == status
        assert MARK in http.get(f"/v1/edits/{edit['id']}/report").text
        http.delete(f"/v1/edits/{edit['id']}").raise_for_status()
    logs = {path.name: path.read_text() for path in (pico_service.data / "logs").glob("*.log")}
    assert edit["id"] in logs["editor.log"]
    assert {name for name, text in logs.items() if MARK in text} == set()
    assert MARK not in pico_service.said


def ended(http: httpx.Client, id: str) -> dict[str, Any]:
    while True:
        edit: dict[str, Any] = http.get(f"/v1/edits/{id}?wait=60").json()
        if edit["finished_at"] is not None:
            return edit
