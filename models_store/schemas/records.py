"""What is written down about a piece of work: its request, its attempts, its result.

Each is created once and never changed; what is going on is folded from which of them exist.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from models_store.schemas.base import Record
from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.catalogue import BaseModelSpec
from models_store.schemas.methods import Effort, Limits, Method

Kind = Literal["edit", "export", "base_model"]
Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
Stage = Literal["load", "extract", "probe", "select", "tune", "evaluate", "publish"]
Outcome = Literal["succeeded", "failed", "lost", "handed_back"]
ExportFormat = Literal["native", "peft"]

STAGES: tuple[Stage, ...] = ("load", "extract", "probe", "select", "tune", "evaluate", "publish")
FINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Actor(_Part):
    """Who asked."""

    key_id: str | None = None
    scopes: tuple[str, ...] = ()


class DeltaRef(_Part):
    """A stored delta and how strongly it is put on; the terms of a variant."""

    edit_id: str
    point: int | None = None
    path: str
    sha256: str
    strength: float


class Variant(_Part):
    """A resolved variant: a base model and the deltas on it; none is the base itself."""

    name: str
    base_model: str
    base_fingerprint: str
    terms: tuple[DeltaRef, ...] = ()


class EditSettings(_Part):
    """An edit's request with every default filled in."""

    kind: Literal["edit"] = "edit"
    method: Method
    limits: Limits = Limits()
    effort: Effort = "standard"
    suites: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    suffix: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    on_top_of: Variant | None = None
    """The variant it is fitted on, where that is not the base."""
    reproduces: str | None = None
    """The edit that this one repeats, of the same tenant."""


class ExportSettings(_Part):
    kind: Literal["export"] = "export"
    variant: Variant
    format: ExportFormat


class RegistrationSettings(_Part):
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
    """Unix seconds after which no attempt goes on."""
    pool: str = "cpu"
    body: JsonValue
    """The request as it was sent."""
    settings: Annotated[
        EditSettings | ExportSettings | RegistrationSettings, Field(discriminator="kind")
    ]
    base_model: str
    base_fingerprint: str | None = None
    """None in a registration, which finds it out."""
    behavior: BehaviorRef | None = None
    texts_sha256: str | None = None
    """Of the bytes of `texts.jsonl`; None where there are no texts, or nobody took it yet."""


class Claim(Record):
    """`attempts/{n}/claim.json`: attempt n belongs to the one who created it."""

    attempt: int
    worker: str
    host: str
    pid: int
    claimed_at: float = Field(default_factory=time.time)


class ErrorInfo(_Part):
    code: str
    message: str


class Artifact(_Part):
    name: str
    path: str
    sha256: str
    bytes: int


class AttemptEnd(Record):
    """`attempts/{n}/end.json`: how attempt n ended; the one create that seals it."""

    attempt: int
    outcome: Outcome
    error: ErrorInfo | None = None
    child_died: bool = False
    """The process died of itself; only such losses count towards the limit of deaths."""
    artifacts: tuple[Artifact, ...] = ()
    outcome_data: dict[str, JsonValue] = Field(default_factory=dict)
    """What the API shows of the outcome: an edit's points and summary, an export's proof, …"""
    ended_at: float = Field(default_factory=time.time)


class Result(Record):
    """`result.json`: whoever creates it decides how the work ended, for ever."""

    status: Literal["succeeded", "failed", "canceled"]
    attempt: int
    """The last attempt that counts; 0 when none was begun."""
    error: ErrorInfo | None = None
    artifacts: tuple[Artifact, ...] = ()
    outcome_data: dict[str, JsonValue] = Field(default_factory=dict)
    finished_at: float = Field(default_factory=time.time)

    def artifact(self, name: str) -> Artifact | None:
        return next((one for one in self.artifacts if one.name == name), None)


class Deleted(Record):
    """`deleted.json`: a tombstone; the work is gone for its tenant from here on."""

    deleted_at: float = Field(default_factory=time.time)


class Marker(Record):
    """`open/{tenant}/{id}`: there is work to look after."""

    kind: Kind


class IdempotencyRecord(Record):
    """What a key was first used for; created before the work itself."""

    kind: Kind | Literal["behavior", "webhook", "api_key"]
    id: str
    route: str
    body_sha256: str
    created_at: int = Field(default_factory=lambda: int(time.time()))


def outcome_of(end: AttemptEnd) -> Result | None:
    """The result that follows from an attempt's end; None when another attempt is due."""
    if end.outcome not in ("succeeded", "failed"):
        return None
    return Result(
        writer=end.writer,  # so that whoever completes it, or tries again, writes the same record
        status="succeeded" if end.outcome == "succeeded" else "failed",
        attempt=end.attempt,
        error=end.error,
        artifacts=end.artifacts,
        outcome_data=end.outcome_data,
        finished_at=end.ended_at,
    )


def json_object(value: Any) -> dict[str, JsonValue]:
    """`value` (a pydantic model) as the JSON object that records carry."""
    dumped: dict[str, JsonValue] = value.model_dump(mode="json")
    return dumped
