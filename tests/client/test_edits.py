"""Edits through the client: made, listed, waited for, read and downloaded."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from scalpel_client import (
    ConflictError,
    NotFoundError,
    Scalpel,
    Unknown,
    UnprocessableEntityError,
    WaitTimeoutError,
    WorkFailedError,
    models,
)
from tests.app.support.sample_report import sample_report
from tests.app.support.worker import Worker, edit_body, small_delta
from tests.support.services import Api

BEHAVIOR: Any = edit_body()["behavior"]


def test_an_edit_is_made_of_dictionaries_and_read_as_a_model(
    client: Scalpel, worker: Worker
) -> None:
    edit = client.edits.create(
        base_model="pico",
        behavior=BEHAVIOR,
        method={"type": "bias", "max_tokens": 50},
        limits={"max_kl": 0.05},
        effort="quick",
        suffix="kinder",
        metadata={"team": "support"},
    )

    assert edit.status == "queued"
    assert isinstance(edit.method, models.Bias)
    assert edit.method.max_tokens == 50
    assert edit.limits is not None
    assert edit.limits.max_kl == 0.05
    assert client.edits.retrieve(edit.id) == edit


def test_models_are_sent_without_what_nobody_set(client: Scalpel, worker: Worker) -> None:
    edit = client.edits.create(
        base_model="pico",
        behavior=models.Behavior(**BEHAVIOR),
        method=models.Bias(type="bias"),
        limits=models.Limits(max_kl=0.05),
    )

    assert edit.limits is not None
    assert (edit.limits.max_kl, edit.limits.max_domain) == (0.05, 0.3)


def test_a_method_that_the_client_does_not_know_is_any_object(
    client: Scalpel, worker: Worker
) -> None:
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)
    method = {"type": "mean_shift", "depth": 0.5}

    newer = models.Edit.model_validate({**edit.model_dump(), "method": method})

    assert isinstance(newer.method, Unknown)
    assert newer.method.model_dump() == method


def test_a_list_goes_on_from_page_to_page(client: Scalpel, worker: Worker) -> None:
    made = [client.edits.create(base_model="pico", behavior=BEHAVIOR).id for _ in range(5)]
    client.edits.create(base_model="pico", behavior=BEHAVIOR, metadata={"team": "other"})

    assert [edit.id for edit in client.edits.list(limit=2, order="asc")][:5] == made
    page = client.edits.list(limit=2, order="asc").page()
    assert [edit.id for edit in page.data] == made[:2]
    assert page.has_more
    assert len(list(client.edits.list(metadata={"team": "other"}))) == 1


def test_a_wrong_field_is_named(client: Scalpel, worker: Worker) -> None:
    with pytest.raises(UnprocessableEntityError) as caught:
        client.edits.create(base_model="pico", behavior=BEHAVIOR, limits={"max_kl": -1})

    error = caught.value
    assert error.status_code == 422
    assert error.code == "invalid_request"
    assert error.param == "/limits/max_kl"
    assert error.request_id is not None
    assert "/limits/max_kl" in str(error)


def test_what_is_missing_and_what_conflicts_have_errors_of_their_own(
    client: Scalpel, worker: Worker
) -> None:
    with pytest.raises(NotFoundError, match="edit_00000000000000000000000000"):
        client.edits.retrieve("edit_00000000000000000000000000")
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)
    with pytest.raises(ConflictError) as caught:
        client.edits.delta(edit.id).read()
    assert caught.value.code == "edit_not_finished"
    assert caught.value.retry_after is not None


def test_an_edit_is_waited_for_while_progress_is_told(
    client: Scalpel, api: Api, worker: Worker
) -> None:
    seen = []

    def on_progress(event: models.Event) -> None:
        seen.append(event.type)
        if event.type == "edit.created":
            worker.claim(event.edit_id)
            worker.tell_stage(event.edit_id, "extract")
        if event.type == "edit.stage":
            worker.succeed(event.edit_id)

    edit = client.edits.create_and_wait(
        base_model="pico", behavior=BEHAVIOR, on_progress=on_progress
    )

    assert edit.status == "succeeded"
    assert seen[:3] == ["edit.created", "edit.started", "edit.stage"]
    assert seen[-1] == "edit.succeeded"


def test_waiting_without_a_callback_ends_with_the_edit(client: Scalpel, worker: Worker) -> None:
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)
    threading.Timer(0.2, worker.succeed, (edit.id,)).start()

    assert client.edits.wait(edit.id).status == "succeeded"


def test_an_edit_that_fails_is_an_error_with_its_code(client: Scalpel, worker: Worker) -> None:
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)
    worker.fail(edit.id, "no_effect_within_limits")

    with pytest.raises(WorkFailedError, match="it went wrong") as caught:
        client.edits.wait(edit.id)
    assert caught.value.code == "no_effect_within_limits"
    assert caught.value.work.id == edit.id


def test_one_that_takes_too_long_is_given_up(client: Scalpel, worker: Worker) -> None:
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)

    with pytest.raises(WaitTimeoutError, match="still queued"):
        client.edits.wait(edit.id, timeout=0.2)
    assert client.edits.retrieve(edit.id).status == "queued"


def test_a_delta_is_saved_with_progress_and_its_checksum(
    client: Scalpel, worker: Worker, tmp_path: Path
) -> None:
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)
    delta = small_delta()
    worker.succeed(edit.id, delta=delta)
    told: list[tuple[int, int | None]] = []

    file = client.edits.delta(edit.id).save(
        tmp_path / "kinder.safetensors", lambda done, total: told.append((done, total))
    )

    assert file.read_bytes() == delta
    assert told[-1] == (len(delta), len(delta))
    assert not list(tmp_path.glob("*.part"))
    assert client.edits.delta(edit.id).read() == delta


def test_a_receipt_is_read_as_a_model_a_page_and_a_card(client: Scalpel, worker: Worker) -> None:
    edit = client.edits.create(base_model="pico", behavior=BEHAVIOR)
    worker.succeed(edit.id, report=sample_report().model_dump_json().encode())

    receipt = client.receipts.retrieve(edit.id)

    assert receipt.verdict.sentence in receipt._repr_html_()
    assert receipt.effects[0].scorer in receipt._repr_html_()
    assert client.receipts.html(edit.id).startswith("<!doctype html>")
    assert client.receipts.markdown(edit.id).startswith("---")
    assert edit.id in client.edits.retrieve(edit.id)._repr_html_()


def test_texts_are_uploaded_with_progress(client: Scalpel, tmp_path: Path) -> None:
    lines = [f'{{"text": "bad {i} thing", "label": "undesired"}}\n' for i in range(20)]
    lines += [f'{{"text": "good {i} thing", "label": "desired"}}\n' for i in range(20)]
    file = tmp_path / "tone.jsonl"
    file.write_text("".join(lines))
    told: list[tuple[int, int | None]] = []

    behavior = client.behaviors.upload(
        file, name="tone", on_progress=lambda done, total: told.append((done, total))
    )

    assert behavior.counts == {"undesired": 20, "desired": 20, "prompts": 0}
    assert told[-1] == (file.stat().st_size, file.stat().st_size)
    assert behavior.id is not None
    assert client.behaviors.retrieve(behavior.id).undesired[3].model_dump()["text"] == "bad 3 thing"


def test_an_adapter_is_uploaded_with_progress(
    client: Scalpel, api: Api, worker: Worker, tmp_path: Path
) -> None:
    delta = tmp_path / "delta.safetensors"
    delta.write_bytes(small_delta())
    told: list[tuple[int, int | None]] = []

    edit = client.imports.upload(
        [delta],
        base_model="pico",
        suffix="brought",
        metadata={"team": "support"},
        on_progress=lambda done, total: told.append((done, total)),
    )

    assert edit.imported is not None
    assert edit.metadata == {"team": "support"}
    assert told[-1] == (delta.stat().st_size, delta.stat().st_size)
    assert hashlib.sha256(delta.read_bytes()).hexdigest() in str(edit.imported.source)


def test_an_id_that_is_a_path_of_its_own_is_not_sent() -> None:
    with Scalpel("http://127.0.0.1:9") as client, pytest.raises(ValueError, match="an id"):
        client.edits.retrieve("..")
