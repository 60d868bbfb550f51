"""The model card of an export."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from pydantic import JsonValue

from models_store.cards import ExportFacts, Use, export_card
from models_store.errors import CorruptArtifact, NewerRecord, NotFound
from models_store.objects.versions import parse_stored
from models_store.schemas.catalogue import hub_repo
from models_store.schemas.records import ExportSettings
from models_store.schemas.report import Report
from models_store.work.store import Work
from workers.editor.formats.protocol import Files, Format
from workers.editor.jobs.inputs import registered_base
from workers.editor.jobs.task import Task

_log = structlog.get_logger()


def card_of(
    task: Task,
    edits: Mapping[str, Work],
    format: Format,
    files: Files,
    proof: Mapping[str, JsonValue],
) -> bytes:
    """What is in it besides the format is in `models_store.cards`.

    Args:
        edits: of the variant, by id, as far as they can be read.

    Raises:
        BaseModelUnavailable: the base model is no longer in the catalogue.
        Unavailable: the store stayed away.
    """
    request, settings = task.request, task.request.settings
    assert isinstance(settings, ExportSettings)
    base = registered_base(task).spec
    use = getattr(format, "use", _unknown)
    facts = ExportFacts(
        id=request.id,
        created_at=request.created_at,
        format=settings.format,
        variant=settings.variant,
        base=base,
        use=use(files, hub_repo(base) or base.id),
        proof=proof,
        receipts=_receipts(task, edits),
        imported=[id for id, edit in edits.items() if edit.imported],
    )
    return export_card(facts).encode()


def _unknown(files: Files, base: str) -> Use:
    """Of a format from outside that says nothing of its use."""
    return Use(library="scalpel", relation="adapter", tags=(), load="As its format asks for.")


def _receipts(task: Task, edits: Mapping[str, Work]) -> Mapping[str, Report]:
    """By edit; an export is no worse for a receipt that cannot be read."""
    found = {}
    for id, edit in edits.items():
        try:
            report = _receipt(task, edit)
        except (CorruptArtifact, NewerRecord, NotFound) as error:
            _log.warning("the card lacks a receipt", edit=id, error=error.message)
            continue
        if report is not None:
            found[id] = report
    return found


def _receipt(task: Task, edit: Work) -> Report | None:
    artifact = edit.result.artifact("report") if edit.result else None
    if artifact is None:
        return None
    data = task.read(artifact.path, artifact.sha256.removeprefix("sha256:"))
    return parse_stored(Report, data, f"the receipt of {edit.id}")
