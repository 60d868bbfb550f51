"""Records that a later version of Scalpel wrote, while both run on one store."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from app.loops.keeper.sweep import sweep
from models_store.objects.checksum import with_checksum, without_checksum
from models_store.objects.store import ObjectStore
from tests.app.support.worker import Worker
from tests.security.target import Crew, Names
from tests.support.services import Api

_READ = ("edits", "exports", "behaviors", "aliases", "models", "base_models")


@pytest.fixture
def names(api: Api) -> Names:
    return Crew(Worker(api.store, api.services.live.client)).fill(api.http)


def responses(api: Api, names: Names) -> dict[str, httpx.Response]:
    """All lists, and each thing by itself, as a process shows them that has just begun."""
    api.services._store = None
    paths = [f"/v1/{kind}" for kind in _READ]
    paths += [f"/v1/edits/{id}" for id in names.edits]
    paths += [f"/v1/edits/{id}/events" for id in names.edits]
    paths += [f"/v1/aliases/{name}" for name in names.aliases]
    return {path: api.http.get(path) for path in paths}


def answers(api: Api, names: Names) -> dict[str, Any]:
    found = responses(api, names)
    assert {answer.status_code for answer in found.values()} == {200}
    return {path: answer.json() for path, answer in found.items()}


def rewrite(objects: ObjectStore, path: str, **changes: Any) -> None:
    record = json.loads(without_checksum(path, objects.read(path)))
    objects.put(path, with_checksum(path, json.dumps({**record, **changes}).encode()))


def records(objects: ObjectStore) -> list[str]:
    kept = ("audit", "audit_heads", "policies")
    paths = [path for folder in objects.children("") for path in objects.paths(folder)]
    return [path for path in paths if path.endswith(".json") and path.partition("/")[0] not in kept]


def code_of(answer: httpx.Response) -> str:
    """Of an error, in the form of OpenAI's API too."""
    body = answer.json()
    return str(body.get("error", body)["code"])


def is_record(objects: ObjectStore, path: str) -> bool:
    """Rather than an artifact."""
    data = objects.read(path)
    return data[:1] == b"{" and b'"writer"' in data


def test_fields_of_a_later_version_are_ignored_wherever_they_are(api: Api, names: Names) -> None:
    objects, before = api.store.objects, answers(api, names)
    changed = 0
    for path in records(objects):
        if not is_record(objects, path):
            continue
        record = json.loads(without_checksum(path, objects.read(path)))
        later: dict[str, Any] = {"of_a_later_version": {"any": ["thing"]}}
        for name, value in record.items():
            if isinstance(value, dict) and name in ("settings", "actor", "behavior", "error"):
                later[name] = {**value, "of_a_later_version": 1}
        rewrite(objects, path, **later)
        changed += 1
    assert changed > 20
    assert answers(api, names) == before


def test_a_record_of_a_later_major_version_is_not_misread(api: Api, names: Names) -> None:
    objects, edit = api.store.objects, names.edits[0]
    ends = (f"{edit}/result.json", f"{edit}/summary.json")
    paths = [path for path in objects.paths("edits") if path.endswith(ends)]
    assert len(paths) == 2
    for changes in ({"schema_version": 2}, {"schema_version": 2, "status": ["another", "form"]}):
        for path in paths:
            rewrite(objects, path, **changes)
        api.services._store = None
        answer = api.http.get(f"/v1/edits/{edit}")
        assert (answer.status_code, answer.json()["code"]) == (503, "newer_record")
        assert "Retry-After" in answer.headers
        assert api.http.get("/v1/edits").status_code == 503, "nothing is missing from a list"
        assert api.http.get(f"/v1/edits/{names.edits[1]}").status_code == 200
        sweep(api.store.work, lambda: False)


def test_no_record_of_a_later_major_version_is_left_out_of_an_answer(
    api: Api, names: Names
) -> None:
    """Each in turn: what is answered is whole, and all else is refused by name."""
    objects, before, refused = api.store.objects, answers(api, names), 0
    ahead = [path for path in records(objects) if is_record(objects, path)]
    assert len(ahead) > 20
    for path in ahead:
        data = objects.read(path)
        rewrite(objects, path, schema_version=2)
        for asked, answer in responses(api, names).items():
            if answer.status_code == 200:
                assert answer.json() == before[asked], (path, asked)
            else:
                assert (answer.status_code, code_of(answer)) == (503, "newer_record"), path
                refused += 1
        objects.put(path, data)
    assert refused > 5  # what has ended is in a summary too
    assert answers(api, names) == before
