"""Another Scalpel's delta."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models_store.weights.delta import load_delta
from models_store.weights.foreign import DELTA_NAME, ForeignFile, check_delta
from workers.editor.formats import native
from workers.editor.imports.protocol import ReadEdit, bounded
from workers.runtime.edits.apply import check_fit
from workers.runtime.edits.deltas import from_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import by_matrix, flatten


def read(files: Mapping[str, Path], base: LoadedModel) -> ReadEdit:
    path = files[DELTA_NAME]
    with path.open("rb") as stream:
        check_delta(ForeignFile(stream, path.stat().st_size), base.fingerprint)
    delta = load_delta(path.read_bytes())
    bounded(len(delta.terms))
    terms = from_delta(delta)
    check_fit(base, by_matrix(flatten([(terms, 1.0)])))
    return ReadEdit(terms, native.loader({DELTA_NAME: path}), made_by=delta.method[:200])
