"""A small S3 server in memory, each of whose responses comes after a delay.

    python -m benchmarks.serving.s3_server FOLDER PORT [--delay 0.03] [--put-delay 0.05]

serves the files of a local store, under whatever name of a bucket. Unlike moto, which sorts all
keys at each listing and would take hours over a million of them, it keeps them sorted and skips
what a delimiter hides. It does what `obstore` asks of a store of small objects, without uploads in
parts and without looking at signatures.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import os
import re
import time
import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models_store.objects.local_folders import TEMPORARY

DELAY_SECONDS = 0.03
PAGE_KEYS = 1_000
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_XML = "application/xml"


class Object(NamedTuple):
    data: bytes
    modified: float
    """Unix seconds."""

    @property
    def etag(self) -> str:
        return f'"{zlib.crc32(self.data):08x}"'


@dataclass
class Page:
    """One page of a listing."""

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    """What keys with the delimiter begin with, up to it."""
    next: str | None = None
    """Where the next page begins: no key before it is missing from this one or an earlier one."""


class Bucket:
    """Objects by key, and the sorted keys."""

    def __init__(self, objects: Iterable[tuple[str, Object]] = ()) -> None:
        self._objects = dict(objects)
        self._keys = sorted(self._objects)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, key: str) -> Object:
        return self._objects[key]

    def put(self, key: str, data: bytes) -> None:
        if key not in self._objects:
            insort(self._keys, key)
        self._objects[key] = Object(data, time.time())

    def create(self, key: str, data: bytes) -> bool:
        """Put what is not there; False when it is."""
        if key in self._objects:
            return False
        self.put(key, data)
        return True

    def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        if self._objects.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def page(self, prefix: str, delimiter: str, start: str, limit: int) -> Page:
        """Keys from `start` on that begin with `prefix`; all that share the part up to the next
        delimiter count as one."""
        page = Page()
        at = bisect_left(self._keys, max(prefix, start))
        while at < len(self._keys) and (key := self._keys[at]).startswith(prefix):
            if len(page.keys) + len(page.prefixes) == limit:
                page.next = key
                break
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                page.keys.append(key)
                at += 1
            else:
                common = key[: end + len(delimiter)]
                page.prefixes.append(common)
                at = bisect_left(self._keys, _after_all_of(common), at)
        return page


def _after_all_of(prefix: str) -> str:
    """The least string after all that begin with `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def files_below(folder: Path) -> Iterator[tuple[str, Object]]:
    """Every file of a local store as an object, without those that were being written."""
    seen: dict[bytes, bytes] = {}  # most results are alike
    for parent, _, names in os.walk(folder):
        below = "" if parent == str(folder) else f"{os.path.relpath(parent, folder)}/"
        for name in names:
            if not TEMPORARY.fullmatch(name):
                file = Path(parent, name)
                data = file.read_bytes()
                yield below + name, Object(seen.setdefault(data, data), file.stat().st_mtime)


class Server:
    """The ASGI application."""

    def __init__(self, bucket: Bucket, delay: float, put_delay: float) -> None:
        self._bucket = bucket
        self._delay = delay
        self._put_delay = put_delay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        response = self._respond(request, body)
        await asyncio.sleep(self._put_delay if request.method == "PUT" else self._delay)
        await response(scope, receive, send)

    def _respond(self, request: Request, body: bytes) -> Response:
        """Without a pause in it, so that of two creates one comes first."""
        key = request.scope["path"].lstrip("/").partition("/")[2]
        query = request.query_params
        match request.method, bool(key):
            case "GET", False if query.get("list-type") == "2":
                return self._list(query)
            case "POST", False if "delete" in query:
                return self._delete_all(body)
            case (("GET" | "HEAD"), True):
                return self._get(key, request.headers.get("range"))
            case "PUT", True if not query:
                return self._put(key, body, request.headers.get("if-none-match") == "*")
            case "DELETE", True if not query:
                self._bucket.delete(key)
                return Response(status_code=204)
        return _error(400, "NotImplemented")

    def _put(self, key: str, data: bytes, only_new: bool) -> Response:
        if not only_new:
            self._bucket.put(key, data)
        elif not self._bucket.create(key, data):
            return _error(412, "PreconditionFailed")
        return Response(headers={"ETag": self._bucket[key].etag})

    def _get(self, key: str, asked: str | None) -> Response:
        try:
            found = self._bucket[key]
        except KeyError:
            return _error(404, "NoSuchKey")
        data = found.data
        headers = {"ETag": found.etag, "Last-Modified": formatdate(found.modified, usegmt=True)}
        if asked is None:
            return Response(data, headers=headers)
        part = _part(asked, len(data))
        if not part:
            return _error(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
        return Response(data[part.start : part.stop], 206, headers)

    def _list(self, query: Mapping[str, str]) -> Response:
        token = query.get("continuation-token")
        after = query.get("start-after")
        start = f"{after}\0" if after else ""  # the least string after it
        if token is not None:
            start = base64.urlsafe_b64decode(token).decode()
        limit = min(int(query.get("max-keys", PAGE_KEYS)), PAGE_KEYS)
        page = self._bucket.page(query.get("prefix", ""), query.get("delimiter", ""), start, limit)
        return Response("".join(self._shown(page)), media_type=_XML)

    def _shown(self, page: Page) -> Iterator[str]:
        yield "<ListBucketResult>"
        yield f"<KeyCount>{len(page.keys) + len(page.prefixes)}</KeyCount>"
        yield f"<IsTruncated>{str(page.next is not None).lower()}</IsTruncated>"
        if page.next is not None:
            token = base64.urlsafe_b64encode(page.next.encode()).decode()
            yield f"<NextContinuationToken>{token}</NextContinuationToken>"
        for key in page.keys:
            found = self._bucket[key]
            modified = datetime.fromtimestamp(found.modified, UTC).isoformat(timespec="seconds")
            yield (
                f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
                f"<ETag>{found.etag}</ETag><Size>{len(found.data)}</Size></Contents>"
            )
        for prefix in page.prefixes:
            yield f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>"
        yield "</ListBucketResult>"

    def _delete_all(self, body: bytes) -> Response:
        keys = [key.text or "" for key in ElementTree.fromstring(body).iterfind(".//{*}Key")]
        for key in keys:
            self._bucket.delete(key)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return Response(f"<DeleteResult>{deleted}</DeleteResult>", media_type=_XML)


def _part(asked: str, size: int) -> range:
    """What a Range header names of so many bytes; empty where it names nothing."""
    match = _RANGE.fullmatch(asked)
    if match is None:
        return range(0)
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last or 0)), size)
    return range(int(first), min(int(last) + 1, size) if last else size)


def _error(status: int, code: str) -> Response:
    return Response(f"<Error><Code>{code}</Code></Error>", status, media_type=_XML)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("port", type=int)
    options.add_argument("--delay", type=float, default=DELAY_SECONDS, help="seconds a response")
    options.add_argument("--put-delay", type=float, help="of those to a PUT, where it differs")
    given = options.parse_args()
    put_delay = given.delay if given.put_delay is None else given.put_delay
    bucket = Bucket(files_below(given.folder))
    gc.collect()
    gc.freeze()  # a million objects that stay are not looked through again and again
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(
            Server(bucket, given.delay, put_delay),
            port=given.port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )


if __name__ == "__main__":
    main()
