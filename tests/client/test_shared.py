"""Signatures, unknown fields, server-sent events and what is repeated, without a server."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook as Signer

from scalpel_client import (
    APIConnectionError,
    AsyncScalpel,
    Scalpel,
    WebhookVerificationError,
    models,
)
from scalpel_client._shared.retries import delay, may_repeat
from scalpel_client._shared.sse import Decoder
from scalpel_client.errors import status_error

SECRET = "whsec_" + "c2VjcmV0IG9mIGEgd2ViaG9vayBvZiBTY2FscGVs"
EVENT = {
    "id": 47,
    "object": "event",
    "type": "edit.succeeded",
    "edit_id": "edit_1",
    "created_at": 1,
    "data": {},
}
BODY = json.dumps(EVENT)


def signed(at: datetime, body: str = BODY) -> dict[str, str]:
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": "v1,bm90aGluZw== " + Signer(SECRET).sign("msg_1", at, body),
    }


def test_a_signed_delivery_is_an_event() -> None:
    with Scalpel() as client:
        event = client.webhooks.unwrap(BODY.encode(), signed(datetime.now(UTC)), SECRET)

    assert event.type == "edit.succeeded"


@pytest.mark.parametrize(
    ("minutes", "body", "message"),
    [(0, BODY + " ", "no signature fits"), (-6, BODY, "not of now"), (6, BODY, "not of now")],
    ids=["changed", "old", "of the future"],
)
def test_a_delivery_that_is_not_signed_now_is_refused(
    minutes: int, body: str, message: str
) -> None:
    headers = signed(datetime.now(UTC) + timedelta(minutes=minutes))

    with Scalpel() as client, pytest.raises(WebhookVerificationError, match=message):
        client.webhooks.unwrap(body, headers, SECRET)


def test_a_delivery_without_a_signature_is_refused() -> None:
    with Scalpel() as client, pytest.raises(WebhookVerificationError, match="webhook-id"):
        client.webhooks.unwrap(BODY, {}, SECRET)


def test_what_a_newer_server_adds_is_kept() -> None:
    event = models.Event.model_validate({**EVENT, "type": "edit.praised", "mood": "good"})

    assert event.type == "edit.praised"
    assert event.model_dump()["mood"] == "good"


def test_an_event_that_broke_off_is_not_mixed_with_the_next_one() -> None:
    decoder = Decoder()
    lines = ["retry: 2000", ": hello", "event: old", "data: {", None, "id: 7", "event: new"]
    for line in lines:
        decoder.restart() if line is None else decoder.feed(line)
    assert decoder.feed("data: {") is None
    assert decoder.feed('data: "a": 1}') is None
    event = decoder.feed("")

    assert event is not None
    assert (event.type, event.id, event.data) == ("new", "7", {"a": 1})
    assert decoder.retry_seconds == 2


def response(status: int, **headers: str) -> Any:
    return status_error(httpx.Response(status, json={"code": "x", "detail": "y"}, headers=headers))


@pytest.mark.parametrize(
    ("error", "method", "keyed", "repeated"),
    [
        (response(503), "POST", False, True),
        (response(429, **{"Retry-After": "2"}), "POST", False, True),
        (response(429, **{"Retry-After": "3600"}), "GET", False, False),
        (response(502), "POST", False, False),
        (response(502), "POST", True, True),
        (response(500), "GET", False, False),
        (response(404), "GET", False, False),
        (APIConnectionError(), "POST", False, False),
        (APIConnectionError(), "POST", True, True),
        (APIConnectionError(), "DELETE", False, True),
    ],
)
def test_what_is_repeated(error: Any, method: str, keyed: bool, repeated: bool) -> None:
    assert may_repeat(error, method, keyed=keyed) is repeated


def test_pauses_grow_and_keep_to_what_the_server_asks() -> None:
    pauses = [[delay(repeat) for _ in range(50)] for repeat in (0, 1, 2, 5000)]
    assert all(0.25 <= pause <= 0.5 for pause in pauses[0])
    assert all(1 <= pause <= 2 for pause in pauses[2])
    assert all(4 <= pause <= 8 for pause in pauses[3])
    assert len(set(pauses[0])) > 1
    assert 7 <= delay(0, response(429, **{"Retry-After": "7"})) <= 7.25


def test_the_openai_package_is_handed_over_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scalpel("http://127.0.0.1:9/", "sk-1") as client:
        assert str(client.openai().base_url) == "http://127.0.0.1:9/v1/"
        assert client.openai()._client is client._http
        assert client.openai().api_key == "sk-1"
        assert client.chat.completions._client is client.completions._client
    monkeypatch.setitem(sys.modules, "openai", None)
    with Scalpel() as client, pytest.raises(ImportError, match=r"scalpel-client\[openai\]"):
        client.openai()


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_URL", "http://scalpel.example/")
    monkeypatch.setenv("SCALPEL_API_KEY", "sk-2")
    with Scalpel() as client:
        assert (client.base_url, client.api_key) == ("http://scalpel.example", "sk-2")
    with Scalpel("http://other.example", "sk-3") as client:
        assert (client.base_url, client.api_key) == ("http://other.example", "sk-3")


def test_a_key_from_a_file_is_stripped() -> None:
    with Scalpel(api_key=" sk-4\r\n") as client:
        assert client.api_key == "sk-4"


@pytest.mark.parametrize("key", ["sk-\nsecret", "sk-s\u00e9cret", "sk secret", "sk-secret\x00"])
@pytest.mark.parametrize("kind", [Scalpel, AsyncScalpel])
def test_a_key_that_no_header_can_carry_is_refused_and_not_quoted(kind: Any, key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        kind(api_key=key)
    assert "cret" not in str(caught.value)
