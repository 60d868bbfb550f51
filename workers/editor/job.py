"""The RQ job: claim a piece of work, do it, publish how it ended."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import structlog

from models_store.errors import NewerRecord, NotFound, ScalpelError, Unavailable
from models_store.live.leases import connect
from models_store.objects.store import open_store
from models_store.schemas.records import AttemptEnd, ErrorInfo, Kind
from models_store.settings import Settings
from models_store.work.store import Place, WorkStore
from workers.editor.jobs import edits, exports, registrations
from workers.editor.jobs.task import FailedWithOutcome, Handler, Outcome, Task
from workers.editor.process import exits
from workers.editor.process.attempt import Attempt
from workers.editor.process.failures import error_info
from workers.editor.process.patience import patiently
from workers.editor.process.progress import ProgressReporter
from workers.editor.process.sigterm import Sigterm

_log = structlog.get_logger()

_START_PATIENCE_SECONDS = 20.0
_HANDLERS: Mapping[Kind, Handler] = {
    "edit": edits.run,
    "export": exports.run,
    "base_model": registrations.run,
}


def run(kind: Kind, tenant: str, id: str) -> None:
    """Called by RQ, by name, in a process of its own that ends with the job.

    RQ looks on an exception as an ordinary end, after which nobody would be told that the
    attempt is dead; so this process is ended in a way that its parent notices.
    """
    structlog.contextvars.bind_contextvars(work_id=id)
    # From before the claim: an attempt that SIGTERM ends unheard counts as one that died.
    sigterm = Sigterm()
    try:
        _run(Place(kind, tenant, id), sigterm)
    except BaseException:
        _log.exception("the attempt broke")
        exits.leave(exits.FAULT)


def _run(place: Place, sigterm: Sigterm) -> None:
    settings = Settings()
    client = connect(settings)
    try:
        store = WorkStore(patiently(lambda: open_store(settings), _START_PATIENCE_SECONDS))
        # RQ says in this variable whose child this is; a stop command is sent to that name.
        worker = os.environ["RQ_WORKER_ID"]
        claim = patiently(lambda: store.claim(place, worker), _START_PATIENCE_SECONDS)
        if claim is None:
            return
        request = patiently(
            lambda: store.read(place.kind, place.tenant, place.id), _START_PATIENCE_SECONDS
        ).request
    except NotFound:
        return  # deleted meanwhile
    except NewerRecord as error:
        _log.warning("this is for an editor of a later version", error=error.message)
        exits.leave(exits.HANDED_BACK)
    except Unavailable as error:
        _log.warning("the store is away; the keeper will ring again", error=error.message)
        exits.leave(exits.HANDED_BACK)
    _log.info("attempt begins", kind=place.kind, attempt=claim.attempt)
    with Attempt(store, place, request, claim, client, settings, sigterm) as attempt:
        task = Task(
            request=request,
            attempt=claim.attempt,
            store=store,
            settings=settings,
            report=ProgressReporter(client, place.id, claim.attempt),
            started_at=exits.forked_at or time.monotonic(),
        )
        try:
            end = _attempted(task)
            published = attempt.publish(end)
        except Unavailable as error:
            _log.warning("what it needs stayed away; handing the work back", error=error.message)
            attempt.hand_back(ErrorInfo(code=error.code, message=error.message))
            exits.leave(exits.HANDED_BACK)
    _log.info("attempt ends", outcome=end.outcome, error=end.error, published=published)


def _attempted(task: Task) -> AttemptEnd:
    """Do the work; how it ended, unless the store was to blame.

    Raises:
        Unavailable: the store stayed away.
    """
    outcome, error = Outcome(), None
    try:
        outcome = _HANDLERS[task.request.kind](task)
    except Unavailable:
        raise
    except FailedWithOutcome as failure:
        outcome, error = failure.outcome, error_info(failure, task.request.kind)
    except ScalpelError as failure:
        error = error_info(failure, task.request.kind)
    except Exception as failure:
        _log.exception("the work failed in an unforeseen way")
        error = error_info(failure, task.request.kind)
    return AttemptEnd(
        attempt=task.attempt,
        outcome="succeeded" if error is None else "failed",
        error=error,
        artifacts=outcome.artifacts,
        outcome_data=outcome.data,
    )
