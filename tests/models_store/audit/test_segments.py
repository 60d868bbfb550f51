"""Chains that have ended are moved into segments, and every head still tells what it covers."""

from __future__ import annotations

import time

import pytest

from models_store.audit.check import check_log, lines_of
from models_store.audit.heads import make_head
from models_store.audit.log import FOLDER, AuditLine, AuditLog, batch_path
from models_store.audit.segments import ENDED_SECONDS, SEGMENTS, seal, segment_path
from models_store.errors import CorruptArtifact
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Actor

LATER = time.time() + ENDED_SECONDS + 24 * 3600


def write(objects: ObjectStore, writer: str, count: int) -> list[AuditLine]:
    log = AuditLog(objects, writer)
    return [
        log.append("edit.submitted", tenant="red", actor=Actor(), id=str(n)) for n in range(count)
    ]


def problems(objects: ObjectStore, *heads: str) -> str:
    return "\n".join(check_log(objects, heads=heads).problems)


def test_ended_chains_become_one_object_and_stay_what_they_were(any_objects: ObjectStore) -> None:
    written = [*write(any_objects, "one", 3), *write(any_objects, "two", 2)]
    head = make_head(any_objects).hash
    assert seal(any_objects, LATER) == 5
    assert any_objects.files(FOLDER) == []
    assert [info.path for info in any_objects.files(SEGMENTS)] == [segment_path(0)]
    checked = check_log(any_objects, heads=[head])
    assert (checked.lines, checked.chains, checked.problems) == (5, 2, ())
    assert {line.hash for line in lines_of(any_objects)} == {line.hash for line in written}


def test_what_may_still_grow_stays(objects: ObjectStore) -> None:
    write(objects, "one", 2)
    assert seal(objects, time.time() + ENDED_SECONDS / 2) == 0
    assert len(objects.files(FOLDER)) == 2


def test_a_head_after_sealing_covers_segments_and_only_the_chains_beside_them(
    objects: ObjectStore,
) -> None:
    write(objects, "one", 3)
    before = make_head(objects)
    seal(objects, LATER)
    write(objects, "two", 1)
    after = make_head(objects, before)
    assert (after.tips.keys(), after.depth) == ({"two"}, 0)
    assert after.sealed is not None
    assert after.sealed[0] == 0
    seal(objects, LATER)
    last = make_head(objects, after)
    assert (dict(last.tips), last.sealed and last.sealed[0]) == ({}, 1)
    assert make_head(objects, last) == last == make_head(objects)
    assert problems(objects, before.hash, after.hash, last.hash) == ""


def test_a_head_between_a_segment_and_the_removal_of_its_objects_holds(
    objects: ObjectStore,
) -> None:
    write(objects, "one", 3)
    make_head(objects)
    kept = {info.path: objects.read(info.path) for info in objects.files(FOLDER)}
    seal(objects, LATER)
    for path, data in kept.items():
        objects.create(path, data)
    between = make_head(objects)
    assert (between.sealed and between.sealed[0], set(between.tips)) == (0, {"one"})
    assert seal(objects, LATER) == 3
    assert make_head(objects, between) == between
    write(objects, "two", 1)
    after = make_head(objects, between)
    assert set(after.tips) == {"two"}
    assert problems(objects, between.hash, after.hash) == ""


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_an_interrupted_move_is_finished_without_repeating_a_line(
    objects: ObjectStore, removed: int
) -> None:
    """It may stop after the segment, with any of the objects removed already."""
    write(objects, "one", 3)
    head = make_head(objects).hash
    kept = {info.path: objects.read(info.path) for info in objects.files(FOLDER)}
    seal(objects, LATER)
    for path in list(kept)[removed:]:
        objects.create(path, kept[path])
    assert problems(objects, head) == ""
    assert seal(objects, LATER) == 3 - removed
    assert len(objects.files(SEGMENTS)) == 1
    assert check_log(objects, heads=[head]).lines == 3


def test_a_chain_that_goes_on_after_it_was_sealed_is_whole(objects: ObjectStore) -> None:
    log = AuditLog(objects, "one")
    log.append("edit.submitted", tenant="red", actor=Actor())
    head = make_head(objects)
    seal(objects, LATER)
    log.append("edit.canceled", tenant="red", actor=Actor())
    later = make_head(objects, head)
    assert later.tips["one"].n == 1
    assert problems(objects, head.hash, later.hash) == ""
    seal(objects, LATER)
    assert problems(objects, head.hash, later.hash, make_head(objects, later).hash) == ""


def test_a_changed_object_is_not_sealed_and_is_found(objects: ObjectStore) -> None:
    write(objects, "one", 3)
    path = batch_path("one", 1)
    objects.put(path, objects.read(path).replace(b"red", b"bad"))
    assert seal(objects, LATER) == 2
    assert "chain one, line 1: it was changed" in problems(objects)


@pytest.mark.parametrize("what", ["flip", "remove", "cut", "exchange", "first"])
def test_every_change_of_a_segment_is_found(objects: ObjectStore, what: str) -> None:
    write(objects, "one", 3)
    seal(objects, LATER)
    write(objects, "two", 2)
    seal(objects, LATER)
    head = make_head(objects).hash
    path, data = segment_path(0), objects.read(segment_path(0))
    if what == "flip":
        objects.put(path, data.replace(b"red", b"bad", 1))
    elif what == "remove":
        objects.delete(path)
    elif what == "cut":
        objects.put(path, data.rpartition(b"\n")[0])
    elif what == "exchange":
        objects.put(path, objects.read(segment_path(1)))
    else:
        objects.put(path, data.replace(b'"number":0', b'"number":1', 1))
    assert "segment 0" in problems(objects, head) or "segment 1" in problems(objects, head)


def test_a_last_segment_that_was_removed_is_found_by_a_head(objects: ObjectStore) -> None:
    write(objects, "one", 3)
    seal(objects, LATER)
    head = make_head(objects)
    objects.delete(segment_path(0))
    assert f"segment 0: it is not the one that the head {head.hash}" in problems(objects)
    write(objects, "two", 1)
    assert make_head(objects, head).tips.keys() == {"two"}  # a check finds it, as above


def test_a_chain_that_vanishes_unsealed_stops_the_next_head(objects: ObjectStore) -> None:
    write(objects, "one", 1)
    write(objects, "two", 1)
    head = make_head(objects)
    objects.delete(batch_path("one", 0))
    with pytest.raises(CorruptArtifact, match="line 0 of the chain one was removed"):
        make_head(objects, head)


def test_heads_of_two_processes_that_know_different_ones_are_one_row(objects: ObjectStore) -> None:
    write(objects, "one", 1)
    first = make_head(objects)
    write(objects, "two", 1)
    second = make_head(objects, first)
    write(objects, "three", 1)
    third = make_head(objects, first)
    assert third.tips.keys() == {"one", "two", "three"}
    assert make_head(objects, second) == make_head(objects, first) == third
    assert problems(objects, first.hash, second.hash, third.hash) == ""
