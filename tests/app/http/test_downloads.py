"""Large downloads: begun at once, gone on with after a break, and never completed with other bytes
than were written.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.cli.client import Client
from models_store.errors import Unavailable
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Artifact
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api

MIB = 2**20
SIZE = 40 * MIB + 777
NAME = "model.safetensors"


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(1).randbytes(SIZE)


class Large:
    """An export of 40 MiB, and how it is stored."""

    def __init__(self, api: Api, worker: Worker, data: bytes) -> None:
        edit = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
        worker.succeed(edit)
        body = {"variant": "pico:kinder", "format": "native"}
        self.id = api.http.post("/v1/exports", json=body).json()["id"]
        worker.export(self.id, {NAME: data, "small.json": b"{}"})
        self.api, self.data = api, data
        self.url = f"/v1/exports/{self.id}/files/{NAME}"
        self.archive = f"/v1/exports/{self.id}/archive"
        self.etag = f'"{hashlib.sha256(data).hexdigest()}"'

    @property
    def artifact(self) -> Artifact:
        result = self.api.store.work.read("export", "default", self.id).result
        assert result is not None
        found = result.artifact(NAME)
        assert found is not None
        return found

    def damage(self, at: int) -> None:
        flipped = bytes([self.data[at] ^ 1])
        path = self.artifact.path
        self.api.store.objects.put(path, self.data[:at] + flipped + self.data[at + 1 :])

    def get(self, **headers: str) -> httpx.Response:
        return self.api.http.get(self.url, headers=headers)


@pytest.fixture
def large(api: Api, worker: Worker, data: bytes) -> Large:
    return Large(api, worker, data)


def arrived(large: Large, path: str) -> bytes:
    """What comes of a download that breaks off."""
    chunks: list[bytes] = []
    with large.api.http.stream("GET", path) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            chunks.extend(response.iter_raw())
    return b"".join(chunks)


@pytest.mark.parametrize("what", ["first", "cut", "gone"])
def test_damage_that_is_seen_before_the_first_byte_is_an_error(large: Large, what: str) -> None:
    objects, path = large.api.store.objects, large.artifact.path
    if what == "first":
        large.damage(3)
    else:
        objects.put(path, large.data[:-1])
    if what == "gone":
        objects.delete(path)
    for url in (large.url, large.archive) if what != "first" else (large.url,):
        answer = large.api.http.get(url)
        code = "not_found" if what == "gone" else "corrupt_artifact"
        assert (answer.status_code, answer.json()["code"]) == (404 if what == "gone" else 500, code)


def test_a_file_whose_parts_have_no_sums_is_checked_as_a_whole(large: Large) -> None:
    """Files of earlier versions, and those whose sums are damaged."""
    objects, artifact = large.api.store.objects, large.artifact
    objects.put(artifact.parts_path, b"damaged")
    assert large.get().content == large.data
    assert large.get(Range="bytes=5-9").content == large.data[5:10]
    assert large.api.http.get(large.archive).status_code == 200
    large.damage(30 * MIB)
    for url, headers in ((large.url, {}), (large.url, {"Range": "bytes=5-9"}), (large.archive, {})):
        answer = large.api.http.get(url, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_artifact")


def test_the_client_goes_on_where_a_connection_broke(
    large: Large, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, begins, stream = tmp_path / NAME, [], ObjectStore.stream

    def away(objects: ObjectStore, path: str, start: int, end: int) -> Iterator[bytes]:
        if path == large.artifact.path and not begins and start >= 20 * MIB:
            begins.append(start)
            raise Unavailable("the store is away", code="store_unavailable")
        return stream(objects, path, start, end)

    monkeypatch.setattr(ObjectStore, "stream", away)
    with Client(large.api.url) as client:
        client.save(large.url, file)
    assert begins == [20 * MIB]
    assert file.read_bytes() == large.data
