"""Objects by path in `file://` or `s3://`. All else relies on the conditional create, which
exactly one writer wins.

Nothing is updated in place (a local store cannot): a record is created once, and what changes is a
numbered history. Errors of the storage library become `ScalpelError`s here.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError
from obstore.store import LocalStore, S3Store

from models_store.errors import CorruptArtifact, InvalidRequest, NotFound, Unavailable
from models_store.ids import bucket_of
from models_store.objects.checksum import with_checksum, without_checksum
from models_store.objects.local_folders import PLAIN_PATH, TEMPORARY, LocalFolders
from models_store.objects.parallel import Threads
from models_store.objects.versions import parse_stored
from models_store.schemas.base import Record
from models_store.settings import Settings

_log = structlog.get_logger()

PROBES = "probe"
"""Folder of what is written to see whether a store can be used."""
MARKER = "scalpel-store.json"
_FORMAT = "scalpel-store/1"
_TRIES = 8
"""Creates of one path at once, of which one may win."""
_AHEAD = 64
"""Requests under way at a time in a list."""
_MOST_THREADS = 256
"""Of all lists together."""
_BUCKETS_AHEAD = 8
_MAX_RECORD_BYTES = 64 * 2**20
_READ_CHUNK_BYTES = 1 << 20
_PART_BYTES = 16 * 2**20
"""S3 takes 10,000 parts, so 156 GiB a file."""
_PARTS_AHEAD = 4
_S3_CONNECT = timedelta(seconds=3)
_S3_LONGEST = timedelta(hours=1)


K = TypeVar("K")
R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class ObjectInfo:
    path: str
    size: int
    modified_at: float
    """Unix seconds."""


def readable(name: str, read: Callable[[str], T | None]) -> T | None:
    """`read(name)`; None where the record is damaged.

    For listings: a damaged record is left out and logged, so that it does not hide the others.
    Reading it by name still raises.
    """
    try:
        return read(name)
    except CorruptArtifact as error:
        _log.warning("left out of a list", name=name, error=error.message)
        return None


class ObjectMissing(Exception):
    """No object under that path."""


class ObjectStore:
    """Every access to stored bytes goes through here.

    Raises (all methods):
        Unavailable: `store_unavailable` or `store_full`.
    """

    def __init__(
        self, backend: LocalStore | S3Store, *, root: Path | None = None, fsync: bool = False
    ) -> None:
        self._backend = backend
        self._root = root
        self._folders = LocalFolders(root) if root is not None else None
        self._fsync = fsync and root is not None
        self._threads = Threads(_MOST_THREADS)

    @property
    def root(self) -> Path | None:
        """The folder of a local store."""
        return self._root

    def in_parallel(
        self, call: Callable[[K], T], items: Iterable[K], *, ahead: int = _AHEAD
    ) -> Iterator[T]:
        """`call` of each item, in order; on S3, where each request takes a while, for `ahead` items
        at a time."""
        if self._root is not None:
            yield from map(call, items)
            return
        yield from self._threads.map(call, items, ahead)

    def each_readable(
        self, names: Iterable[str], read: Callable[[str], T | None], *, ahead: int = _AHEAD
    ) -> Iterator[tuple[str, T]]:
        """Name and value of all in a list that exist and can be read.

        Args:
            ahead: as `in_parallel` has it.
        """

        def pair(name: str) -> tuple[str, T | None]:
            return name, readable(name, read)

        for name, value in self.in_parallel(pair, names, ahead=ahead):
            if value is not None:
                yield name, value

    def create(self, path: str, data: bytes) -> bool:
        """Store `data` if there is nothing at `path`; False when there is."""
        with self._guard():
            return self._create(path, data)

    def _create(self, path: str, data: bytes) -> bool:
        if self._folders is not None and PLAIN_PATH.fullmatch(path):
            return self._folders.create(path, data, flush=self._fsync)
        try:
            obstore.put(self._backend, path, data, mode="create")
        except AlreadyExistsError:
            return False
        self._flush(path)
        return True

    def _flush(self, path: str) -> None:
        if self._folders is not None and self._fsync:
            self._folders.flush(path)

    def create_record(self, path: str, record: Record) -> bool:
        """Store `record` if there is nothing at `path`; True when this record is what is stored.

        An S3 server may store an object and yet respond 500; the library's retry is then refused
        because of that first write. The `writer` that is read back distinguishes the cases.
        """
        if self.create(path, with_checksum(path, record.model_dump_json().encode())):
            return True
        stored = self.read_record(path, type(record))
        return stored is not None and stored.writer == record.writer

    def put(self, path: str, data: bytes | Iterable[bytes]) -> None:
        """Store an artifact under a path that nobody else writes.

        Of chunks no more than a few parts are in memory; nothing is stored unless all of them are.
        """
        with self._guard():
            obstore.put(
                self._backend,
                path,
                data if isinstance(data, bytes) else iter(data),
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AHEAD,
            )
            self._flush(path)

    def read(self, path: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissing: nothing is there.
        """
        with self._guard():
            return bytes(obstore.get(self._backend, path).bytes())

    def read_record(self, path: str, kind: type[R]) -> R | None:
        """The record under `path`; None when there is none.

        Raises:
            CorruptArtifact: it is not a record of that kind, or not what was written.
            NewerRecord: a later version of Scalpel wrote it.
        """
        try:
            data = self._record_bytes(path)
        except ObjectMissing:
            return None
        if data is None:
            raise CorruptArtifact(f"the record {path} is too large to be one")
        body = without_checksum(path, data)
        # Unknown fields are a later version's, but only of what is surely as it was written.
        return parse_stored(kind, body, f"the record {path}", strict=body is data)

    def record_body(self, path: str) -> bytes | None:
        """The JSON of the record under `path`, which is what was written; None when there is none.

        Raises:
            CorruptArtifact: it is not what was written.
        """
        try:
            data = self._record_bytes(path)
        except ObjectMissing:
            return None
        return without_checksum(path, data) if data is not None else None

    def put_record(self, path: str, record: Record) -> None:
        """Store `record` in place of whatever is at `path`."""
        self.put(path, with_checksum(path, record.model_dump_json().encode()))

    def _record_bytes(self, path: str) -> bytes | None:
        """None for what is too large to be a record."""
        with self._guard():
            return self._small(path)

    def _small(self, path: str) -> bytes | None:
        if self._folders is not None and PLAIN_PATH.fullmatch(path):
            # The library goes through another thread, which takes ten times as long, and which a
            # process does not have that was forked from one that used it.
            return self._folders.read(path, _MAX_RECORD_BYTES)
        object_ = obstore.get(self._backend, path)
        if object_.meta["size"] > _MAX_RECORD_BYTES:
            return None
        return bytes(object_.bytes())

    def _delete(self, path: str) -> None:
        if self._root is not None and PLAIN_PATH.fullmatch(path):
            (self._root / path).unlink()
        else:
            obstore.delete(self._backend, path)

    def renew_marker(self) -> None:
        """Write the marker anew, in place of one that was damaged."""
        with self._errors():
            obstore.put(self._backend, MARKER, _new_marker())

    def stream(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes `[start, end)` in chunks of 1 MiB.

        Raises:
            ObjectMissing: nothing is there.
        """
        for offset in range(start, end, _READ_CHUNK_BYTES):
            with self._guard():
                yield bytes(
                    obstore.get_range(
                        self._backend, path, start=offset, end=min(offset + _READ_CHUNK_BYTES, end)
                    )
                )

    def info(self, path: str) -> ObjectInfo | None:
        try:
            with self._guard():
                meta = obstore.head(self._backend, path)
        except ObjectMissing:
            return None
        return ObjectInfo(path, meta["size"], meta["last_modified"].timestamp())

    def exists(self, path: str) -> bool:
        """Whether there is an object; faster than `info`."""
        if self._folders is not None and PLAIN_PATH.fullmatch(path):
            with self._guard():
                return self._folders.exists(path)
        return self.info(path) is not None

    def files(self, folder: str, *, after: str | None = None) -> list[ObjectInfo]:
        """All objects below `folder`, at any depth, sorted by path.

        Args:
            after: a path; only those behind it are listed.
        """
        with self._guard():
            infos = [
                ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())
                for batch in obstore.list(self._backend, folder, offset=after)
                for meta in batch
            ]
        return sorted(infos, key=lambda info: info.path)

    def size(self, folder: str) -> int:
        """Bytes of all objects below `folder`."""
        with self._guard():
            return sum(
                meta["size"] for batch in obstore.list(self._backend, folder) for meta in batch
            )

    def paths(self, folder: str, *, remember: bool = False) -> list[str]:
        """Paths of all objects below `folder`, at any depth, sorted; faster than `files`.

        Args:
            remember: cache the listing, for large folders that are listed again and again.
        """
        if self._folders is None:
            return [info.path for info in self.files(folder)]
        with self._guard():
            return sorted(self._folders.below(folder, remember=remember))

    def children(self, folder: str) -> list[str]:
        """Names of the folders and objects right below `folder`, sorted."""
        if self._folders is not None:
            with self._guard():
                return self._folders.names(folder)
        with self._guard():
            listing = obstore.list_with_delimiter(self._backend, folder or None)
        paths = [*listing["common_prefixes"], *(meta["path"] for meta in listing["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def ids(self, root: str, start: str | None, *, descending: bool) -> Iterator[str]:
        """Ids in `root`, which has a folder for each bucket, by time of creation.

        Args:
            start: the first id, which need not exist; None: from the beginning.

        Raises:
            NotFound: `start` cannot be an id.
        """
        limit = bucket_of(start) if start is not None else None
        buckets = sorted(self.children(root), reverse=descending)
        wanted = (
            f"{root}/{bucket}"
            for bucket in buckets
            if limit is None or (bucket <= limit if descending else bucket >= limit)
        )
        for in_bucket in self.in_parallel(self.children, wanted, ahead=_BUCKETS_AHEAD):
            for id in reversed(in_bucket) if descending else in_bucket:
                if start is None or (id <= start if descending else id >= start):
                    yield id

    def delete(self, path: str) -> None:
        """Remove one object; removing what is not there is fine."""
        with contextlib.suppress(ObjectMissing), self._guard():
            self._delete(path)

    def remove_temporary_files(self, before: float) -> int:
        """Remove files that dead writers left in a local store, last written before `before`.

        The library hides such files (`name#1`) from listings and never removes them; S3 has none.

        Args:
            before: Unix seconds.

        Returns:
            The number of files removed.
        """
        removed = 0
        with self._guard():
            for path in self._root.rglob("*#*") if self._root is not None else ():
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    if TEMPORARY.fullmatch(path.name) and path.stat().st_mtime < before:
                        path.unlink()
                        removed += 1
        return removed

    def check(self) -> None:
        """Raise `Unavailable` unless the store can be read."""
        self._require_root()
        with self._guard():
            try:
                obstore.head(self._backend, MARKER)
            except FileNotFoundError:
                raise Unavailable(
                    f"the store has lost its marker {MARKER}: is the right folder or bucket "
                    "mounted?",
                    code="store_unavailable",
                ) from None

    def open(self) -> None:
        """Probe the store and read its marker; a new store gets one.

        Raises:
            InvalidRequest: it does not honour conditional creates, or was written by a later
                version whose format this one cannot read.
        """
        marker = None
        with contextlib.suppress(ObjectMissing), self._errors():
            marker = self._small(MARKER)
        if marker is not None:
            _require_format(marker)
        try:
            self.probe()
        except Unavailable as error:
            # A store that is full cannot take one path twice, and can still be read.
            if marker is None or error.code != "store_full":
                raise
        if marker is None:
            # Only now: a marker without a probe would let a store in that honours no condition.
            with self._errors():
                self._create(MARKER, _new_marker())

    def probe(self) -> None:
        """Check that of several creates of one path one wins, also when they come at once: some
        S3-compatible servers ignore the condition, or look and write in two steps.

        Raises:
            InvalidRequest: the store accepts a second create.
        """
        path = f"{PROBES}/{secrets.token_hex(8)}"
        tries = [secrets.token_bytes(8) for _ in range(_TRIES)]
        with self._errors():
            with ThreadPoolExecutor(_TRIES) as pool:
                created = list(pool.map(lambda data: self._create(path, data), tries))
            again = self._create(path, b"again")
            stored = self._small(path)
            self._delete(path)
        won = list(itertools.compress(tries, created))
        # None wins where the server stored one, answered 500, and refused the library's retry.
        if len(won) > 1 or again or stored not in (won or tries):
            raise InvalidRequest(
                "this store does not honour conditional creates (If-None-Match: *), "
                "so two workers could publish the same edit: use another store"
            )

    def _require_root(self) -> None:
        """A local store whose folder is missing must not be created again, empty."""
        if self._root is not None and not os.path.isfile(f"{self._root}/{MARKER}"):  # noqa: PTH113
            raise Unavailable(
                f"the store's folder {self._root} is not there or cannot be read",
                code="store_unavailable",
            )

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        self._require_root()
        with self._errors():
            yield

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(str(error)) from error
        except InvalidPathError as error:
            raise NotFound("no such object") from error
        except ValueError as error:
            if "Could not parse path" not in str(error):
                raise  # from the iterator that yields the bytes to put
            raise NotFound("no such object") from error
        except (BaseError, OSError) as error:
            raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """What an error of the storage means: `store_full`, or else `store_unavailable`."""
    text = str(error)
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if any(f"os error {number})" in text for number in full) or (
        isinstance(error, OSError) and error.errno in full
    ):
        return Unavailable(
            "the store is full: free some space, then send the request again",
            code="store_full",
            retry_after=30,
        )
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return Unavailable(f"the store cannot be reached: {first_line}", code="store_unavailable")


def _new_marker() -> bytes:
    return with_checksum(MARKER, json.dumps({"format": _FORMAT}).encode())


def _require_format(marker: bytes) -> None:
    """Raise `InvalidRequest` where a marker that is whole names another format."""
    try:
        found = json.loads(without_checksum(MARKER, marker))["format"]
    except (CorruptArtifact, ValueError, TypeError, KeyError):
        _log.warning("the store's marker is damaged; `scalpel repair --quarantine` makes it anew")
        return
    if found != _FORMAT:
        raise InvalidRequest(
            f"the store has the format {found}, and this version of Scalpel reads {_FORMAT}: "
            "start a version as new as the one that wrote it"
        )


def open_store(settings: Settings) -> ObjectStore:
    """Open and probe the store of `settings`; see `ObjectStore.open`.

    Raises:
        InvalidRequest: the URL is neither `file:///…` nor `s3://bucket/…`, or the store cannot be
            used.
        Unavailable: it cannot be reached.
    """
    url = urlsplit(settings.store)
    if url.scheme == "file" and not url.netloc:
        store = _open_folder(Path(url.path), settings.fsync)
    elif url.scheme == "s3" and url.netloc:
        store = _open_s3(url.netloc, url.path.strip("/"), settings)
    else:
        raise InvalidRequest(
            f"SCALPEL_STORE_URL must be file:///folder or s3://bucket/prefix, "
            f"not {settings.store!r}"
        )
    store.open()
    return store


def _open_folder(root: Path, fsync: bool) -> ObjectStore:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unavailable(error) from error
    return ObjectStore(LocalStore(root), root=root, fsync=fsync)


def _open_s3(bucket: str, prefix: str, settings: Settings) -> ObjectStore:
    endpoint = settings.s3_endpoint
    options = {"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}
    silence = timedelta(seconds=settings.s3_timeout_seconds)
    backend = S3Store(
        bucket,
        prefix=prefix or None,
        # Hardly a limit for a whole request: a large file on a slow line takes long.
        client_options={
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": min(silence, _S3_CONNECT),
            "read_timeout": silence,
            "timeout": _S3_LONGEST,
        },
        retry_config={"max_retries": 4, "retry_timeout": silence},
        **options,
    )
    return ObjectStore(backend)
