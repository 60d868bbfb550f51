"""Make the files of an export, and prove them before anybody can have them."""

from __future__ import annotations

from collections.abc import Mapping

from models_store.cards import CARD_NAME
from models_store.cards.sums import SUMS_NAME, write_sums
from models_store.registry import Registry
from models_store.schemas.canary import NAME as CANARY
from models_store.schemas.records import ExportSettings, json_object
from workers import progress
from workers.editor.formats.protocol import Format
from workers.editor.jobs.canary import prompts_of, record
from workers.editor.jobs.card import card_of
from workers.editor.jobs.inputs import base_of, mixture_of, readable_edits, registered_base
from workers.editor.jobs.proof import has_room, prove
from workers.editor.jobs.scratch import scratch_folder
from workers.editor.jobs.task import Outcome, Task

_FORMATS: Mapping[str, Format] = Registry("scalpel.exports")


def run(task: Task) -> Outcome:
    """Make the export; its outcome holds the files, the proof and the canary.

    Raises:
        InvalidRequest: the format cannot hold such edits.
        EditFailed: `export_mismatch`, what was loaded back is not the variant.
        BaseModelUnavailable, CorruptArtifact, NotFound: something that it is made from is missing
            or broken.
        Unavailable: the store stayed away.
    """
    settings = task.request.settings
    assert isinstance(settings, ExportSettings)
    with progress.watch(task.report), scratch_folder(task.settings.cache) as scratch:
        with progress.step("load"):
            # In fp32 what an export gives can be compared sharply.
            room = has_room(registered_base(task).facts.parameters, task.settings.device)
            base = base_of(task, dtype="float32" if room else None)
            mixture = mixture_of(task, settings.variant)
            edits = readable_edits(task, settings.variant)
        with progress.step("evaluate"):
            format = _format(settings)
            with progress.step("files", 0.3):
                files = format.files(base, mixture, settings.variant, scratch)
            with progress.step("canary", 0.2):  # before the loader may change the base
                prompts = prompts_of(task, edits.values())
                canary = record(base, mixture, settings.variant, prompts)
            with progress.step("proof"):
                proof = prove(
                    base, mixture, format.loader(files), lambda dtype: base_of(task, dtype=dtype)
                )
        with progress.step("publish"):
            described = {
                **files,
                CARD_NAME: card_of(task, edits, format, files, json_object(proof)),
            }
            saved = [
                task.save(name, f"files/{name}", data)
                for name, data in progress.track(list(described.items()))
            ]
            sums = write_sums((one.name, one.sha256) for one in saved)
            saved.append(task.save(SUMS_NAME, f"files/{SUMS_NAME}", sums))
            saved.append(task.save(CANARY, CANARY, canary.model_dump_json().encode()))
    return Outcome(tuple(saved), {"proof": json_object(proof)})


def _format(settings: ExportSettings) -> Format:
    format = _FORMATS[settings.format]
    if settings.dtype is None:
        return format
    chosen: Format = getattr(format, "DTYPES")[settings.dtype]  # noqa: B009 - not all have it
    return chosen
