"""Files that a tenant has uploaded: kept until they are deleted, and never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from app.domain.accounts.quotas import RECORDS_BYTES, Quotas
from app.domain.edits.idempotency import Sender, create_once
from app.domain.edits.imports import Received
from models_store.audit.log import NOBODY, AuditLog
from models_store.errors import Conflict, NotFound
from models_store.ids import ID_PATTERN, PREFIXES
from models_store.objects.histories import Histories, Version
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Actor, Artifact

FILES = "files"
"""Folder of their histories."""
MAX_FILENAME = 200
Purpose = Literal["fine-tune"]


class FileVersion(Version):
    """An uploaded file; its bytes lie beside the record."""

    filename: str
    """As the client called it; empty once it was deleted."""
    purpose: Purpose
    bytes: int
    sha256: str


class Files:
    """The files of all tenants.

    Raises (all methods):
        NotFound: there is no such file in this tenant, or it was deleted.
        Unavailable: the store is away.
    """

    def __init__(self, objects: ObjectStore, audit: AuditLog, quotas: Quotas) -> None:
        self._objects = objects
        self._audit = audit
        self._quotas = quotas
        self._versions: Histories[FileVersion] = Histories(objects, FILES, FileVersion)

    def upload(self, sender: Sender, file: Received, purpose: Purpose) -> tuple[str, bool]:
        """Keep a file that has arrived.

        Returns:
            Its id; whether an earlier request with the sender's key had brought it.

        Raises:
            QuotaExceeded: the tenant has too much stored.
            Conflict: `idempotency_key_reused`.
        """
        tenant = sender.tenant

        def find(id: str) -> str | None:
            if self._versions.newest(tenant, id) is None:
                return None
            self.head(tenant, id)
            return id

        def make(claim: Callable[[], str]) -> str:
            with self._quotas.room_for_bytes(tenant, file.size + RECORDS_BYTES):
                id = claim()
                self._keep(tenant, id, file, purpose, sender.actor)
            return id

        return create_once(sender, "file", find, make)

    def _keep(self, tenant: str, id: str, file: Received, purpose: Purpose, actor: Actor) -> None:
        self._audit.append("file.created", tenant=tenant, actor=actor, id=id, sha256=file.sha256)
        version = FileVersion(
            filename=file.name[:MAX_FILENAME],
            purpose=purpose,
            bytes=file.size,
            sha256=file.sha256,
        )
        self._objects.put(self._content(tenant, id), file.pieces())
        try:
            self._versions.append(tenant, id, version)
        except Conflict:  # a repeat of the request was faster
            if self.head(tenant, id).sha256 != file.sha256:
                raise

    def head(self, tenant: str, id: str) -> FileVersion:
        """What is known of a file, without its bytes."""
        is_one = ID_PATTERN.fullmatch(id) and id.startswith(f"{PREFIXES['file']}_")
        version = self._versions.current(tenant, id) if is_one else None
        if version is None:
            raise NotFound(f"no such file: {id[:100]}")
        return version

    def artifact(self, tenant: str, id: str, file: FileVersion) -> Artifact:
        """Where its bytes are, and what they must be."""
        path = self._content(tenant, id)
        return Artifact(name=file.filename, path=path, sha256=file.sha256, bytes=file.bytes)

    def ids(self, tenant: str) -> Iterator[str]:
        """Every id that was given, oldest first; deleted ones too."""
        return self._versions.names(tenant)

    def delete(self, tenant: str, id: str, actor: Actor = NOBODY) -> None:
        """Delete a file; jobs keep what they were made from it."""
        current = self.head(tenant, id)
        self._audit.append("file.deleted", tenant=tenant, actor=actor, id=id)
        kept = current.model_dump(include={"purpose", "bytes", "sha256"})
        deletion = FileVersion(**kept, filename="", number=current.number + 1, deleted=True)
        self._versions.append(tenant, id, deletion)
        for path in (self._content(tenant, id), self._versions.path(tenant, id, current.number)):
            self._objects.delete(path)

    def _content(self, tenant: str, id: str) -> str:
        return self._versions.path(tenant, id, 1, "jsonl")
