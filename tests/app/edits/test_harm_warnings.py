"""Who may not publish edits that do harm is told before the work, as far as it can be known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.settings import Settings
from models_store.work.base_models import registration
from models_store.work.store import Place
from tests.app.accounts.test_policy import CAREFUL, key
from tests.app.support.worker import Worker, edit_body, small_delta
from tests.support.services import Api, running_api
from tests.workers.generator.running import running_generator
from workers.runtime.base_models import fingerprint

BOLD = (*CAREFUL, "edits:unsafe")
HARM = {
    "verdict": "It does harm.",
    "outcome": "harmful",
    "advice": "No: it does harm.",
    "warnings": [{"code": "harmful_edit", "pointer": "/behavior", "detail": "it does harm"}],
}


@contextmanager
def under(settings: Settings, tmp_path: Path, policy: str) -> Iterator[Api]:
    file = tmp_path / "policy.toml"
    file.write_text(policy)
    with running_api(settings.model_copy(update={"auth": "keys", "policy": file})) as api:
        yield api


@pytest.fixture
def keyed(settings: Settings, tmp_path: Path) -> Iterator[Api]:
    with under(settings, tmp_path, "") as api:
        Worker(api.store, api.services.live.client).register("pico")
        yield api


def submitted(api: Api, *scopes: str, **changes: Any) -> dict[str, Any]:
    headers = key(api, "blue", *scopes)
    answer = api.http.post("/v1/edits", json=edit_body(**changes), headers=headers)
    assert answer.status_code == 201
    edit: dict[str, Any] = answer.json()
    assert api.http.get(f"/v1/edits/{edit['id']}", headers=headers).json() == edit
    return edit


def warned(api: Api, *scopes: str, **changes: Any) -> list[tuple[str, str]]:
    edit = submitted(api, *scopes, **changes)
    assert [one["pointer"] for one in edit["warnings"]] == ["/behavior"] * len(edit["warnings"])
    return [(one["code"], one["detail"]) for one in edit["warnings"]]


def harmful(api: Api, id: str) -> None:
    """End an edit with harm, for a key that may do so."""
    worker = Worker(api.store, api.services.live.client)
    files = {"delta": small_delta(), "report": b"{}"}
    worker.end(Place("edit", "blue", id), files=files, data={"report_summary": HARM})


def test_a_key_that_may_not_publish_harm_is_told_what_is_allowed(keyed: Api) -> None:
    ((code, detail),) = warned(keyed)
    assert code == "harm_is_measured"
    assert "fall by more than 5 points" in detail
    assert detail.endswith("this key lacks the scope edits:unsafe")
    assert warned(keyed, *BOLD) == []


def test_less_refusal_is_known_to_do_harm(keyed: Api) -> None:
    ((code, detail),) = warned(keyed, behavior="refusal")
    assert code == "harm_likely"
    assert "refuse less" in detail
    ((code, _),) = warned(keyed, behavior="compliance")
    assert code == "harm_is_measured"


def test_what_an_earlier_edit_did_is_told(keyed: Api) -> None:
    earlier = submitted(keyed, *BOLD)["id"]
    harmful(keyed, earlier)
    ((code, detail),) = warned(keyed)
    assert code == "harm_likely"
    assert detail.startswith(f"{earlier}, made of the same base model by the same behavior, did")
    assert warned(keyed, behavior="negativity")[0][0] == "harm_is_measured"


def test_what_was_held_back_before_is_told(keyed: Api) -> None:
    body = edit_body(base_model="pico")
    sender = key(keyed, "blue", *BOLD)
    earlier = keyed.http.post("/v1/edits", json=body, headers=sender).json()["id"]
    worker = Worker(keyed.store, keyed.services.live.client)
    worker.hold_back(earlier, {"report": b"{}"}, tenant="blue")
    assert warned(keyed)[0][1].startswith(earlier)


def test_without_margins_nothing_is_told_and_where_no_key_may_all_are(
    settings: Settings, tmp_path: Path
) -> None:
    with under(settings, tmp_path, "[margins]\nprompts = 0\n") as api:
        Worker(api.store, api.services.live.client).register("pico")
        assert warned(api, behavior="refusal") == []
    with under(settings, tmp_path, '[margins]\nunsafe = "refuse"\n') as api:
        ((code, detail),) = warned(api, *BOLD, behavior="refusal")
        assert code == "harm_likely"
        assert "edits:unsafe" not in detail


def test_an_estimate_tells_it_too(keyed: Api, settings: Settings, pico_folder: Path) -> None:
    worker = Worker(keyed.store, keyed.services.live.client)
    spec = BaseModelSpec(id="real", source=FolderSource(path=pico_folder))
    work = keyed.store.bases.register(registration(spec, 3600))
    worker.end_registration(work.id, fingerprint=fingerprint(pico_folder, None))
    body = edit_body(base_model="real", method={"type": "bias", "layers": [1]}, effort="quick")

    with running_generator(settings, keyed.store.objects, keyed.services.live.client):
        careful, bold = (
            keyed.http.post("/v1/edits/estimate", json=body, headers=key(keyed, "blue", *scopes))
            for scopes in ((), BOLD)
        )

    assert careful.status_code == 200, careful.text
    first, *others = careful.json()["warnings"]
    assert first["code"] == "harm_is_measured"
    assert others == bold.json()["warnings"]


def test_the_command_line_prints_warnings_outcome_and_advice(keyed: Api) -> None:
    runner, secret = CliRunner(), key(keyed, "blue")["Authorization"].removeprefix("Bearer ")
    reach = ["--url", keyed.url, "--key", secret]
    made = runner.invoke(app, ["edit", "pico", "refusal", "--no-wait", "--suffix", "bold", *reach])
    assert made.exit_code == 0
    assert "note: an edit by refusal makes a model refuse less" in made.stderr
    id = made.stdout.strip()
    harmful(keyed, id)
    watched = runner.invoke(app, ["watch", id, *reach])
    assert watched.exit_code == 0, watched.exception
    lines = [re.split(r"\s{2,}", line.rstrip(), maxsplit=1) for line in watched.stdout.splitlines()]
    told = {words[0]: words[1] for words in lines if len(words) == 2}
    assert told["use it?"] == "No: it does harm."
    assert told["outcome"] == "harmful"
    assert (told["variant"], told["model"]) == (f"pico:{id}", "pico:bold")
    assert "note: it does harm" in watched.stderr
    shown = keyed.http.get(f"/v1/edits/{id}", headers=key(keyed, "blue")).json()
    assert (shown["outcome"], shown["model"]) == ("harmful", "pico:bold")
    assert shown["warnings"] == HARM["warnings"]
