"""Scalpel's own format: one delta."""

from __future__ import annotations

from models_store.schemas.records import Variant
from models_store.weights.delta import FORMAT, dump_delta, load_delta
from workers.editor.formats.protocol import Files, Loader
from workers.runtime.apply import WeightEditor
from workers.runtime.deltas import from_delta, to_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, scaled

_NAME = "delta.safetensors"


def files(base: LoadedModel, mixture: Mixture, variant: Variant) -> Files:
    """All edits in one delta, with their strengths in the coefficients."""
    terms = [term for edit, strength in mixture for term in scaled(edit, strength)]
    return {_NAME: dump_delta(to_delta(terms, base.fingerprint, "mixture"))}


def loader(files: Files) -> Loader:
    terms = from_delta(load_delta(files[_NAME]))
    name, number = FORMAT.split("/")
    return Loader(
        name,
        number,
        lambda base: WeightEditor(base).applied([(terms, 1.0)]),
    )
