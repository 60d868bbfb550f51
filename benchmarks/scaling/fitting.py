"""Time of reading texts and of fitting a method on them, as an editor does it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.claims import seconds
from models_store.objects.store import open_store
from models_store.schemas.method_base import FixedMethod
from models_store.settings import Settings
from models_store.work.store import SHARED_TENANT
from workers.evaluation.data.splits import Sides, Splits
from workers.making.cache import Cache
from workers.making.fitting.material import Material
from workers.making.fitting.source import Source
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.fitted import FittedEdit

HELD_OUT = 2
"""Texts that are read beside those that are fitted on, one a side."""


class FitTimes(NamedTuple):
    """Seconds of the two halves of a fit."""

    reading: float
    fit: float


class Fitter:
    """Fits methods on one model; what is read of the model alone is kept in a store."""

    def __init__(self, base: LoadedModel, folder: Path) -> None:
        """Args:
        folder: where the store goes.
        """
        self._model = EditedModel(base)
        store = open_store(Settings(data=folder, default_base_model=False))
        self._cache = Cache(store, SHARED_TENANT, self._model)

    def time(self, texts: Sides, method: FixedMethod) -> FitTimes:
        """Read all texts, then fit the method and its probe."""
        material: list[Material] = []
        fitted: list[FittedEdit] = []

        def read() -> None:
            material.append(Material.read(self._source(texts), [method], self._cache))

        with self._model.active():
            reading = seconds(read)
        fit = seconds(lambda: fitted.append(material[0].fitted(method)))
        assert fitted[0].terms
        return FitTimes(reading, fit)

    def _source(self, texts: Sides) -> Source:
        few = Sides(texts.undesired[:1], texts.desired[:1])
        splits = Splits(
            fit=texts,
            scorer=few,
            heldout=few,
            validate=(),
            test=(),
            prompts_made=False,
            dropped=Counter(),
            prompt_clusters=0,
            near_duplicates=0,
            clusters_broken=False,
            seeds={},
        )
        return Source(self._model, splits, chat=False, seed=0)
