"""The audit log: written whole or not at all, and nothing in it changes unnoticed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models_store.audit.check import check_log, lines_of
from models_store.audit.heads import HEADS, find_head, make_head
from models_store.audit.log import AuditLine, AuditLog, batch_path
from models_store.errors import CorruptArtifact, InvalidRequest, Unavailable
from models_store.objects.store import ObjectStore, open_store
from models_store.schemas.records import Actor
from models_store.settings import Settings

WHO = Actor(key_id="key_1", scopes=("edits:write",))


def write(log: AuditLog, count: int) -> list[AuditLine]:
    return [
        log.append("edit.submitted", tenant="red", actor=WHO, id=f"edit_{n}") for n in range(count)
    ]


def problems(objects: ObjectStore, *heads: str) -> str:
    return "\n".join(check_log(objects, heads=heads).problems)


def test_a_line_has_all_that_is_told_and_follows_the_one_before(any_objects: ObjectStore) -> None:
    log = AuditLog(any_objects, "one")
    first, second = write(log, 2)
    stored = json.loads(any_objects.read("audit/one/000000000001.json"))
    assert stored["event"] == "edit.submitted"
    assert (stored["tenant"], stored["key_id"], stored["n"]) == ("red", "key_1", 1)
    assert stored["fields"] == {"id": "edit_1"}
    assert stored["previous"] == first.hash != second.hash == stored["hash"]
    checked = check_log(any_objects)
    assert (checked.lines, checked.chains, checked.problems) == (2, 1, ())


def test_threads_append_to_one_chain_without_a_gap(any_objects: ObjectStore) -> None:
    log = AuditLog(any_objects)
    with ThreadPoolExecutor(8) as pool:
        lines = list(pool.map(lambda _: write(log, 5), range(8)))
    assert sorted(line.n for own in lines for line in own) == list(range(40))
    checked = check_log(any_objects)
    assert (checked.lines, checked.chains, checked.problems) == (40, 1, ())


_PROCESS = """
import sys
from models_store.audit.log import AuditLog
from models_store.objects.store import open_store
from models_store.schemas.records import Actor
from models_store.settings import Settings
log = AuditLog(open_store(Settings()))
for n in range(20):
    log.append("edit.submitted", tenant="red", actor=Actor(), id=str(n))
"""


def test_two_processes_have_a_chain_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALPEL_DATA", str(tmp_path))
    both = [subprocess.Popen([sys.executable, "-c", _PROCESS]) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    objects = open_store(Settings())
    checked = check_log(objects)
    assert (checked.lines, checked.chains, checked.problems) == (40, 2, ())
    assert make_head(objects).tips.keys() == {line.writer for line in lines_of(objects)}


def test_what_cannot_be_logged_is_refused_and_the_chain_goes_on_when_it_can(
    tmp_path: Path,
) -> None:
    objects = open_store(Settings(data=tmp_path))
    log = AuditLog(objects)
    write(log, 1)
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(Unavailable) as refused:
        write(log, 1)
    assert refused.value.code == "store_unavailable"
    (tmp_path / "away").rename(tmp_path / "store")
    write(log, 1)
    checked = check_log(objects)
    assert (checked.lines, checked.chains, checked.problems) == (2, 1, ())


def test_a_line_that_was_stored_although_the_store_said_no_is_gone_on_from(
    objects: ObjectStore, tmp_path: Path
) -> None:
    log = AuditLog(objects, "one")
    write(log, 1)
    # What the store holds after it kept a line and failed to say so.
    lost = log.append("edit.canceled", tenant="red", actor=WHO)
    forgetful = AuditLog(objects, "one")
    forgetful._n, forgetful._previous = 1, lost.previous
    forgetful._tried = {lost.hash}
    line = forgetful.append("edit.deleted", tenant="red", actor=WHO)
    assert (line.n, line.previous, line.writer) == (2, lost.hash, "one")
    assert problems(objects) == ""


def test_a_line_planted_where_the_next_belongs_stops_nothing_and_is_found(
    objects: ObjectStore,
) -> None:
    log = AuditLog(objects, "one")
    write(log, 2)
    objects.create(batch_path("one", 2), b'{"event": "nothing to see here"}')
    line = log.append("edit.deleted", tenant="red", actor=WHO)
    assert line.writer != "one"
    assert "chain one, line 2: it cannot be read" in problems(objects)


def test_long_and_broken_texts_do_not_get_into_a_line_whole(objects: ObjectStore) -> None:
    log = AuditLog(objects)
    line = log.append("alias.put", tenant="red", actor=WHO, name="x" * 5_000, other="\ud800")
    assert len(str(line.fields["name"])) == 512
    assert problems(objects) == ""


def changed_stores() -> st.SearchStrategy[tuple[str, str, int, int]]:
    """What is done, to which chain, at which line, and a number to do it with."""
    kinds = ["delete", "flip", "edit", "swap", "insert", "cut", "drop chain", "stray", "copy"]
    return st.tuples(
        st.sampled_from(kinds),
        st.sampled_from(["one", "two"]),
        st.integers(0, 5),
        st.integers(0, 10_000),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a log of two chains of six lines, and its head."""
    folder = tmp_path_factory.mktemp("audit")
    objects = open_store(Settings(data=folder))
    for writer in ("one", "two"):
        write(AuditLog(objects, writer), 6)
    head = make_head(objects).hash
    assert problems(objects, head) == ""
    return folder, head


