"""The daily sweep over a real store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ulid import ULID

from app.domain.edits.idempotency import KEPT_SECONDS, IdempotencyKey, Sender
from app.domain.variants.names import SUFFIXES
from app.domain.webhooks.deliveries import Deliveries, DeliveryProgress, Try
from app.domain.webhooks.webhooks import Webhooks
from app.loops.keeper.sweep import sweep
from models_store.audit.log import NOBODY
from models_store.net.addresses import AddressRule
from models_store.schemas.records import Artifact, AttemptEnd, Deleted, Marker, Result
from models_store.settings import Settings
from models_store.work.reservations import Reservations
from models_store.work.store import Place, WorkStore
from tests.app.keeper.conftest import World

TOMORROW = time.time() + 2 * 24 * 3600


def never() -> bool:
    return False


def markers(store: WorkStore) -> list[str]:
    return [place.id for place in store.open_work()]


def test_a_sound_store_is_left_as_it_is(world: World, store: WorkStore) -> None:
    open_, done = world.submit(), world.submit("other")
    store.finish(done, Result(status="canceled", attempt=0))
    before = store.objects.files("")
    assert sweep(store, never, TOMORROW) == {}
    assert store.objects.files("") == before
    assert markers(store) == [open_.id]


def test_open_work_gets_a_lost_marker_again(world: World, store: WorkStore) -> None:
    place = world.submit()
    store.objects.delete(place.marker)
    assert sweep(store, never) == {"marked": 1}
    assert markers(store) == [place.id]


def test_markers_of_what_never_came_to_be_go_after_a_day(store: WorkStore) -> None:
    unborn = Place("edit", "default", "edit_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    textless = Place("edit", "default", "edit_01BX5ZZKBKACTAV9WEVGEMMVRZ")
    for place in (unborn, textless):
        store.objects.create_record(place.marker, Marker(kind="edit"))
    store.objects.create(unborn.texts, b"{}\n")
    store.objects.put(unborn.source("delta.safetensors"), b"sent, but never acknowledged")
    assert sweep(store, never) == {}, "their POST may still be under way"
    assert sweep(store, never, TOMORROW) == {"unmarked": 2, "unborn": 2}
    assert markers(store) == []
    assert store.objects.files("edits") == [], "its texts are nobody's any more"


def test_markers_of_finished_work_go(world: World, store: WorkStore) -> None:
    place = world.submit()
    store.finish(place, Result(status="canceled", attempt=0))
    store.objects.create_record(place.marker, Marker(kind="edit"))
    assert sweep(store, never, TOMORROW) == {"unmarked": 1}


def test_a_deletion_that_was_cut_short_is_finished(world: World, store: WorkStore) -> None:
    place = world.submit()
    world.claim(place, leased=False)
    store.finish(place, Result(status="canceled", attempt=1))
    store.objects.create_record(f"{place.folder}/deleted.json", Deleted())
    assert sweep(store, never) == {"erased": 1}
    left = {
        info.path.removeprefix(f"{place.folder}/") for info in store.objects.files(place.folder)
    }
    assert left == {"deleted.json", "summary.json"}
    assert sweep(store, never) == {}


def test_only_old_temporary_files_are_removed(
    world: World, store: WorkStore, settings: Settings
) -> None:
    place = world.submit()
    folder = Path(settings.data) / "store" / place.folder
    old, young, other = folder / "delta#1", folder / "report.json#12", folder / "notes#x"
    for file in (old, young, other):
        file.write_bytes(b"half")
    week_ago = time.time() - 7 * 24 * 3600
    for file in (old, other):
        os.utime(file, (week_ago, week_ago))
    assert sweep(store, never) == {"temporary": 1}
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def left(store: WorkStore, place: Place) -> set[str]:
    """What the attempts at some work have left, beside their records."""
    files = store.objects.files(f"{place.folder}/attempts")
    names = (info.path.removeprefix(f"{place.folder}/attempts/") for info in files)
    return {name for name in names if not name.endswith(".json")}


def test_files_of_attempts_that_are_no_results_go(world: World, store: WorkStore) -> None:
    place = world.submit()
    for number, outcome in ((1, "lost"), (2, "succeeded")):
        world.claim(place, leased=False)
        for name in ("delta", "stray"):
            store.objects.put(f"{place.attempt(number)}/{name}.safetensors", b"1")
        path = f"{place.attempt(number)}/delta.safetensors"
        delta = Artifact(name="delta", path=path, sha256="0", bytes=1)
        named = (delta,) if outcome == "succeeded" else ()
        end = AttemptEnd(attempt=number, outcome=outcome, artifacts=named)  # type: ignore[arg-type]
        store.publish(place, end)
    assert sweep(store, never) == {}, "their writer may still be at it"
    assert sweep(store, never, TOMORROW) == {"unnamed": 3}
    assert left(store, place) == {"2/delta.safetensors"}


def test_files_of_open_work_stay(world: World, store: WorkStore) -> None:
    place = world.submit()
    world.claim(place, leased=False)
    store.objects.put(f"{place.attempt(1)}/delta.safetensors", b"1")
    assert sweep(store, never, TOMORROW) == {}
    assert left(store, place) == {"1/delta.safetensors"}


def test_keys_and_suffixes_of_what_never_came_to_be_go(world: World, store: WorkStore) -> None:
    suffixes = Reservations(store, "edit", SUFFIXES, "suffix_taken")
    born, unborn = world.submit().id, "edit_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    for id in (born, unborn):
        IdempotencyKey(store.objects, "default", id, "POST /v1/edits", "0").claim("edit", id)
        suffixes.take("default", f"pico:{id.lower()}", id)
    IdempotencyKey(store.objects, "default", "b", "POST /v1/behaviors", "0").claim("behavior", "b")
    assert sweep(store, never) == {}
    assert sweep(store, never, TOMORROW) == {"keys": 2, "suffixes": 1}
    assert len(store.objects.files("idempotency")) == 1
    assert suffixes.holder("default", f"pico:{born.lower()}") is not None
    suffixes.take("default", f"pico:{unborn.lower()}", born)


def test_keys_that_are_too_old_to_count_go(world: World, store: WorkStore) -> None:
    id = world.submit().id
    IdempotencyKey(store.objects, "default", "k", "POST /v1/edits", "0").claim("edit", id)
    assert sweep(store, never, time.time() + KEPT_SECONDS - 60) == {"sealed": 1}
    assert sweep(store, never, time.time() + KEPT_SECONDS + 60) == {"keys": 1}


@pytest.mark.parametrize("looks", [0, 1])
def test_a_sweep_ends_when_it_is_told_to(world: World, store: WorkStore, looks: int) -> None:
    for _ in range(3):
        store.objects.delete(world.submit().marker)
    asked = iter([False] * looks + [True] * 10)
    assert sweep(store, lambda: next(asked)).total() == looks


def test_deliveries_of_old_edits_and_of_removed_webhooks_go(store: WorkStore) -> None:
    deliveries = Deliveries(store.objects)
    webhooks = Webhooks(store.objects, AddressRule(), store.audit)
    sender, url = Sender("default", NOBODY), "https://hooks.example.com/"
    kept, removed = (webhooks.add(sender, url)[0].id for _ in range(2))
    days = {days: f"edit_{ULID.from_timestamp(time.time() - days * 86_400)}" for days in (29, 32)}
    for webhook in (kept, removed):
        for edit in days.values():
            one = Try(
                number=1,
                event_id=1,
                event_type="edit.created",
                outcome="delivered",
                progress=DeliveryProgress(settled_through=1),
            )
            assert deliveries.append("default", webhook, edit, one)
    webhooks.delete("default", removed)
    assert sweep(store, never) == {"deliveries": 3}
    assert [one.edit_id for one in deliveries.walk("default", kept)] == [days[29]]
    assert list(deliveries.walk("default", removed)) == []
