"""What a generator holds: base models, and the terms of edits as they were last asked for."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from models_store.catalogue import BaseModelSource
from models_store.delta import load_delta
from models_store.errors import BaseModelUnavailable, CorruptArtifact
from models_store.objects import ObjectStore
from models_store.records import DeltaRef, Variant
from models_store.settings import Settings
from models_store.work import WorkStore
from workers.runtime.base_models import materialise
from workers.runtime.deltas import from_delta
from workers.runtime.loading import BaseModel, load_base
from workers.surgery.terms import Mixture, Term

_MOST_BASES = 4
_MOST_EDITS = 1024
"""An edit is a few hundred kilobytes."""

T = TypeVar("T")


class _Recent(Generic[T]):
    """The things used last, each made once however many ask for it at the same time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def get(self, key: str, make: Callable[[], T]) -> T:
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._things:
                    self._things.move_to_end(key)
                    return self._things[key]
            thing = make()
            with self._lock:
                self._things[key] = thing
                while len(self._things) > self._most:
                    oldest, _ = self._things.popitem(last=False)
                    self._making.pop(oldest, None)
                return thing

    def keys(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._things)


class Shelf:
    """Base models by id and edits by digest, loaded when first asked for."""

    def __init__(self, settings: Settings, objects: ObjectStore) -> None:
        self._settings = settings
        self._works = WorkStore(objects)
        self._bases: _Recent[BaseModel] = _Recent(_MOST_BASES)
        self._edits: _Recent[list[Term]] = _Recent(_MOST_EDITS)

    @property
    def base_models(self) -> tuple[str, ...]:
        """Ids of the base models that are loaded."""
        return tuple(sorted({key.partition("@")[0] for key in self._bases.keys()}))  # noqa: SIM118

    def base(self, id: str, fingerprint: str, source: BaseModelSource) -> BaseModel:
        """The base model, loaded now if it is not yet.

        Raises:
            BaseModelUnavailable: its files are missing or broken, or are not the ones that the
                catalogue pinned.
        """
        return self._bases.get(f"{id}@{fingerprint}", lambda: self._load(id, fingerprint, source))

    def _load(self, id: str, fingerprint: str, source: BaseModelSource) -> BaseModel:
        base = load_base(
            materialise(source, self._settings.cache),
            device=self._settings.device,
            dtype=self._settings.dtype,
            threads=self._settings.threads,
        )
        if base.fingerprint != fingerprint:
            raise BaseModelUnavailable(
                f"the weights of {id} on this machine ({base.fingerprint}) are not the ones it "
                f"was registered with ({fingerprint})"
            )
        return base

    def mixture(self, variant: Variant) -> Mixture:
        """The edits of a variant with their strengths; each is fetched once and checked.

        Raises:
            NotFound: the delta is gone from the store.
            CorruptArtifact: it is not the one that was published, or is of other base weights.
        """
        return [
            (self._edits.get(ref.sha256, lambda ref=ref: self._fetch(ref, variant)), ref.strength)  # type: ignore[misc]
            for ref in variant.terms
        ]

    def _fetch(self, ref: DeltaRef, variant: Variant) -> list[Term]:
        data = self._works.read_artifact(ref.path)
        if hashlib.sha256(data).hexdigest() != ref.sha256.removeprefix("sha256:"):
            raise CorruptArtifact(f"the delta of {ref.edit_id} is not the one that was published")
        delta = load_delta(data)
        if delta.base_fingerprint != variant.base_fingerprint:
            raise CorruptArtifact(
                f"the delta of {ref.edit_id} was made for weights {delta.base_fingerprint}, not "
                f"for {variant.base_fingerprint}"
            )
        return from_delta(delta)
