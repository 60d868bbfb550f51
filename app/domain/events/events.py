"""The events of an edit: the durable ones are folded from its records, with ids that stay the
same whatever happens to Redis; stages are remembered there and may be lost.

An id is 16 · attempt + step, so ids only grow; `edit.progress` has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ConfigDict, JsonValue

from app.domain.bodies import View
from app.domain.variants.names import variant_name
from models_store.schemas.records import STAGES, Result, Stage
from models_store.work.store import Work

EventType = Literal[
    "edit.created",
    "edit.started",
    "edit.stage",
    "edit.progress",
    "edit.attempt_ended",
    "edit.succeeded",
    "edit.failed",
    "edit.canceled",
]
_STEPS = 16
_CREATED_ID = 1
_ATTEMPT_ENDED_STEP = 14
_FINAL_STEP = 15
_FINAL_TYPES: dict[str, EventType] = {
    "succeeded": "edit.succeeded",
    "failed": "edit.failed",
    "canceled": "edit.canceled",
}


class Event(View):
    """One thing that happened to an edit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int | None
    """Its place in the order; null for what is not kept."""
    object: Literal["event"] = "event"
    """What kind of thing this is: always the same word."""
    type: EventType
    """What happened."""
    edit_id: str
    """The edit."""
    created_at: int
    """Unix seconds."""
    data: dict[str, JsonValue]
    """What belongs to the type."""


def stage_id(attempt: int, stage: Stage) -> int:
    """The id of the event of a stage; that of `load` is the attempt's start."""
    return _STEPS * attempt + STAGES.index(stage)


def final_id(result: Result) -> int:
    return _STEPS * result.attempt + _FINAL_STEP


def durable_events(work: Work) -> list[Event]:
    """All that follow from the records, by id."""
    return [_created(work), *_attempts(work), *_final(work)]


def merged(durable: Iterable[Event], stages: Iterable[Event], attempts: int) -> list[Event]:
    """Durable and stage events by id; stages of attempts that are not yet in the records wait,
    since an event is never followed by one with a smaller id."""
    by_id = {event.id: event for event in durable}
    for event in stages:
        if event.id is not None and event.id < _STEPS * (attempts + 1):
            by_id.setdefault(event.id, event)
    return [by_id[id] for id in sorted(id for id in by_id if id is not None)]


def _created(work: Work) -> Event:
    return Event(
        id=_CREATED_ID,
        type="edit.created",
        edit_id=work.id,
        created_at=work.request.created_at,
        data={"status": "queued", "attempt": 0},
    )


def _attempts(work: Work) -> Iterable[Event]:
    # Whether a canceled edit's last attempt has an end is a matter of moments; leave it out, so
    # that every reader receives the same.
    canceled = work.status == "canceled"
    for claim, end in zip(work.claims, work.ends, strict=True):
        number = claim.attempt
        yield Event(
            id=stage_id(number, "load"),
            type="edit.started",
            edit_id=work.id,
            created_at=int(claim.claimed_at),
            data={"attempt": number, "stage": "load", "progress": 0.0},
        )
        if end is not None and not (canceled and number == len(work.claims)):
            yield Event(
                id=_STEPS * number + _ATTEMPT_ENDED_STEP,
                type="edit.attempt_ended",
                edit_id=work.id,
                created_at=int(end.ended_at),
                data={
                    "attempt": number,
                    "outcome": end.outcome,
                    "error": end.error.model_dump() if end.error is not None else None,
                },
            )


def _final(work: Work) -> Iterable[Event]:
    result = work.result
    if result is not None:
        succeeded = result.status == "succeeded"
        yield Event(
            id=final_id(result),
            type=_FINAL_TYPES[result.status],
            edit_id=work.id,
            created_at=int(result.finished_at),
            data={
                "attempt": result.attempt,
                "status": result.status,
                "error": result.error.model_dump() if result.error is not None else None,
                "variant": variant_name(work) if succeeded else None,
            },
        )
