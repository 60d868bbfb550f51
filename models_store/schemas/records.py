"""The records of a piece of work: its request, its attempts, its result.

Each is created once and never changed; the state of the work follows from which of them exist.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue

from models_store.registry import Registry
from models_store.schemas.base import FrozenModel, Record
from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.catalogue import BaseModelSpec
from models_store.schemas.imports import ImportSource
from models_store.schemas.methods import AnyMethod, Effort, Limits
from models_store.schemas.report import Remark

Kind = Literal["edit", "export", "base_model"]
Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
Stage = Literal["load", "extract", "probe", "select", "tune", "evaluate", "publish"]
Outcome = Literal["succeeded", "failed", "lost", "handed_back"]
if TYPE_CHECKING:
    ExportFormat = str
else:
    ExportFormat = Literal[tuple(Registry("scalpel.exports"))]
ExportDtype = Literal["f32", "f16", "q8_0"]
"""Of the numbers in a GGUF file, as llama.cpp names them."""

STAGES: tuple[Stage, ...] = ("load", "extract", "probe", "select", "tune", "evaluate", "publish")
FINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class Actor(FrozenModel):
    """The API key that made a request."""

    key_id: str | None = None
    scopes: tuple[str, ...] = ()


class DeltaRef(FrozenModel):
    """A term of a variant: a stored delta and its strength."""

    edit_id: str
    point: int | None = None
    path: str
    sha256: str
    strength: float


class Variant(FrozenModel):
    """A resolved variant: a base model and its deltas; without deltas, the base model itself."""

    name: str
    base_model: str
    base_fingerprint: str
    terms: tuple[DeltaRef, ...] = ()


class EditSettings(FrozenModel):
    """An edit's request with all defaults filled in."""

    kind: Literal["edit"] = "edit"
    method: AnyMethod
    limits: Limits = Limits()
    effort: Effort = "standard"
    suites: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    suffix: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    on_top_of: Variant | None = None
    """The variant it is fitted on, if not the base model."""
    measures: Variant | None = None
    """The variant that is measured as it is; None where an edit is fitted."""
    reproduces: str | None = None
    """The edit, of the same tenant, that this one repeats."""
    source: ImportSource | None = None
    """Of an edit that was made elsewhere, which has no behaviour and no texts."""


class ExportSettings(FrozenModel):
    kind: Literal["export"] = "export"
    variant: Variant
    format: ExportFormat
    dtype: ExportDtype | None = None
    """Of the files' numbers, where the format leaves a choice."""


class RegistrationSettings(FrozenModel):
    kind: Literal["base_model"] = "base_model"
    spec: BaseModelSpec


class WorkRequest(Record):
    """`request.json`: created once, before the work is acknowledged."""

    id: str
    kind: Kind
    tenant: str
    actor: Actor = Actor()
    created_at: int = Field(default_factory=lambda: int(time.time()))
    deadline: int
    """Unix seconds after which no attempt continues."""
    pool: str = "cpu"
    body: JsonValue
    """The request as it was sent."""
    settings: Annotated[
        EditSettings | ExportSettings | RegistrationSettings, Field(discriminator="kind")
    ]
    base_model: str
    base_fingerprint: str | None = None
    """None in a registration, which determines it."""
    behavior: BehaviorRef | None = None
    policy_sha256: str | None = None
    """Of the operator's policy that allowed it; an editor with another one refuses the work. None
    of what no policy is about, or earlier versions wrote."""
    announced_bytes: int = 0
    """What its files will come to, about, if that is much: the tenant's quota counts them until
    they are there, or it has ended. 0 in requests of earlier versions."""
    warnings: tuple[Remark, ...] = ()
    """What the sender was warned of."""
    texts_sha256: str | None = None
    """Of the bytes of `texts.jsonl`; None if there are no texts, or it was not computed yet."""


class Claim(Record):
    """`attempts/{n}/claim.json`: attempt n belongs to the process that created it."""

    attempt: int
    worker: str
    host: str
    pid: int
    claimed_at: float = Field(default_factory=time.time)


class ErrorInfo(FrozenModel):
    code: str
    message: str


class Artifact(FrozenModel):
    name: str
    path: str
    sha256: str
    bytes: int
    parts_sha256: str | None = None
    """Of the object that has the sums of its parts, see `models_store.work.artifacts`; None of
    small files, and of those that earlier versions wrote."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of all that is stored of it."""
        return (self.path,) if self.parts_sha256 is None else (self.path, self.parts_path)

    @property
    def parts_path(self) -> str:
        return f"{self.path}.parts"


class AttemptEnd(Record):
    """`attempts/{n}/end.json`: how attempt n ended; creating it ends the attempt."""

    attempt: int
    outcome: Outcome
    error: ErrorInfo | None = None
    child_died: bool = False
    """The process died and was not stopped; only such losses count towards the limit of deaths."""
    artifacts: tuple[Artifact, ...] = ()
    outcome_data: dict[str, JsonValue] = Field(default_factory=dict)
    """What the API shows: an edit's points and summary, the verification of an export, …"""
    ended_at: float = Field(default_factory=time.time)


class Result(Record):
    """`result.json`: how the work ended; whoever creates it decides."""

    status: Literal["succeeded", "failed", "canceled"]
    attempt: int
    """The last attempt that counts; 0 when there was none."""
    error: ErrorInfo | None = None
    artifacts: tuple[Artifact, ...] = ()
    outcome_data: dict[str, JsonValue] = Field(default_factory=dict)
    finished_at: float = Field(default_factory=time.time)

    def artifact(self, name: str) -> Artifact | None:
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)


class Summary(Record):
    """`summary.json`: the records of work that has ended in one, so that lists read one object
    each. It is made from them, and can be made again."""

    deleted: bool = False
    """There is none to be made any more."""
    records: dict[str, str] = Field(default_factory=dict)
    """Their JSON by name, word for word: a later version may have written some of it."""


class Marker(Record):
    """`open/{tenant}/{id}`: the work has no result yet."""

    kind: Kind


class IdempotencyRecord(Record):
    """What an idempotency key was first used for; created before that."""

    kind: Kind | Literal["behavior", "file", "webhook", "api_key"]
    id: str
    route: str
    body_sha256: str
    created_at: int = Field(default_factory=lambda: int(time.time()))


def outcome_of(end: AttemptEnd) -> Result | None:
    """The result that follows from an attempt's end; None when another attempt is due."""
    if end.outcome not in ("succeeded", "failed"):
        return None
    return Result(
        writer=end.writer,  # so that whoever completes or retries it writes the same record
        status="succeeded" if end.outcome == "succeeded" else "failed",
        attempt=end.attempt,
        error=end.error,
        artifacts=end.artifacts,
        outcome_data=end.outcome_data,
        finished_at=end.ended_at,
    )


def json_object(value: Any) -> dict[str, JsonValue]:
    """`value`, a pydantic model, as a JSON object."""
    dumped: dict[str, JsonValue] = value.model_dump(mode="json")
    return dumped


class Deleted(Record):
    """`deleted.json`: a tombstone; for its tenant the work no longer exists."""

    deleted_at: float = Field(default_factory=time.time)
    request: WorkRequest | None = None
    """Ids, times and digests of the request, and nothing that anybody wrote; None if it could not
    be read."""
    result: Result | None = None
    """How it ended, and digests of its files."""