@given(changed_stores())
@hypothesis_settings(max_examples=150, deadline=None)
def test_every_change_of_a_log_is_found_by_a_head(
    whole: tuple[Path, str], change: tuple[str, str, int, int]
) -> None:
    source, head = whole
    what, writer, n, number = change
    folder = source.with_name(f"{source.name}-changed")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    chain = folder / "store" / "audit" / writer
    path = chain / f"{n:012}.json"
    other = chain / f"{(n + 1 + number % 5) % 6:012}.json"
    if what == "delete":
        path.unlink()
    elif what == "flip":
        data = bytearray(path.read_bytes())
        data[number % len(data)] ^= 1 << number % 8
        path.write_bytes(bytes(data))
    elif what == "edit":  # forged with care: the hash of the line itself is right
        line = AuditLine.model_validate_json(path.read_bytes())
        forged = line.model_copy(update={"tenant": "blue"})
        path.write_bytes(forged.model_copy(update={"hash": forged.computed_hash}).to_bytes())
    elif what == "swap":
        data = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif what == "insert":  # all later ones move up by one
        for later in range(5, n - 1, -1):
            (chain / f"{later:012}.json").rename(chain / f"{later + 1:012}.json")
        shutil.copy(other if other.exists() else chain / f"{n + 1:012}.json", path)
    elif what == "cut":
        for later in range(n, 6):
            (chain / f"{later:012}.json").unlink()
    elif what == "drop chain":
        shutil.rmtree(chain)
    elif what == "stray":
        (chain / f"{number}.txt").write_text("{}")
    else:
        shutil.copy(path, chain / f"{6 + number:012}.json")
    found = problems(open_store(Settings(data=folder)), head)
    assert f"{writer}" in found, (change, found)
    if what in ("delete", "cut"):
        assert f"chain {writer}, line" in found


@given(st.integers(0, 5), st.sampled_from(["one", "two"]))
@hypothesis_settings(max_examples=12, deadline=None)
def test_a_chain_written_anew_from_some_line_on_is_found_by_a_head(
    whole: tuple[Path, str], n: int, writer: str
) -> None:
    """The most that somebody can do who may write to the store: every hash in it is right."""
    source, head = whole
    folder = source.with_name(f"{source.name}-forged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    chain = folder / "store" / "audit" / writer
    kept = [AuditLine.model_validate_json((chain / f"{i:012}.json").read_bytes()) for i in range(6)]
    previous = kept[n].previous
    for line in kept[n:]:
        tenant = "blue" if line.n == n else line.tenant
        forged = line.model_copy(update={"tenant": tenant, "previous": previous})
        forged = forged.model_copy(update={"hash": forged.computed_hash})
        (chain / f"{line.n:012}.json").write_bytes(forged.to_bytes())
        previous = forged.hash
    shutil.rmtree(folder / "store" / HEADS)
    objects = open_store(Settings(data=folder))
    assert problems(objects) == ""  # nothing in the store itself tells
    assert "there is no record of the head" in problems(objects, head)
    shutil.copytree(source / "store" / HEADS, folder / "store" / HEADS)
    assert f"chain {writer}, line 5: it is not the one that the head" in problems(objects, head)


def test_a_log_that_has_grown_still_begins_with_an_older_head(any_objects: ObjectStore) -> None:
    one, two = AuditLog(any_objects, "one"), AuditLog(any_objects, "two")
    write(one, 3)
    first = make_head(any_objects)
    assert make_head(any_objects) == first  # nothing was added
    write(one, 2)
    write(two, 1)
    second = make_head(any_objects)
    assert second.hash != first.hash
    assert dict(second.tips).keys() == {"one", "two"}
    write(two, 4)
    assert problems(any_objects, first.hash, second.hash) == ""
    assert find_head(any_objects, first.hash).tips == first.tips
    any_objects.delete(batch_path("two", 0))
    assert problems(any_objects, first.hash) != ""  # inside a chain, any check finds it
    for n in range(1, 5):
        any_objects.delete(batch_path("two", n))
    assert "chain two, lines 0 to 0: the head" in problems(any_objects, second.hash)
    with pytest.raises(CorruptArtifact, match="line 0 of the chain two was removed"):
        make_head(any_objects)


def test_records_of_heads_cannot_be_changed_or_removed_unnoticed(objects: ObjectStore) -> None:
    log = AuditLog(objects, "one")
    heads = []
    for _ in range(3):
        write(log, 1)
        heads.append(make_head(objects).hash)
    path = next(info.path for info in objects.files(HEADS) if heads[1] in info.path)
    data = objects.read(path)
    objects.put(path, data.replace(b'"depth":1', b'"depth":2'))
    assert f"the record of the head {heads[1]} was changed" in problems(objects, heads[2])
    objects.delete(path)
    assert f"there is no record of the head {heads[1]}" in problems(objects, heads[2])
    with pytest.raises(InvalidRequest, match="64 hexadecimal digits"):
        find_head(objects, "../../etc/passwd")


def test_long_rows_of_heads_begin_anew(objects: ObjectStore) -> None:
    log = AuditLog(objects, "one")
    heads = []
    for _ in range(5):
        write(log, 1)
        heads.append(make_head(objects, most_depth=2))
    assert [head.depth for head in heads] == [0, 1, 2, 0, 1]
    assert problems(objects, *(head.hash for head in heads)) == ""


def test_lines_come_in_order_of_time_over_all_chains(objects: ObjectStore) -> None:
    one, two = AuditLog(objects, "one"), AuditLog(objects, "two")
    written = [*write(one, 1), *write(two, 1), *write(one, 1)]
    found = list(lines_of(objects))
    assert sorted(line.at for line in found) == [line.at for line in found]
    assert {line.hash for line in found} == {line.hash for line in written}
