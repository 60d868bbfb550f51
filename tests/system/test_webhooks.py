"""Webhooks by real processes: an API that is killed between deliveries, a Redis that is flushed, an
editor that makes the edits, and a receiver that sometimes fails."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.app.support.receiver import Message, Receiver, running_receiver
from tests.security.api_process import ApiProcess, api_process
from tests.support.local import local_client
from tests.support.services import RedisServer, own_environment, unmeasured_harm
from tests.system.faults.edits import edit_body
from tests.system.faults.harness import EditorProcess

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(280)]


BRIEF = ("edit.stage", "edit.progress")


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.long)])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings of all processes."""
    settings = {
        "SCALPEL_OUTGOING_ALLOW": "127.0.0.1/32",
        "SCALPEL_OUTGOING_HTTP": "true",
        "SCALPEL_WEBHOOK_RETRY_SECONDS": "0.2",
        "SCALPEL_WEBHOOK_TIMEOUT_SECONDS": "2",
        "SCALPEL_DATA": str(tmp_path / "data"),
        "SCALPEL_CACHE": str(tmp_path / "cache"),
        "SCALPEL_POLICY": str(unmeasured_harm(tmp_path)),
        "OMP_NUM_THREADS": "1",
    }
    if request.param == "s3":
        settings["SCALPEL_STORE_URL"] = f"s3://{request.getfixturevalue('s3_bucket')}/scalpel"
        settings["SCALPEL_S3_ENDPOINT"] = request.getfixturevalue("s3_endpoint")
    return settings


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def editor(
    environment: dict[str, str],
    redis_server: RedisServer,
    tmp_path: Path,
) -> Iterator[EditorProcess]:
    env = own_environment(**environment, SCALPEL_REDIS_URL=redis_server.url)
    process = EditorProcess(env, tmp_path / "editor.log")
    yield process
    process.stop()


@dataclass
class Trouble:
    """Fails some deliveries, and kills the API during others."""

    kill_after: list[str]
    """Types of events; when one comes, the API is killed before it gets the response."""
    api: ApiProcess | None = None
    killed: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, message: Message) -> int:
        self.seen[message.id] += 1
        if self.api is not None and message.type in self.kill_after:
            self.kill_after.remove(message.type)
            self.killed.append(message.id)
            os.kill(self.api.process.pid, signal.SIGKILL)
            self.api = None
            return 200
        if self.seen[message.id] == 1 and hash(message.id) % 3 == 0:
            return 500
        if self.seen[message.id] == 1 and hash(message.id) % 7 == 0:
            time.sleep(3)  # longer than the timeout
        return 200


def ready(api: ApiProcess, folder: Path) -> None:
    with local_client(api.url, 90) as http:
        source = {"type": "folder", "path": str(folder)}
        http.post("/v1/base_models", json={"id": "pico", "source": source}).raise_for_status()
        made = http.get("/v1/base_models/pico?wait=60").json()
        assert made["status"] == "succeeded", made


def test_an_api_that_is_killed_between_deliveries_loses_no_event_and_keeps_their_order(
    environment: dict[str, str],
    redis_server: RedisServer,
    editor: EditorProcess,
    receiver: Receiver,
    pico_folder: Path,
    tmp_path: Path,
) -> None:
    trouble = Trouble(["edit.created", "edit.started", "edit.succeeded"])
    receiver.answer = trouble
    edits: list[str] = []
    expected: dict[str, list[dict[str, Any]]] = {}
    for turn in range(4):
        with (
            api_process(tmp_path, redis_server.url, **environment) as api,
            local_client(api.url, 60) as http,
        ):
            if turn == 0:
                ready(api, pico_folder)
                hook = http.post("/v1/webhooks", json={"url": receiver.url}).json()
            if turn < 3:
                response = http.post("/v1/edits", json=edit_body())
                assert response.status_code == 201, response.text
                edits.append(response.json()["id"])
                trouble.api = api
                redis_server.client().flushall()
                receiver.wait_for(lambda: trouble.api is None, 60)
                api.process.wait(10)
                continue
            for edit in edits:
                assert http.get(f"/v1/edits/{edit}?wait=60").json()["status"] == "succeeded"
                events = http.get(f"/v1/edits/{edit}/events?order=asc").json()["data"]
                expected[edit] = [event for event in events if event["type"] not in BRIEF]
            receiver.wait_for(lambda: set(_ids(expected)) <= set(_taken(receiver)), 60)
            time.sleep(2)  # nothing more comes
            shown = http.get(f"/v1/webhooks/{hook['id']}/deliveries?limit=100").json()

    assert len(trouble.killed) == 3
    for message in receiver.got:
        message.check(hook["secret"])
    # First come, once each: exactly the events of each edit, in the order of their ids.
    first: dict[str, Message] = {}
    for message in receiver.taken:
        first.setdefault(message.id, message)
    for edit, events in expected.items():
        got = [message.event for message in first.values() if message.event["edit_id"] == edit]
        assert got == events
    assert len(first) == sum(len(events) for events in expected.values())
    # What was delivered when the API died was sent again, since that was not recorded.
    assert all(trouble.seen[id] >= 2 for id in trouble.killed)
    assert {delivery["id"] for delivery in shown["data"]} == first.keys()
    assert {delivery["status"] for delivery in shown["data"]} == {"delivered"}


def _ids(expected: dict[str, list[dict[str, Any]]]) -> list[tuple[str, int]]:
    return [(edit, event["id"]) for edit, events in expected.items() for event in events]


def _taken(receiver: Receiver) -> list[tuple[str, int]]:
    return [(message.event["edit_id"], message.event["id"]) for message in receiver.taken]
