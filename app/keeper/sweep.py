"""The daily sweep: mend what crashes left behind and nobody would ever look at again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from models_store.records import Kind, Marker
from models_store.work import FOLDERS, Place, WorkStore

_STALE_SECONDS = 24 * 3600
"""Younger things may belong to somebody who is still at it."""


def sweep(store: WorkStore, stopped: Callable[[], bool], now: float | None = None) -> Counter[str]:
    """Go once through all work.

    - Work without a result, whose marker is lost, gets it again.
    - A marker is removed when its work never came to be, or ended, or was deleted.
    - What deleted work left behind is erased.
    - Temporary files of writers that died are removed.

    Args:
        stopped: asked between two pieces of work; the sweep then ends early.
        now: Unix seconds.

    Returns:
        How many of each were mended: `marked`, `unmarked`, `erased`, `temporary`.

    Raises:
        Unavailable: the store is away.
    """
    now = time.time() if now is None else now
    done: Counter[str] = Counter()
    markers = {info.path: info for info in store.objects.files("open")}
    for place, names in _all_work(store):
        if stopped():
            return done
        marker = markers.pop(place.marker, None)
        deleted = "deleted.json" in names
        open_ = "request.json" in names and "result.json" not in names and not deleted
        if open_ and marker is None:
            store.objects.create_record(place.marker, Marker(kind=place.kind))
            done["marked"] += 1
        if marker is not None and not open_ and now - marker.modified_at > _STALE_SECONDS:
            store.objects.delete(place.marker)
            done["unmarked"] += 1
        if deleted and names - {"request.json", "result.json", "deleted.json"}:
            store.erase(place)
            done["erased"] += 1
    # What is left here has no folder at all: its POST was cut short before anything else.
    for path, marker in markers.items():
        if now - marker.modified_at > _STALE_SECONDS:
            store.objects.delete(path)
            done["unmarked"] += 1
    done["temporary"] = store.objects.remove_temporary_files(now - _STALE_SECONDS)
    return +done


def _all_work(store: WorkStore) -> Iterator[tuple[Place, set[str]]]:
    """Every piece of work with the names of its files, bucket by bucket."""
    kinds: list[Kind] = list(FOLDERS)
    for kind in kinds:
        for tenant in store.objects.children(FOLDERS[kind]):
            for bucket in store.objects.children(f"{FOLDERS[kind]}/{tenant}"):
                folder = f"{FOLDERS[kind]}/{tenant}/{bucket}"
                names: dict[str, set[str]] = {}
                for info in store.objects.files(folder):
                    id, _, name = info.path.removeprefix(f"{folder}/").partition("/")
                    names.setdefault(id, set()).add(name)
                for id, found in names.items():
                    yield Place(kind, tenant, id), found
