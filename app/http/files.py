"""Answers that are stored files: checked against their digest, in ranges, not sent twice."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from app.http.errors import RangeNotSatisfiable
from models_store.errors import NotFound
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.schemas.records import Artifact
from models_store.work.artifacts import checked_range, damaged, part_sums, require_there

WHOLE_BYTES = 32 * 2**20
"""Up to this size a file is held in memory."""
_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


def artifact_response(
    request: Request, objects: ObjectStore, artifact: Artifact, *, filename: str, media_type: str
) -> Response:
    """The file, or the range of it that is requested; no byte is sent that was not checked.

    A large one is checked part by part on its way, and the response breaks off at a damaged part.
    One whose parts have no sums is checked as a whole before the first byte: up to 32 MiB it is
    held in memory meanwhile, a larger one is read twice.

    Raises:
        CorruptArtifact: it is not what its record says, where that is found before the first byte.
        NotFound: it is gone.
        RangeNotSatisfiable: it has no such part.
    """
    etag = f'"{artifact.sha256.removeprefix("sha256:")}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Cache-Control": "private, no-cache",
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    part = _range(request, artifact.bytes, etag)
    start, end = part or (0, artifact.bytes)
    status = 200
    if part is not None:
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.bytes}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        require_there(objects, artifact)
        return Response(None, status, headers, media_type)
    if artifact.bytes > WHOLE_BYTES or artifact.parts_sha256 is not None:
        body = peeked(checked_stream(objects, artifact, start, end))
        return StreamingResponse(body, status, headers, media_type)
    data = read_checked(objects, artifact)[start:end]
    return Response(data, status, headers, media_type)


def checked_stream(
    objects: ObjectStore, artifact: Artifact, start: int, end: int
) -> Iterator[bytes]:
    """The bytes `[start, end)`: checked part by part, else, where the parts have no sums, all of
    the file before the first of them.

    Raises:
        CorruptArtifact: they are not what the record says.
        NotFound: they are gone.
    """
    sums = part_sums(objects, artifact)
    if sums is not None:
        yield from checked_range(objects, artifact, sums, start, end)
        return
    require_sound(objects, artifact)
    yield from objects.stream(artifact.path, start, end)


def peeked(stream: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, the first of them read: what is wrong with them is an error of the request,
    and no response that breaks off."""
    first = next(stream, b"")
    return itertools.chain((first,), stream)


def read_checked(objects: ObjectStore, artifact: Artifact) -> bytes:
    """All bytes of an artifact.

    Raises:
        CorruptArtifact: they are not what the record says.
        NotFound: they are gone.
    """
    try:
        data = objects.read(artifact.path)
    except ObjectMissing:
        raise NotFound(f"the file {artifact.name} is gone") from None
    if _hex(artifact) != hashlib.sha256(data).hexdigest():
        raise damaged(artifact)
    return data


def require_sound(objects: ObjectStore, artifact: Artifact) -> None:
    """Read all of an artifact, a chunk at a time.

    Raises:
        CorruptArtifact: it is not what the record says.
        NotFound: it is gone.
    """
    info = objects.info(artifact.path)
    if info is None:
        raise NotFound(f"the file {artifact.name} is gone")
    digest = hashlib.sha256()
    for chunk in objects.stream(artifact.path, 0, info.size):
        digest.update(chunk)
    if digest.hexdigest() != _hex(artifact):
        raise damaged(artifact)


def _hex(artifact: Artifact) -> str:
    return artifact.sha256.removeprefix("sha256:")


def matches(header: str | None, etag: str) -> bool:
    """Whether an `If-None-Match` names the ETag."""
    if header is None:
        return False
    given = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in given or etag in given


def _range(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """First and last byte (exclusive) of the one requested range; None for the whole file.

    Several ranges at once may be answered with the whole file, and are.
    """
    header = request.headers.get("range")
    condition = request.headers.get("if-range")
    if header is None or (condition is not None and condition != etag):
        return None
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match["first"] or match["last"]):
        return None
    if match["first"]:
        start, end = int(match["first"]), int(match["last"] or size) + 1
        if match["last"] and end <= start:
            return None
    else:
        start, end = max(0, size - int(match["last"])), size
    end = min(end, size)
    if start >= end:
        raise RangeNotSatisfiable(
            f"the file has {size} bytes; there is no {header}",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
