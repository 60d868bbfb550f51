"""The events of a job: those of its edit, in sentences, with the figures of every trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import JsonValue

from app.domain.bodies import View
from app.domain.events.events import Event
from app.domain.fine_tuning.jobs import body_of, job_id, points_of, receipt_of, ulid_of
from app.domain.variants.names import variant_name
from models_store.work.store import Work

Level = Literal["info", "warn", "error"]
_STAGES = {
    "load": "Loading the base model",
    "extract": "Reading the texts",
    "probe": "Fitting",
    "select": "Choosing where to write",
    "tune": "Searching: scaling and trying candidates",
    "evaluate": "Measuring on the test prompts",
    "publish": "Publishing",
}


class JobEvent(View):
    """One thing that happened to a job."""

    id: str
    """`ftevent-…`; give it as `after` for the page after it."""
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    """What kind of thing this is: always the same word."""
    created_at: int
    """Seconds since 1970."""
    level: Level
    """`warn`: something that was requested has no effect, or is doubtful."""
    message: str
    """For people."""
    type: Literal["message", "metrics"] = "message"
    """`metrics`: `data` has figures."""
    data: dict[str, JsonValue]
    """What the edit's event has."""


_Said = tuple[Level, str, dict[str, JsonValue]]


def job_events(work: Work, events: Iterable[Event]) -> list[JobEvent]:
    """The events of a job, oldest first.

    Args:
        events: of its edit, those that have an id.

    Raises:
        NotFound: the edit was not made as a job.
    """
    return [
        JobEvent(
            id=f"ftevent-{ulid_of(work.id)}-{event.id:06}-{number:03}",
            created_at=event.created_at,
            level=level,
            message=message,
            type="metrics" if "metrics" in data else "message",
            data=data,
        )
        for event in events
        for number, (level, message, data) in enumerate(_said(work, event))
    ]


def _said(work: Work, event: Event) -> Iterator[_Said]:
    """What an event of the edit means, in one sentence or several."""
    data = event.data
    match event.type:
        case "edit.created":
            yield from _created(work)
        case "edit.started":
            yield "info", f"Fine-tuning job started: attempt {data['attempt']}", data
        case "edit.stage":
            yield "info", _STAGES[str(data["stage"])], data
        case "edit.attempt_ended" if data["outcome"] in ("lost", "handed_back"):
            yield "warn", f"Attempt {data['attempt']} was {data['outcome']}: it is made again", data
        case "edit.succeeded":
            yield from _tried(work)
            name = variant_name(work)
            yield "info", f"New fine-tuned model created: {name}", {"fine_tuned_model": name}
            yield "info", "The job has successfully completed", _receipt(work)
        case "edit.failed":
            yield from _tried(work)
            error = work.result.error if work.result is not None else None
            why = f": {error.message}" if error is not None else ""
            yield "error", f"The job failed{why}", {**data, **_receipt(work)}
        case "edit.canceled":
            yield "info", "Fine-tuning job cancelled", data


def _created(work: Work) -> Iterator[_Said]:
    body = body_of(work)
    edit: dict[str, JsonValue] = {"edit": work.id, "url": f"/v1/edits/{work.id}"}
    yield "info", f"Created fine-tuning job: {job_id(work.id)}", edit
    if body.method_type == "supervised":
        yield (
            "info",
            "The model's own responses to the same prompts will be what the edit leads away from",
            {},
        )
    for given in body.given_hyperparameters.without_effect():
        yield (
            "warn",
            f"{given} has no effect: an edit is fitted in one step, and finds its strength itself",
            {"param": given.partition(" ")[0]},
        )


def _tried(work: Work) -> Iterator[_Said]:
    for point in points_of(work):
        step, chosen = point.get("index"), point.get("selected") is True
        message = f"Step {step}: {point.get('method', 'tried')}{', chosen' if chosen else ''}"
        yield "info", message, {"step": step, "metrics": point}


def _receipt(work: Work) -> dict[str, JsonValue]:
    """Where the receipt is, and its main figures."""
    if work.result is None or receipt_of(work) is None:
        return {}
    summary = work.result.outcome_data.get("report_summary")
    return {"receipt": f"/v1/edits/{work.id}/report", "summary": summary}
