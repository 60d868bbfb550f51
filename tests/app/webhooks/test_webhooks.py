"""Webhooks over real HTTP: the calls, and what a receiver is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from models_store.audit.check import lines_of
from models_store.settings import Settings
from tests.app.support.receiver import Receiver, running_receiver
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api, RedisServer, running_api, running_redis

ALL = ["edit.created", "edit.started", "edit.attempt_ended", "edit.succeeded"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {
        "outgoing_allow": "127.0.0.0/8",
        "outgoing_http": True,
        "webhook_retry_seconds": 0.1,
        "webhook_tries": 4,
        "webhook_timeout_seconds": 1.0,
        "lease_seconds": 600.0,
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with running_api(settings, with_keeper=True) as running:
        Worker(running.store, running.services.live.client).register("pico")
        yield running


@pytest.fixture
def worker(api: Api) -> Worker:
    return Worker(api.store, api.services.live.client)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def make(api: Api, url: str, **fields: Any) -> dict[str, Any]:
    answer = api.http.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()
    return webhook


def submit(api: Api, **fields: Any) -> str:
    answer = api.http.post("/v1/edits", json=edit_body(**fields))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def deliveries(api: Api, webhook: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answer = api.http.get(f"/v1/webhooks/{webhook['id']}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def markers(api: Api) -> list[str]:
    return [info.path for info in api.store.objects.files("outbox")]


def read(api: Api, webhook: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api.http.get(f"/v1/webhooks/{webhook['id']}").json()
    return found


# The calls.


def test_a_webhook_is_made_read_changed_and_removed(api: Api) -> None:
    answer = api.http.post("/v1/webhooks", json={"url": "https://hooks.example.com/a"})
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    assert made["enabled"] is True
    assert "edit.succeeded" in made["events"]

    assert "secret" not in read(api, made)
    listed = api.http.get("/v1/webhooks").json()["data"]
    assert [one["id"] for one in listed] == [made["id"]]
    assert "secret" not in listed[0]

    patch = {"url": "https://hooks.example.com/b", "events": ["edit.failed"]}
    changed = api.http.patch(f"/v1/webhooks/{made['id']}", json=patch).json()
    assert (changed["url"], changed["events"]) == (patch["url"], patch["events"])
    off = api.http.patch(f"/v1/webhooks/{made['id']}", json={"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "switched off")
    on = api.http.patch(f"/v1/webhooks/{made['id']}", json={"enabled": True}).json()
    assert (on["enabled"], on["disabled_reason"]) == (True, None)
    assert [one["type"] for one in on["history"]] == [
        "webhook.enabled",
        "webhook.disabled",
        "webhook.updated",
        "webhook.created",
    ]

    assert api.http.delete(f"/v1/webhooks/{made['id']}").json()["deleted"] is True
    for path in ("", "/deliveries"):
        assert api.http.get(f"/v1/webhooks/{made['id']}{path}").status_code == 404
    assert api.http.get("/v1/webhooks").json()["data"] == []


def test_the_secret_is_shown_once_even_to_a_repeated_request(api: Api) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"url": "https://hooks.example.com/a"}
    first, again = (api.http.post("/v1/webhooks", json=body, headers=headers) for _ in range(2))
    assert first.json()["secret"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == {**first.json(), "secret": None}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "https://0xa.1/",
        "https://me:secret@hooks.example.com/",
        "https://exa mple.com/",
    ],
)
def test_an_address_that_nothing_may_be_sent_to_is_refused_at_once(api: Api, url: str) -> None:
    answer = api.http.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/url", "address_not_allowed")


def test_plain_http_is_refused_unless_the_operator_allows_it(settings: Settings) -> None:
    with running_api(settings.model_copy(update={"outgoing_http": False})) as api:
        answer = api.http.post("/v1/webhooks", json={"url": "http://hooks.example.com/"})
        assert answer.status_code == 422
        assert "https" in answer.json()["detail"]


def test_there_is_a_limit_to_how_many_there_are(api: Api) -> None:
    for number in range(16):
        last = make(api, f"https://hooks.example.com/{number}")
    answer = api.http.post("/v1/webhooks", json={"url": "https://hooks.example.com/x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_webhooks")
    api.http.delete(f"/v1/webhooks/{last['id']}")
    make(api, "https://hooks.example.com/x")


def test_a_test_message_is_sent_at_once_and_tells_what_came_of_it(
    api: Api, receiver: Receiver
) -> None:
    webhook = make(api, receiver.url)
    test = api.http.post(f"/v1/webhooks/{webhook['id']}/test").json()
    assert (test["delivered"], test["status_code"], test["error"]) == (True, 200, None)
    (message,) = receiver.taken
    message.check(webhook["secret"])
    assert (message.id, message.type) == (test["message_id"], "webhook.test")

    receiver.answer = lambda message: 302
    test = api.http.post(f"/v1/webhooks/{webhook['id']}/test").json()
    assert (test["delivered"], test["status_code"]) == (False, 302)
    assert "redirects are not followed" in test["error"]
    assert deliveries(api, webhook) == []


def test_a_name_that_leads_into_the_house_is_told_without_its_address(
    settings: Settings,
) -> None:
    with running_api(settings.model_copy(update={"outgoing_allow": ""})) as api:
        webhook = make(api, "http://localhost:1/")
        test = api.http.post(f"/v1/webhooks/{webhook['id']}/test").json()
        assert test["error"] == "localhost is not at a public address"


# What is told.


def test_a_receiver_is_told_exactly_the_events_of_an_edit_in_their_order(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    before = submit(api)
    webhook = make(api, receiver.url)
    edit = submit(api)
    receiver.wait_for_taken(1)
    worker.claim(edit)
    receiver.wait_for_taken(2)
    worker.succeed(edit)
    worker.succeed(before)
    messages = receiver.wait_for_taken(4)
    time.sleep(1.5)  # nothing more comes

    events = api.http.get(f"/v1/edits/{edit}/events?order=asc").json()["data"]
    durable = [event for event in events if event["type"] in ALL]
    assert [message.event for message in messages] == durable
    assert [message.type for message in messages] == ALL
    assert len({message.id for message in messages}) == 4
    for message in messages:
        message.check(webhook["secret"])
        assert message.headers["content-type"] == "application/json"
        assert message.said["timestamp"].endswith("Z")
    assert markers(api) == []


def test_only_the_events_that_were_asked_for_are_told(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    make(api, receiver.url, events=["edit.failed", "edit.started"])
    first, second = submit(api), submit(api)
    worker.succeed(first)
    worker.fail(second)
    receiver.wait_for_taken(3)
    receiver.wait_for(lambda: not markers(api))
    assert receiver.types_of(first) == ["edit.started"]
    assert receiver.types_of(second) == ["edit.started", "edit.failed"]


def test_a_failed_try_is_repeated_with_the_same_id_and_holds_up_only_its_edit(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    webhook = make(api, receiver.url)
    left = {"edit.created": 2}

    def fail_twice(message: Any) -> int:
        if message.event["edit_id"] == hard and left.get(message.type, 0):
            left[message.type] -= 1
            return 500
        return 200

    hard = ""
    receiver.answer = fail_twice
    worker.succeed(easy := submit(api))
    receiver.wait_for_taken(4)
    hard = submit(api)
    worker.succeed(hard)
    receiver.wait_for(lambda: len(receiver.types_of(hard)) == 4)

    assert receiver.types_of(easy) == receiver.types_of(hard) == ALL
    tries = [message for message in receiver.got if message.event["edit_id"] == hard]
    assert [message.type for message in tries] == ["edit.created"] * 2 + ALL
    assert len({message.id for message in tries[:3]}) == 1
    receiver.wait_for(lambda: not markers(api))
    shown = deliveries(api, webhook, order="asc")
    assert [one["id"] for one in shown] == sorted({message.id for message in receiver.got})
    created = next(one for one in shown if one["edit_id"] == hard)
    assert created["status"] == "delivered"
    assert [one["status_code"] for one in created["tries"]] == [500, 500, 200]
    assert created["tries"][0]["error"] == "the receiver answered 500"


@pytest.mark.parametrize("answer", [-1, 1.6], ids=["hangs up", "is slow"])
def test_a_receiver_that_gives_no_answer_is_tried_again(
    api: Api, worker: Worker, receiver: Receiver, answer: float
) -> None:
    webhook = make(api, receiver.url, events=["edit.created"])
    first = True

    def once(message: Any) -> int:
        nonlocal first
        if first:
            first = False
            if answer < 0:
                return -1
            time.sleep(answer)
        return 200

    receiver.answer = once
    submit(api)
    receiver.wait_for(lambda: len(receiver.got) == 2)
    receiver.wait_for(lambda: deliveries(api, webhook)[0]["status"] == "delivered")
    (shown,) = deliveries(api, webhook)
    assert [one["status_code"] for one in shown["tries"]] == [None, 200]
    assert shown["tries"][0]["error"]


def test_a_slow_receiver_does_not_hold_up_another(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    make(api, receiver.url)
    with running_receiver() as slow:
        slow.answer = lambda message: time.sleep(0.9) or 500  # type: ignore[func-returns-value]
        make(api, slow.url)
        began = time.monotonic()
        edits = [submit(api) for _ in range(5)]
        for edit in edits:
            worker.succeed(edit)
        receiver.wait_for_taken(20, 10)
        assert time.monotonic() - began < 10
        assert all(receiver.types_of(edit) == ALL for edit in edits)


def test_a_receiver_that_takes_nothing_in_all_tries_is_disabled_and_says_why(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    receiver.answer = lambda message: 503
    webhook = make(api, receiver.url)
    edit = submit(api)
    receiver.wait_for(lambda: not read(api, webhook)["enabled"], 30)
    shown = read(api, webhook)
    assert "4 tries" in shown["disabled_reason"]
    assert "503" in shown["disabled_reason"]
    assert shown["history"][0]["type"] == "webhook.disabled"
    assert shown["history"][0]["reason"] == shown["disabled_reason"]
    (line,) = [line for line in lines_of(api.store.objects) if line.event == "webhook.disabled"]
    assert line.fields["id"] == webhook["id"]

    worker.succeed(edit)
    receiver.wait_for(lambda: not markers(api))
    assert len(receiver.got) == 4
    assert [(one["type"], one["status"]) for one in deliveries(api, webhook, order="asc")] == [
        ("edit.created", "failed"),
        ("edit.started", "skipped"),
        ("edit.attempt_ended", "skipped"),
        ("edit.succeeded", "skipped"),
    ]
    receiver.answer = lambda message: 200
    api.http.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": True})
    second = submit(api)
    receiver.wait_for(lambda: receiver.types_of(second) == ["edit.created"])


def test_one_event_that_is_never_taken_does_not_disable_a_webhook_that_takes_others(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    receiver.answer = lambda message: 500 if message.event["edit_id"] == bad else 200
    bad = ""
    webhook = make(api, receiver.url, events=["edit.created", "edit.succeeded"])
    bad = submit(api)
    receiver.wait_for(lambda: len(receiver.got) >= 1)
    good = submit(api)
    receiver.wait_for(lambda: receiver.types_of(good))
    receiver.wait_for(lambda: deliveries(api, webhook, status="failed"), 30)
    assert read(api, webhook)["enabled"]
    # What comes after the event that was given up is told.
    worker.succeed(bad)
    receiver.answer = lambda message: 200
    receiver.wait_for(lambda: receiver.types_of(bad) == ["edit.succeeded"])


def test_a_receiver_that_says_gone_is_disabled_at_once(api: Api, receiver: Receiver) -> None:
    receiver.answer = lambda message: 410
    webhook = make(api, receiver.url)
    submit(api)
    receiver.wait_for(lambda: not read(api, webhook)["enabled"])
    assert read(api, webhook)["disabled_reason"] == "the receiver answered 410 Gone"
    assert len(receiver.got) == 1


def test_what_was_given_up_can_be_delivered_by_hand(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    receiver.answer = lambda message: 410
    webhook = make(api, receiver.url, events=["edit.created"])
    submit(api)
    receiver.wait_for(lambda: deliveries(api, webhook, status="skipped"))
    (skipped,) = deliveries(api, webhook)
    path = f"/v1/webhooks/{webhook['id']}/deliveries/{skipped['id']}/retry"
    again = api.http.post(path).json()
    assert (again["status"], again["tries"][-1]["status_code"]) == ("failed", 410)
    receiver.answer = lambda message: 200
    again = api.http.post(path).json()
    assert (again["status"], again["tries"][-1]["by_hand"]) == ("delivered", True)
    assert receiver.taken[0].id == skipped["id"]
    receiver.taken[0].check(webhook["secret"])
    assert api.http.post(path.replace(skipped["id"], "msg_x")).status_code == 404


def test_while_secrets_overlap_messages_are_signed_with_both(api: Api, receiver: Receiver) -> None:
    webhook = make(api, receiver.url, events=["edit.created"])
    path = f"/v1/webhooks/{webhook['id']}/rotate"
    rotated = api.http.post(path, json={"overlap_seconds": 3600}).json()
    assert rotated["secret"] != webhook["secret"]
    submit(api)
    (message,) = receiver.wait_for_taken(1)
    message.check(webhook["secret"])
    message.check(rotated["secret"])

    last = api.http.post(path, json={"overlap_seconds": 0}).json()
    api.http.post(f"/v1/webhooks/{webhook['id']}/test")
    message = receiver.wait_for_taken(2)[1]
    message.check(last["secret"])
    # The one that was to sign for an hour more still does; the one between does not.
    message.check(webhook["secret"])
    with pytest.raises(WebhookVerificationError):
        message.check(rotated["secret"])


def test_a_canceled_and_deleted_edit_is_told_to_its_end(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    make(api, receiver.url)
    edit = submit(api)
    receiver.wait_for_taken(1)
    assert api.http.delete(f"/v1/edits/{edit}").status_code == 200
    receiver.wait_for_taken(2)
    assert receiver.types_of(edit) == ["edit.created", "edit.canceled"]
    receiver.wait_for(lambda: not markers(api))


def test_a_removed_webhook_is_told_nothing_more(
    api: Api, worker: Worker, receiver: Receiver
) -> None:
    webhook = make(api, receiver.url)
    edit = submit(api)
    receiver.wait_for_taken(1)
    api.http.delete(f"/v1/webhooks/{webhook['id']}")
    worker.succeed(edit)
    receiver.wait_for(lambda: not markers(api))
    assert len(receiver.got) == 1


def test_without_webhooks_no_marker_is_put(api: Api) -> None:
    submit(api)
    assert markers(api) == []


def test_deliveries_come_in_pages(api: Api, worker: Worker, receiver: Receiver) -> None:
    webhook = make(api, receiver.url)
    for _ in range(3):
        worker.succeed(submit(api))
    receiver.wait_for_taken(12)
    receiver.wait_for(lambda: not markers(api))
    for order in ("asc", "desc"):
        seen: list[str] = []
        after = None
        while True:
            query = {"limit": 5, "order": order, **({"after": after} if after else {})}
            page = api.http.get(f"/v1/webhooks/{webhook['id']}/deliveries", params=query).json()
            seen += [one["id"] for one in page["data"]]
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert seen == sorted((message.id for message in receiver.taken), reverse=order == "desc")
    answer = api.http.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"after": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_flushed_redis_loses_no_event(
    api: Api, worker: Worker, receiver: Receiver, redis_server: RedisServer
) -> None:
    make(api, receiver.url)
    edits = []
    for _ in range(5):
        edits.append(submit(api))
        redis_server.client().flushall()
        worker.succeed(edits[-1])
    receiver.wait_for(lambda: all(receiver.types_of(edit) == ALL for edit in edits))


def test_what_was_under_way_when_the_api_ended_is_told_by_the_next(
    settings: Settings, receiver: Receiver
) -> None:
    with running_api(settings, with_keeper=True) as api:
        worker = Worker(api.store, api.services.live.client)
        worker.register("pico")
        receiver.answer = lambda message: 200 if message.type == "edit.created" else 500
        make(api, receiver.url)
        edit = submit(api)
        worker.succeed(edit)
        receiver.wait_for(lambda: len(receiver.got) >= 2)
    receiver.answer = lambda message: 200
    with running_api(settings, with_keeper=True):
        receiver.wait_for(lambda: receiver.types_of(edit) == ALL)
    assert [message.type for message in receiver.taken] == ALL  # nothing was told twice


def test_two_that_deliver_at_once_do_no_harm(settings: Settings, receiver: Receiver) -> None:
    """Without Redis' lease between them both lead; each event comes, in order, under one id."""
    with running_api(settings, with_keeper=True) as api:
        worker = Worker(api.store, api.services.live.client)
        worker.register("pico")
        make(api, receiver.url)
        with running_redis() as own:
            other = settings.model_copy(update={"redis_url": own.url})
            with running_api(other, with_keeper=True):
                edits = [submit(api) for _ in range(5)]
                for edit in edits:
                    worker.succeed(edit)
                receiver.wait_for(lambda: all(receiver.types_of(edit) == ALL for edit in edits))
                receiver.wait_for(lambda: not markers(api))
