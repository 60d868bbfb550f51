"""Uploaded files by OpenAI's client: kept, listed, read back and deleted; or refused by line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from app.domain.fine_tuning.files import FILES
from app.loops.keeper.sweep import sweep
from tests.app.fine_tuning.cases import CONVERSATIONS, PREFERENCES, client_of, uploaded
from tests.support.services import Api, RedisServer, api_settings, running_api

DAY = 24 * 3600


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    with client_of(api) as client:
        yield client


def refused(client: openai.OpenAI, data: bytes) -> tuple[str, str | None, str | None]:
    with pytest.raises(openai.BadRequestError) as caught:
        uploaded(client, data)
    assert isinstance(caught.value.body, dict)
    return caught.value.body["message"], caught.value.param, caught.value.code


def test_what_is_uploaded_is_read_back_byte_for_byte(client: openai.OpenAI) -> None:
    file = client.files.create(file=("pairs.jsonl", PREFERENCES), purpose="fine-tune")

    assert (file.object, file.status, file.purpose) == ("file", "processed", "fine-tune")
    assert (file.filename, file.bytes) == ("pairs.jsonl", len(PREFERENCES))
    assert file.id.startswith("file-")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == PREFERENCES
    assert client.files.wait_for_processing(file.id) == file


def test_lists_are_in_pages_newest_first(client: openai.OpenAI) -> None:
    ids = [uploaded(client, CONVERSATIONS) for _ in range(3)]

    page = client.files.list(limit=2)

    assert [file.id for file in page.data] == [ids[2], ids[1]]
    assert page.has_more is True
    assert [file.id for file in page] == ids[::-1]
    assert [file.id for file in client.files.list(order="asc", after=ids[0])] == ids[1:]
    assert list(client.files.list(purpose="batch")) == []


def test_a_deleted_file_is_gone_from_the_api_and_the_store(api: Api, client: openai.OpenAI) -> None:
    id = uploaded(client, PREFERENCES)

    deleted = client.files.delete(id)

    assert (deleted.id, deleted.deleted, deleted.object) == (id, True, "file")
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(id)
    assert list(client.files.list()) == []
    stored = api.store.objects.paths(FILES)
    assert not any(path.endswith(".jsonl") for path in stored)
    assert not any(b"examples" in api.store.objects.read(path) for path in stored)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PREFERENCES + b"{'a': 1}\n", "file, line 21: it is not JSON"),
        (b'{"a": 1}\n\n[1]\n', "file, line 3: it is no JSON object"),
        (b'{"a": 1, "a": 2}', "file, line 1: it has the key 'a' twice"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "file, line 1: it has more than 1048576 bytes"),
        (b"\n \n", "file is empty"),
        (b"\xff\xfe", "file, line 1: it is not UTF-8"),
    ],
    ids=["broken", "list", "twice", "long", "empty", "encoding"],
)
def test_a_wrong_line_is_named(client: openai.OpenAI, data: bytes, message: str) -> None:
    said, param, code = refused(client, data)

    assert said.startswith(message)
    assert (param, code) == ("file", "invalid_training_file")
    assert list(client.files.list()) == []


def test_a_mark_of_byte_order_and_a_missing_last_line_end_do_no_harm(
    client: openai.OpenAI,
) -> None:
    data = b"\xef\xbb\xbf" + CONVERSATIONS.replace(b"\n", b"\r\n").rstrip()

    assert client.files.content(uploaded(client, data)).read() == data


def test_other_purposes_and_expiry_are_refused_by_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as purpose:
        client.files.create(file=("a", CONVERSATIONS), purpose="batch")
    with pytest.raises(openai.BadRequestError) as expiry:
        client.files.create(
            file=("a", CONVERSATIONS),
            purpose="fine-tune",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )

    assert (purpose.value.param, expiry.value.param) == ("purpose", "expires_after")


def test_a_file_has_a_size_at_most(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = api_settings(tmp_path, redis_server, max_body_bytes=4096)
    with running_api(settings) as api, client_of(api) as client:
        line = CONVERSATIONS.split(b"\n")[0] + b"\n"
        uploaded(client, line * (4096 // len(line)))
        with pytest.raises(openai.APIStatusError) as caught:
            uploaded(client, line * (4096 // len(line) + 1))

        assert caught.value.status_code == 413
        assert caught.value.code == "body_too_large"
        assert list((settings.data / "uploads").iterdir()) == []


def test_files_count_towards_the_bytes_of_their_tenant(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    settings = api_settings(tmp_path, redis_server, limit_stored_bytes=20_000)
    with running_api(settings) as api, client_of(api) as client:
        id = uploaded(client, PREFERENCES)
        with pytest.raises(openai.RateLimitError) as caught:
            uploaded(client, PREFERENCES * 4)

        assert caught.value.code == "quota_exceeded"
        assert client.files.retrieve(id).id == id


def test_a_repeated_upload_with_a_key_keeps_one_file(client: openai.OpenAI) -> None:
    once = {"Idempotency-Key": "once"}
    first = client.files.create(
        file=("a.jsonl", PREFERENCES), purpose="fine-tune", extra_headers=once
    )
    again = client.files.create(
        file=("a.jsonl", PREFERENCES), purpose="fine-tune", extra_headers=once
    )
    with pytest.raises(openai.ConflictError):
        client.files.create(
            file=("a.jsonl", CONVERSATIONS), purpose="fine-tune", extra_headers=once
        )

    assert first == again
    assert [file.id for file in client.files.list()] == [first.id]


def test_the_sweep_removes_what_cut_short_uploads_left(api: Api, client: openai.OpenAI) -> None:
    kept, cut = uploaded(client, PREFERENCES), uploaded(client, PREFERENCES)
    objects = api.store.objects
    (record,) = (
        path for path in objects.paths(FILES) if cut[-26:] in path and path.endswith(".json")
    )
    objects.delete(record)

    sweep(api.store.work, lambda: False, time.time() + 2 * DAY)

    left = {path.split("/")[2][-26:] for path in objects.paths(FILES) if path.endswith("jsonl")}
    assert left == {kept[-26:]}
