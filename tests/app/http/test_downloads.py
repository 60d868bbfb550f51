"""Large downloads: begun at once, gone on with after a break, and never completed with other bytes
than were written.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.cli.client import Client
from app.loops.keeper.sweep import sweep
from models_store.errors import ScalpelError, Unavailable
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Artifact
from models_store.work.artifacts import part_sums
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


def test_a_range_reads_little_more_than_itself(
    large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    stream = ObjectStore.stream

    def counted(objects: ObjectStore, path: str, start: int, end: int) -> Iterator[bytes]:
        nonlocal read
        read += end - start
        return stream(objects, path, start, end)

    monkeypatch.setattr(ObjectStore, "stream", counted)
    part = large.get(Range=f"bytes={20 * MIB - 5}-{20 * MIB + 4}")
    assert (part.status_code, part.content) == (206, large.data[20 * MIB - 5 : 20 * MIB + 5])
    assert read <= 2 * MIB
    head = large.api.http.head(large.url)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(SIZE))
    assert read <= 2 * MIB
    assert large.get().content == large.data
    assert read <= 2 * MIB + SIZE


def test_the_sums_of_parts_are_not_swept_away(large: Large) -> None:
    sweep(large.api.store.work, lambda: False, now=time.time() + 3 * 24 * 3600)
    assert part_sums(large.api.store.objects, large.artifact) is not None


def test_curl_goes_on_with_a_download_that_broke_off(large: Large, tmp_path: Path) -> None:
    url, file = large.api.url + large.url, tmp_path / NAME
    cut = ["curl", "-sS", "--limit-rate", "8M", "--max-time", "1", "-o", str(file), url]
    assert subprocess.run(cut, capture_output=True).returncode == 28
    assert 0 < file.stat().st_size < SIZE
    rest = ["curl", "-sSf", "-C", "-", "-o", str(file), "-w", "%{http_code}", url]
    done = subprocess.run(rest, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "206"), done.stderr
    assert file.read_bytes() == large.data


def test_ranges_go_on_while_it_is_the_same_file(large: Large) -> None:
    got = b""
    with large.api.http.stream("GET", large.url) as response:
        etag = response.headers["ETag"]
        for chunk in response.iter_raw():
            got += chunk
            if len(got) > 3 * MIB:
                break
    assert etag == large.etag
    rest = large.get(Range=f"bytes={len(got)}-", **{"If-Range": etag})
    assert (rest.status_code, rest.headers["ETag"]) == (206, etag)
    assert rest.headers["Content-Range"] == f"bytes {len(got)}-{SIZE - 1}/{SIZE}"
    assert got + rest.content == large.data
    for other in ('"another"', f"W/{etag}", "Wed, 21 Oct 2026 07:28:00 GMT"):
        whole = large.get(Range="bytes=5-", **{"If-Range": other})
        assert (whole.status_code, len(whole.content)) == (200, SIZE)
    beyond = large.get(Range=f"bytes={SIZE}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert large.get(**{"If-None-Match": etag}).status_code == 304


def test_a_damaged_file_is_never_completed(large: Large, tmp_path: Path) -> None:
    large.damage(30 * MIB + 3)
    assert arrived(large, large.url) == large.data[: 30 * MIB]
    broken = tmp_path / "broken.zip"
    broken.write_bytes(arrived(large, large.archive))
    assert not zipfile.is_zipfile(broken)
    for bytes in (f"{30 * MIB}-{30 * MIB + 9}", f"{30 * MIB + 100}-", "-999"):
        answer = large.get(Range=f"bytes={bytes}")
        sound = bytes == "-999"
        assert answer.status_code == (206 if sound else 500)
        assert sound or answer.json()["code"] == "corrupt_artifact"
    client = Client(large.api.url)
    with client, pytest.raises(ScalpelError, match=r"model\.safetensors is damaged"):
        client.save(large.url, tmp_path / NAME)


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
