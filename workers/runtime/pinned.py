"""Base models and edits that are what a record says they are, or an error."""

from __future__ import annotations

import hashlib

from models_store.errors import BaseModelUnavailable, CorruptArtifact
from models_store.schemas.catalogue import BaseModelSource
from models_store.schemas.records import DeltaRef
from models_store.settings import Settings
from models_store.weights.delta import load_delta
from workers.runtime.base_models import materialise
from workers.runtime.edits.deltas import from_delta
from workers.runtime.loading import LoadedModel, load_base, load_outline
from workers.surgery.terms import Term


def load_pinned(
    id: str,
    fingerprint: str,
    source: BaseModelSource,
    settings: Settings,
    *,
    dtype: str | None = None,
    ranks: bool = False,
) -> LoadedModel:
    """Load the base model `id`, on the device and by default in the dtype of the settings.

    Args:
        ranks: see `load_base`.

    Raises:
        BaseModelUnavailable: its files are missing or broken, or have another fingerprint.
    """
    base = load_base(
        materialise(source, settings.cache, settings.allowed_folders),
        device=settings.device,
        dtype=dtype or settings.dtype,
        threads=settings.threads,
        ranks=ranks,
        cache=settings.cache,
    )
    return _checked(base, id, fingerprint)


def outline_pinned(
    id: str, fingerprint: str, source: BaseModelSource, settings: Settings
) -> LoadedModel:
    """The same without its weights, of which the files must be here all the same.

    Raises:
        BaseModelUnavailable: as `load_pinned`.
    """
    folder = materialise(source, settings.cache, settings.allowed_folders)
    return _checked(load_outline(folder, cache=settings.cache), id, fingerprint)


def _checked(base: LoadedModel, id: str, fingerprint: str) -> LoadedModel:
    if base.fingerprint != fingerprint:
        raise BaseModelUnavailable(
            f"the weights of {id} on this machine ({base.fingerprint}) are not the ones it was "
            f"registered with ({fingerprint})"
        )
    return base


def published_terms(data: bytes, ref: DeltaRef, base_fingerprint: str) -> list[Term]:
    """The terms of a delta, read from the bytes that the store gave for it.

    Raises:
        CorruptArtifact: they are not what was published, or of other base weights.
    """
    if hashlib.sha256(data).hexdigest() != ref.sha256:
        raise CorruptArtifact(f"the delta of {ref.edit_id} is not the one that was published")
    delta = load_delta(data)
    if delta.base_fingerprint != base_fingerprint:
        raise CorruptArtifact(
            f"the delta of {ref.edit_id} was made for weights {delta.base_fingerprint}, not for "
            f"{base_fingerprint}"
        )
    return from_delta(delta)
