"""Lines that come at once are stored at once, and each process begins a chain a day."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from models_store.audit.check import check_log, lines_of
from models_store.audit.log import FOLDER, MOST_LINES, AuditLine, AuditLog, Event
from models_store.audit.reads import HOUR_SECONDS, ReadLog
from models_store.errors import Unavailable
from models_store.objects.store import ObjectStore
from models_store.schemas.records import Actor

WHO = Actor(key_id="key_1", scopes=("edits:read",))


class SlowStore:
    """A store whose creates take a while, and may fail."""

    def __init__(self, objects: ObjectStore, seconds: float) -> None:
        self._objects = objects
        self._seconds = seconds
        self.creates = 0
        self.fails = threading.Event()

    def create(self, path: str, data: bytes) -> bool:
        self.creates += 1
        time.sleep(self._seconds)
        if self.fails.is_set():
            raise Unavailable("the store is away", code="store_unavailable")
        return self._objects.create(path, data)

    def read(self, path: str) -> bytes:
        return self._objects.read(path)


@pytest.fixture
def slow(objects: ObjectStore) -> SlowStore:
    return SlowStore(objects, 0.05)


def log_of(slow: SlowStore) -> AuditLog:
    return AuditLog(slow, "one")  # type: ignore[arg-type]


def append(log: AuditLog, number: int) -> AuditLine:
    return log.append("edit.submitted", tenant="red", actor=WHO, id=f"edit_{number}")


def test_lines_that_come_while_others_are_stored_are_stored_together(
    slow: SlowStore, objects: ObjectStore
) -> None:
    log = log_of(slow)
    with ThreadPoolExecutor(100) as pool:
        lines = list(pool.map(lambda number: append(log, number), range(100)))
    assert sorted(line.n for line in lines) == list(range(100))
    assert [line.fields["id"] for line in lines] == [f"edit_{number}" for number in range(100)]
    assert slow.creates < 10
    checked = check_log(objects)
    assert (checked.lines, checked.chains, checked.problems) == (100, 1, ())


def test_a_failed_write_refuses_all_that_waited_for_it_and_none_of_the_next(
    slow: SlowStore, objects: ObjectStore
) -> None:
    log = log_of(slow)
    append(log, 0)
    slow.fails.set()
    with ThreadPoolExecutor(20) as pool:
        refused = [pool.submit(append, log, number) for number in range(1, 21)]
        errors = {type(one.exception()) for one in refused}
    assert errors == {Unavailable}
    slow.fails.clear()
    assert append(log, 21).n == 1
    assert [line.fields["id"] for line in lines_of(objects)] == ["edit_0", "edit_21"]
    assert check_log(objects).problems == ()


def test_one_object_holds_a_limited_number_of_lines(slow: SlowStore, objects: ObjectStore) -> None:
    log = log_of(slow)
    events = [Event("edit.submitted", "red", WHO, {"id": str(n)}) for n in range(MOST_LINES - 1)]
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: log.extend(events), range(4)))
    assert {len(lines) for lines in written} == {MOST_LINES - 1}
    assert len(objects.files(FOLDER)) == 4
    assert check_log(objects).problems == ()


def test_each_day_has_a_chain_of_its_own(objects: ObjectStore) -> None:
    now = [1_000_000.0]
    log = AuditLog(objects, "one", now=lambda: now[0])
    append(log, 0)
    now[0] += 24 * 3600
    first, second = append(log, 1), append(log, 2)
    assert (first.n, second.n) == (0, 1)
    assert first.writer == second.writer != "one"
    assert check_log(objects).problems == ()


def test_of_many_reads_in_an_hour_the_first_gets_a_line_and_the_others_a_count(
    objects: ObjectStore,
) -> None:
    now = [10 * HOUR_SECONDS]
    reads = ReadLog(AuditLog(objects), now=lambda: now[0])

    def read(id: str, actor: Actor = WHO) -> None:
        reads.log("delta.downloaded", tenant="red", actor=actor, id=id)

    def told() -> list[tuple[object, object, object]]:
        return [
            (line.key_id, line.fields["id"], line.fields.get("further_reads"))
            for line in lines_of(objects)
        ]

    for _ in range(50):
        read("edit_1")
    read("edit_2")
    read("edit_1", Actor(key_id="key_2"))
    first = [("key_1", "edit_1", None), ("key_1", "edit_2", None), ("key_2", "edit_1", None)]
    assert told() == first
    now[0] += HOUR_SECONDS
    read("edit_1")
    assert told() == [*first, ("key_1", "edit_1", 49), ("key_1", "edit_1", None)]
    reads.write_counts()
    assert len(told()) == 5
    assert check_log(objects).problems == ()


def test_counts_are_kept_while_the_log_cannot_be_written(
    slow: SlowStore, objects: ObjectStore
) -> None:
    reads = ReadLog(log_of(slow))
    for _ in range(3):
        reads.log("delta.downloaded", tenant="red", actor=WHO, id="edit_1")
    slow.fails.set()
    with pytest.raises(Unavailable):
        reads.write_counts()
    slow.fails.clear()
    reads.log("delta.downloaded", tenant="red", actor=WHO, id="edit_1")
    reads.write_counts()
    found = [line.fields.get("further_reads") for line in lines_of(objects)]
    assert found == [None, None, 2], "the first after the counts has a line again"
