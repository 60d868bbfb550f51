"""What a kind of work is given to do, and what it answers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import JsonValue

from models_store.errors import CorruptArtifact, EditFailed, NotFound
from models_store.schemas.behaviors import Behavior, from_lines
from models_store.schemas.items import Item
from models_store.schemas.records import Artifact, WorkRequest
from models_store.settings import Settings
from models_store.work.artifacts import store_artifact
from models_store.work.store import Place, WorkStore
from workers.editor.process.patience import patiently
from workers.progress import Watcher

_PATIENCE_SECONDS = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One attempt at a piece of work, as those who do it see it."""

    request: WorkRequest
    attempt: int
    store: WorkStore
    settings: Settings
    report: Watcher
    """Gets stage and share of it that is done."""
    started_at: float = field(default_factory=time.monotonic)
    """When the process was forked, by `time.monotonic()`."""

    @property
    def place(self) -> Place:
        return Place(self.request.kind, self.request.tenant, self.request.id)

    def patiently(self, action: Callable[[], T]) -> T:
        """What `action` gets from the store; a store that is away is waited for, up to a minute.

        Raises:
            Unavailable: it stayed away.
        """
        return patiently(action, _PATIENCE_SECONDS)

    def texts(self) -> tuple[Behavior, tuple[Item, ...]]:
        """The behaviour with all its texts, and the items to preserve.

        Raises:
            CorruptArtifact: they are not those that were sent.
            NotFound: they are gone.
            Unavailable: the store stayed away.
        """
        return from_lines(self.patiently(lambda: self.store.read_texts(self.request)))

    def read(self, path: str, sha256: str | None = None) -> bytes:
        """The bytes of an artifact; `sha256` says what they must be.

        Raises:
            NotFound: it is gone.
            CorruptArtifact: it is another one.
            Unavailable: the store stayed away.
        """
        return self.patiently(lambda: self.store.read_artifact(path, sha256))

    def fetch(self, path: str, sha256: str, target: Path) -> None:
        """Bring an artifact into a file, a chunk at a time; `sha256` says what it must be.

        Raises:
            NotFound: it is gone.
            CorruptArtifact: it is another one.
            Unavailable: the store stayed away.
        """
        self.patiently(lambda: self._fetch(path, sha256, target))

    def _fetch(self, path: str, sha256: str, target: Path) -> None:
        info, digest = self.store.objects.info(path), hashlib.sha256()
        if info is None:
            raise NotFound(f"the artifact {path} is gone")
        with target.open("wb") as file:
            for chunk in self.store.objects.stream(path, 0, info.size):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise CorruptArtifact(f"the artifact {path} is not what was written")

    def save(self, name: str, file: str, data: bytes | Path) -> Artifact:
        """Store an artifact of this attempt under `file`, in its folder.

        Args:
            data: its bytes, or a file that has them, which is read a chunk at a time.

        Raises:
            Unavailable: the store stayed away, or full.
        """
        path = f"{self.place.attempt(self.attempt)}/{file}"
        return self.patiently(lambda: store_artifact(self.store.objects, name, path, data))


@dataclass(frozen=True)
class Outcome:
    """What came out of the work: files, and what the API shows of them."""

    artifacts: tuple[Artifact, ...] = ()
    data: dict[str, JsonValue] = field(default_factory=dict)


class FailedWithOutcome(EditFailed):
    """The work failed, but something came of it, such as a report that says why."""

    def __init__(self, message: str, *, code: str, outcome: Outcome) -> None:
        super().__init__(message, code=code)
        self.outcome = outcome


class Handler(Protocol):
    """Does one kind of work.

    Raises:
        ScalpelError: it cannot be done; `Unavailable` when another attempt may go better.
    """

    def __call__(self, task: Task) -> Outcome: ...
