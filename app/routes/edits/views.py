"""An edit as the API shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pydantic import JsonValue

from app.domain.bodies import View
from app.domain.edits.queue_line import QueueLine
from app.domain.events.live_state import EditProgress
from app.domain.variants.names import variant_name
from app.services import Services
from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.imports import ImportFacts, ImportSource
from models_store.schemas.methods import AnyMethod, Effort, Limits
from models_store.schemas.records import EditSettings, Outcome, Stage, Status
from models_store.schemas.report import EditOutcome, Remark
from models_store.work.store import Work


class EditBehavior(View):
    id: str | None
    """`beh_…` of an uploaded one, else null."""
    name: str
    """Its name."""
    sha256: str
    """Checksum of all that an edit depends on."""
    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""

    @classmethod
    def of(cls, ref: BehaviorRef) -> EditBehavior:
        return cls(id=ref.id, name=ref.name, sha256=ref.sha256, counts=ref.counts)


class AttemptView(View):
    n: int
    """Number of the attempt, from 1."""
    outcome: Outcome | None
    """Null while it is running."""
    at: int | None
    """Unix seconds of its end; null while it is running."""


class ErrorView(View):
    code: str
    """Stable; `/docs/errors` explains each."""
    message: str
    """For people."""
    attempts: list[AttemptView]
    """How each attempt ended."""

    @classmethod
    def of(cls, work: Work) -> ErrorView | None:
        if work.result is None or work.result.error is None:
            return None
        attempts = [
            AttemptView(
                n=claim.attempt,
                outcome=end.outcome if end is not None else None,
                at=int(end.ended_at) if end is not None else None,
            )
            for claim, end in zip(work.claims, work.ends, strict=True)
        ]
        error = work.result.error
        return cls(code=error.code, message=error.message, attempts=attempts)


class ImportedView(View):
    """Where an imported edit comes from, and what it turned out to be."""

    source: ImportSource
    """As the request named it."""
    facts: ImportFacts | None
    """Null until it has succeeded."""

    @classmethod
    def of(cls, work: Work, source: ImportSource | None) -> ImportedView | None:
        if source is None:
            return None
        found = work.result.outcome_data.get("imported") if work.result is not None else None
        # A newer version may know more of it.
        facts = None if found is None else ImportFacts.model_validate(found, extra="ignore")
        return cls(source=source, facts=facts)


class EditView(View):
    """An edit: request, status and outcome."""

    id: str
    """`edit_…`."""
    object: Literal["edit"] = "edit"
    """What kind of thing this is: always the same word."""
    status: Status
    """`queued`, `running`, then one of `succeeded`, `failed`, `canceled`."""
    stage: Stage | None
    """Stage of a running edit; null if unknown."""
    progress: float | None
    """Finished share of the stage."""
    attempt: int
    """Attempts that were begun."""
    queue_position: int | None
    """Among the tenant's edits, 1 is next; null unless queued and the queue is known."""
    base_model: str
    """Id of the base model."""
    behavior: EditBehavior | None
    """Null of an imported edit, as are `limits` and `effort`: nothing was measured."""
    method: AnyMethod
    """With all defaults filled in."""
    limits: Limits | None
    """Bounds on the damage."""
    effort: Effort | None
    """How much is tried and measured."""
    seed: int
    """Of all that is random."""
    suffix: str | None
    """The name that it was given; null: none."""
    on_top_of: str | None
    """The variant that it is fitted on; null: the base model."""
    measures: str | None
    """The variant that was measured; null where an edit was fitted."""
    suites: tuple[str, ...]
    """Standard suites that are run, by name."""
    reproduces: str | None
    """The edit that this one reproduces."""
    metadata: dict[str, str]
    """Your own strings."""
    created_at: int
    """Unix seconds."""
    started_at: int | None
    """Unix seconds of its first attempt; null before."""
    finished_at: int | None
    """Unix seconds; null until it has ended."""
    error: ErrorView | None
    """Why it failed; null if it did not."""
    points: list[JsonValue]
    """Every measured trial; empty in lists."""
    report_summary: JsonValue
    """The receipt's main figures, verdict and advice; null until there is one."""
    outcome: EditOutcome | None
    """What came of it, by its receipt; null until there is one, and where an earlier version made
    the edit."""
    warnings: tuple[Remark, ...]
    """What can be foreseen of its harm; once it has a receipt, what that warns of."""
    variant: str | None
    """Name to serve it by, once it has succeeded: by its id, which never means another edit."""
    model: str | None
    """Name to serve it by, with its suffix if it has one: the `model` of a completion."""
    imported: ImportedView | None
    """Of an edit that was made elsewhere."""


