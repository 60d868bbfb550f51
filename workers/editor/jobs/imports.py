"""Make an edit of what was made elsewhere: bring its files, read them, prove what was read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from models_store.errors import CorruptArtifact, EditFailed, InvalidRequest
from models_store.schemas.imports import ImportFacts, ImportKind, ImportSource, SourceFile
from models_store.schemas.records import EditSettings, json_object
from models_store.weights.delta import dump_delta
from models_store.weights.foreign import ForeignFile, recognise
from models_store.work.base_models import ReadyBase
from workers import progress
from workers.editor.imports import difference, native, peft, vectors
from workers.editor.imports.protocol import ReadEdit, Reader
from workers.editor.jobs.inputs import base_of, registered_base
from workers.editor.jobs.proof import Proof, has_room, prove
from workers.editor.jobs.scratch import scratch_folder
from workers.editor.jobs.task import Outcome, Task
from workers.editor.steps.harm import policy_for, require_harmless_import
from workers.runtime.edits.deltas import to_delta
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.pinned import load_pinned

_READERS: Mapping[ImportKind, Reader] = {
    "native": native.read,
    "peft": peft.read,
    "control_vector": vectors.read_control_vector,
    "steering_vectors": vectors.read_steering_vectors,
}


def run(task: Task) -> Outcome:
    """Import the edit; its outcome holds the delta, and what the files turned out to be.

    Raises:
        EditFailed: `invalid_import`, no edit can be made of the files, or the edit is not what
            their own library makes of them, or cannot be told from the base model;
            `policy_changed`, as `policy_for` says; `policy_refused`, as `require_harmless_import`.
        BaseModelUnavailable, CorruptArtifact, NotFound: something that it starts from is missing
            or broken.
        Unavailable: the store stayed away.
    """
    settings = task.request.settings
    assert isinstance(settings, EditSettings)
    assert settings.source is not None
    policy = policy_for(task)
    with progress.watch(task.report), scratch_folder(task.settings.cache) as scratch:
        with progress.step("load"):
            source, files = _bring(task, settings.source, scratch)
            models = [registered_base(task)]
            if source.model is not None:
                models.append(registered_base(task, source.model.id))
            parameters = sum(model.facts.parameters for model in models)
            room = has_room(parameters, task.settings.device)
            base = base_of(task, dtype="float32" if room else None)
        assert source.kind is not None
        with progress.step("extract"), _refusing():
            edit = _read(task, source, files, base, models[-1])
            if not edit.terms:
                raise InvalidRequest("it changes nothing: all of its terms are zero")
        with progress.step("evaluate"):
            require_harmless_import(task, policy, EditedModel(base, [(edit.terms, 1.0)]))
            proof = _proof(task, base, edit)
        with progress.step("publish"):
            method = edit.made_by or "imported"
            data = dump_delta(to_delta(edit.terms, base.fingerprint, method))
            delta = task.save("delta", "delta.safetensors", data)
    return Outcome((delta,), {"imported": json_object(_facts(source, edit, proof))})


def _read(
    task: Task,
    source: ImportSource,
    files: Mapping[str, Path],
    base: LoadedModel,
    model: ReadyBase,
) -> ReadEdit:
    """What the files, or another model, are as terms.

    Args:
        model: the other one, where there is one.

    Raises:
        BaseModelUnavailable: it is missing or broken, or no longer the one that was named.
    """
    assert source.kind is not None
    if source.model is None:
        return _READERS[source.kind](files, base)
    other = load_pinned(
        source.model.id,
        source.model_fingerprint or "",
        model.spec.source,
        task.settings,
        dtype=str(base.dtype).removeprefix("torch."),
        ranks=True,
    )
    return difference.read(base, other, source.model.rank)


def _proof(task: Task, base: LoadedModel, edit: ReadEdit) -> Proof | None:
    """That the edit is what the files' own library makes of them; None where it is not the same.

    Raises:
        EditFailed: `invalid_import`, it is not, or it cannot be told from the base model.
    """
    if edit.loader is None:
        return None
    return prove(
        base,
        [(edit.terms, 1.0)],
        edit.loader,
        lambda dtype: base_of(task, dtype=dtype),
        what="what was imported",
        code="invalid_import",
    )


def _facts(source: ImportSource, edit: ReadEdit, proof: Proof | None) -> ImportFacts:
    assert source.kind is not None
    return ImportFacts(
        kind=source.kind,
        files=source.files,
        modules=tuple(sorted({term.module for term in edit.terms})),
        layers=tuple(sorted({term.layer for term in edit.terms})),
        rank=max(Counter(term.key for term in edit.terms).values()),
        terms=len(edit.terms),
        made_by=edit.made_by,
        made_for=edit.made_for,
        approximation=edit.approximation,
        left=None if edit.left is None else dict(edit.left),
        proof=None if proof is None else json_object(proof),
    )


def _bring(task: Task, source: ImportSource, scratch: Path) -> tuple[ImportSource, dict[str, Path]]:
    """The files in `scratch`, by the names that they are kept under, and what they are.

    Raises:
        EditFailed: `invalid_import`, they cannot be had from the hub, or are nothing that can be
            imported.
        CorruptArtifact, NotFound: they are not what was sent.
        Unavailable: the store stayed away.
    """
    if source.model is not None:
        return source, {}
    if source.hub is None:
        files = {file.name: scratch / file.name for file in source.files}
        for file in source.files:
            task.fetch(task.place.source(file.name), file.sha256, files[file.name])
        return source, files
    with _refusing():
        # Late: the downloader takes a second to import.
        from workers.runtime.base_models.hub import download_edit

        download_edit(source.hub, scratch, task.settings.max_import_bytes)
        return _recognised(source, [path for path in scratch.iterdir() if path.is_file()])


def _recognised(source: ImportSource, paths: list[Path]) -> tuple[ImportSource, dict[str, Path]]:
    by_name = {path.name: path for path in paths}
    with ExitStack() as opened:
        kind, names = recognise(
            {
                name: ForeignFile(opened.enter_context(path.open("rb")), path.stat().st_size)
                for name, path in by_name.items()
            }
        )
    files = {name: by_name[given] for name, given in names.items()}
    described = tuple(_described(name, path) for name, path in files.items())
    return source.model_copy(update={"kind": kind, "files": described}), files


def _described(name: str, path: Path) -> SourceFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return SourceFile(name=name, sha256=digest, bytes=path.stat().st_size)


@contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with the files, as the edit's error."""
    try:
        yield
    except (InvalidRequest, CorruptArtifact) as error:
        raise EditFailed(error.message, code="invalid_import") from error
