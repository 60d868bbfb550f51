"""Scalpel's own format: one delta."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models_store.schemas.records import Variant
from models_store.weights.delta import FORMAT, dump_delta, load_delta
from workers.editor.formats.protocol import Files, Loader, content
from workers.runtime.apply import WeightEditor
from workers.runtime.deltas import from_delta, to_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, scaled

_NAME = "delta.safetensors"


def files(base: LoadedModel, mixture: Mixture, variant: Variant, scratch: Path) -> Files:
    """All edits in one delta, with their strengths in the coefficients."""
    terms = [term for edit, strength in mixture for term in scaled(edit, strength)]
    return {_NAME: dump_delta(to_delta(terms, base.fingerprint, "mixture"))}


def loader(files: Files) -> Loader:
    terms = from_delta(load_delta(content(files[_NAME])))

    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        with WeightEditor(base).applied([(terms, 1.0)]):
            yield base

    name, number = FORMAT.split("/")
    return Loader(name, number, loaded)