_OUTCOMES: tuple[EditOutcome, ...] = get_args(EditOutcome)


def _warnings(work: Work, summary: Mapping[str, JsonValue]) -> tuple[Remark, ...]:
    """Those of the receipt, in place of those at the submission."""
    measured = summary.get("warnings")
    if not isinstance(measured, list):
        return work.request.warnings
    # A newer version may say more of each.
    return tuple(Remark.model_validate(one, extra="ignore") for one in measured)


def edit_view(services: Services, work: Work) -> EditView:
    """One edit, with its points."""
    return edit_views(services, [work], points=True)[0]


def edit_views(
    services: Services, works: Sequence[Work], *, points: bool = False
) -> list[EditView]:
    """Several edits of one tenant; Redis is read once for all of them."""
    running = [work.id for work in works if work.status == "running"]
    progress = services.live.progress(running)
    line = None
    queued = next((work for work in works if work.status == "queued"), None)
    if queued is not None:
        line = QueueLine.read(services.store.work, services.live, queued.request.tenant)
    return [_view(work, progress.get(work.id), line, points) for work in works]


def _view(
    work: Work, progress: EditProgress | None, line: QueueLine | None, points: bool
) -> EditView:
    request, settings, result = work.request, work.request.settings, work.result
    assert isinstance(settings, EditSettings)
    made_here = settings.source is None
    behavior = request.behavior
    if progress is not None and progress.attempt != work.attempt:
        progress = None  # of an attempt before this one
    outcome = result.outcome_data if result is not None else {}
    shown = outcome.get("points") if points else None
    succeeded = work.status == "succeeded"
    summary = outcome.get("report_summary")
    told = summary if isinstance(summary, dict) else {}
    return EditView(
        id=work.id,
        status=work.status,
        stage=progress.stage if progress is not None else None,
        progress=1.0 if succeeded else progress.progress if progress is not None else None,
        attempt=work.attempt,
        queue_position=line.position(work) if line is not None else None,
        base_model=request.base_model,
        behavior=EditBehavior.of(behavior) if behavior is not None else None,
        method=settings.method,
        limits=settings.limits if made_here else None,
        effort=settings.effort if made_here else None,
        seed=settings.seed,
        suffix=settings.suffix,
        on_top_of=settings.on_top_of.name if settings.on_top_of is not None else None,
        measures=settings.measures.name if settings.measures is not None else None,
        suites=settings.suites,
        reproduces=settings.reproduces,
        metadata=settings.metadata,
        created_at=request.created_at,
        started_at=int(work.claims[0].claimed_at) if work.claims else None,
        finished_at=int(result.finished_at) if result is not None else None,
        error=ErrorView.of(work),
        points=shown if isinstance(shown, list) else [],
        report_summary=summary,
        # One of a later version is none that is known here.
        outcome=next((one for one in _OUTCOMES if one == told.get("outcome")), None),
        warnings=_warnings(work, told),
        variant=variant_name(work) if succeeded else None,
        model=variant_name(work, suffix=settings.suffix) if succeeded else None,
        imported=ImportedView.of(work, settings.source),
    )
