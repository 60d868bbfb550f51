"""The base models and edits that a generator has loaded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from models_store.objects.store import ObjectStore
from models_store.schemas.catalogue import BaseModelSource
from models_store.schemas.records import DeltaRef, Variant
from models_store.settings import Settings
from models_store.work.store import WorkStore
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.runtime.pinned import load_pinned, outline_pinned, published_terms
from workers.surgery.terms import Mixture, Term

_MOST_BASES = 4
_MOST_EDITS = 1024
_MOST_EDIT_BYTES = 2 * 2**30
"""An edit that was made here is a few hundred kilobytes, an imported one up to a gigabyte."""

T = TypeVar("T")


class _Recent(Generic[T]):
    """The most recently used values, each made once even if several threads need it at a time."""

    def __init__(
        self, most: int, most_bytes: float = float("inf"), size: Callable[[T], int] = lambda _: 0
    ) -> None:
        """Args:
        most_bytes: that all may have together, by `size`; the newest is kept in any case.
        """
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._bytes = 0
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
                self._bytes += self._size(thing)
                while len(self._things) > self._most or (
                    self._bytes > self._most_bytes and len(self._things) > 1
                ):
                    oldest, dropped = self._things.popitem(last=False)
                    self._bytes -= self._size(dropped)
                    self._making.pop(oldest, None)
                return thing

    def keys(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._things)


class Shelf:
    """Base models by id and edits by digest, loaded on first use."""

    def __init__(self, settings: Settings, objects: ObjectStore) -> None:
        self._settings = settings
        self._works = WorkStore(objects)
        self._bases: _Recent[SidePath] = _Recent(_MOST_BASES)
        self._outlines: _Recent[LoadedModel] = _Recent(_MOST_BASES)
        self._edits: _Recent[list[Term]] = _Recent(
            _MOST_EDITS, _MOST_EDIT_BYTES, lambda terms: sum(term.nbytes for term in terms)
        )

    @property
    def kv_bytes(self) -> int:
        """Memory for the keys and values of a batch, in bytes."""
        return self._settings.kv_cache_bytes

    @property
    def base_models(self) -> tuple[str, ...]:
        """Ids of the loaded base models."""
        return tuple(sorted({key.partition("@")[0] for key in self._bases.keys()}))  # noqa: SIM118

    def base(self, id: str, fingerprint: str, source: BaseModelSource) -> SidePath:
        """The base model with its side path.

        Raises:
            BaseModelUnavailable: its files are missing, broken or not those that were registered.
        """
        return self._bases.get(
            f"{id}@{fingerprint}",
            lambda: SidePath(load_pinned(id, fingerprint, source, self._settings)),
        )

    def outline(self, id: str, fingerprint: str, source: BaseModelSource) -> LoadedModel:
        """The base model without its weights, for an engine that has them on another server.

        Raises:
            BaseModelUnavailable: as `base`.
        """
        return self._outlines.get(
            f"{id}@{fingerprint}", lambda: outline_pinned(id, fingerprint, source, self._settings)
        )

    def mixture(self, variant: Variant) -> Mixture:
        """The edits of a variant with their strengths.

        Raises:
            NotFound: a delta is gone from the store.
            CorruptArtifact: it is not what was published, or is of another base model.
        """
        return [(self._edit(ref, variant.base_fingerprint), ref.strength) for ref in variant.terms]

    def _edit(self, ref: DeltaRef, base_fingerprint: str) -> list[Term]:
        return self._edits.get(
            f"{ref.sha256}@{base_fingerprint}",
            lambda: published_terms(self._works.read_artifact(ref.path), ref, base_fingerprint),
        )
