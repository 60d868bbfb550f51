"""API keys as the store has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from app.domain.accounts import api_keys
from app.domain.accounts.api_keys import ALL_SCOPES, ApiKeys
from models_store.errors import Conflict, InvalidRequest, NotFound
from models_store.objects.store import ObjectStore


@pytest.fixture
def keys(objects: ObjectStore) -> ApiKeys:
    return ApiKeys(objects)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    now = time.time

    def move(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now() + seconds)

    return move


def status(keys: ApiKeys, secret: str) -> str | None:
    state = keys.find(secret)
    return None if state is None else state.status


def test_a_secret_has_256_bits_is_shown_once_and_never_stored(
    objects: ObjectStore, keys: ApiKeys
) -> None:
    secret, made = keys.create(name="ci", tenant="red", scopes=("edits:read",))
    _, second = keys.create(name="second")

    assert secret.startswith("sk-")
    assert len(secret) == len("sk-") + 43  # 32 bytes in base 64
    found = keys.find(secret)
    assert found is not None
    assert (found.key, found.key.tenant, found.key.scopes) == (made, "red", ("edits:read",))
    assert keys.find(secret + "x") is None
    for info in objects.files("api_keys"):
        assert secret not in info.path
        assert secret not in objects.read(info.path).decode()
    assert second.scopes == ALL_SCOPES
    assert [state.key for state in keys.all()] == [made, second]
    assert [state.key for state in keys.all("red")] == [made]


def test_a_revoked_key_stays_revoked_for_whoever_opens_the_store(
    objects: ObjectStore, keys: ApiKeys
) -> None:
    secret, made = keys.create(name="ci")
    for _ in range(2):
        keys.revoke(keys.get(made.id))

    assert status(ApiKeys(objects), secret) == "revoked"
    assert [state.status for state in ApiKeys(objects).all()] == ["revoked"]


def test_a_key_that_ended_a_month_ago_is_removed_and_stays_ended(
    objects: ObjectStore, keys: ApiKeys
) -> None:
    now = time.time()
    revoked, made = keys.create(name="revoked")
    keys.revoke(keys.get(made.id))
    expired, _ = keys.create(name="expired", expires_at=int(now) + 1)
    lasting, _ = keys.create(name="lasting")
    later, _ = keys.create(name="later", expires_at=int(now) + 365 * 24 * 3600)

    assert keys.remove_ended(now + 29 * 24 * 3600) == 0
    assert keys.remove_ended(now + 31 * 24 * 3600) == 2
    assert [state.key.name for state in keys.all()] == ["lasting", "later"]
    for known in (keys, ApiKeys(objects)):
        found = [status(known, secret) for secret in (revoked, expired, lasting, later)]
        assert found == [None, None, "active", "active"]


def test_a_tenant_has_a_limited_number_of_keys(
    keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MOST_KEYS", 2)
    _, first = keys.create(name="1", tenant="red")
    keys.create(name="2", tenant="red")
    with pytest.raises(Conflict) as refused:
        keys.create(name="3", tenant="red")
    assert refused.value.code == "too_many_api_keys"
    keys.create(name="3", tenant="blue")
    keys.revoke(keys.get(first.id))
    keys.create(name="3", tenant="red")  # the one that has ended makes room
    assert [state.key.name for state in keys.all("red")] == ["2", "3"]


def test_what_is_left_of_a_removed_key_is_no_key(objects: ObjectStore, keys: ApiKeys) -> None:
    secret, made = keys.create(name="ci")
    digest = keys.get(made.id).digest
    objects.create(f"api_keys/{digest}/used/3600", b"")
    objects.delete(f"api_keys/{digest}/key.json")  # its removal broke off here
    assert keys.all() == []
    assert status(keys, secret) is None
    keys.remove_ended(time.time() + 31 * 24 * 3600)
    assert objects.paths("api_keys") == []


def test_a_key_whose_record_was_taken_away_is_not_accepted(
    objects: ObjectStore, keys: ApiKeys
) -> None:
    secret, _ = keys.create(name="ci")
    assert status(keys, secret) == "active"
    objects.delete(objects.files("api_keys")[0].path)

    assert status(keys, secret) is None


def test_a_key_of_another_tenant_is_as_unknown_as_one_that_never_was(keys: ApiKeys) -> None:
    _, made = keys.create(name="ci", tenant="red")
    assert keys.get(made.id, "red").key == made
    for id in (made.id, "key_nobody"):
        with pytest.raises(NotFound, match=f"no such key: {id}"):
            keys.get(id, "blue")


def test_a_key_ends_when_it_is_said_to(keys: ApiKeys, later: Callable[[float], None]) -> None:
    secret, _ = keys.create(name="ci", expires_at=int(time.time()) + 60)
    assert status(keys, secret) == "active"
    later(61)
    assert status(keys, secret) == "expired"


def test_a_rotated_key_has_the_rights_and_the_life_of_the_old_one_which_ends_after_the_overlap(
    keys: ApiKeys, later: Callable[[float], None]
) -> None:
    old, made = keys.create(
        name="ci", tenant="red", scopes=("edits:read",), expires_at=int(time.time()) + 1000
    )
    later(500)
    new, second = keys.rotate(keys.get(made.id), overlap_seconds=100, made_by="key_x")

    assert (second.name, second.tenant, second.scopes) == ("ci", "red", ("edits:read",))
    assert (second.replaces, second.made_by) == (made.id, "key_x")
    assert second.expires_at is not None
    assert abs(second.expires_at - (time.time() + 1000)) < 5
    assert (status(keys, old), status(keys, new)) == ("active", "active")
    later(602)
    assert (status(keys, old), status(keys, new)) == ("expired", "active")


def test_what_has_ended_or_was_replaced_is_not_rotated_and_no_key_comes_of_the_try(
    keys: ApiKeys,
) -> None:
    _, first = keys.create(name="a")
    _, second = keys.create(name="b")
    stale = keys.get(first.id)
    keys.rotate(keys.get(first.id), overlap_seconds=60)
    keys.revoke(keys.get(second.id))
    for state in (keys.get(first.id), stale, keys.get(second.id)):
        with pytest.raises(Conflict) as refused:
            keys.rotate(state)
        assert refused.value.code == "key_ended"

    # `stale` had not been replaced yet when it was read: what came of it is revoked at once.
    active = [state.key.id for state in keys.all() if state.status == "active"]
    assert len(active) == 2
    assert first.id in active


def test_the_last_use_is_known_to_the_hour_and_costs_one_object_a_key(
    objects: ObjectStore, keys: ApiKeys, later: Callable[[float], None]
) -> None:
    _, made = keys.create(name="ci")
    assert keys.get(made.id).last_used_at is None
    for seconds in (0, 1, 7200):
        later(seconds)
        keys.note_use(keys.get(made.id))
        used = keys.get(made.id).last_used_at
        assert used is not None
        assert 0 <= time.time() - used < 3600
    assert len(objects.files("api_keys")) == 2


def test_a_key_made_when_scopes_had_other_names_is_still_good(objects: ObjectStore) -> None:
    secret, made = ApiKeys(objects).create(name="old")
    path = objects.files("api_keys")[0].path
    stored = {
        name: value
        for name, value in json.loads(objects.read(path)).items()
        if name not in ("sha256", "expires_at", "made_by", "replaces")
    }
    stored["scopes"] = ["read", "write", "generate", "operate"]
    objects.put(path, json.dumps(stored).encode())

    found = ApiKeys(objects).find(secret)
    assert found is not None
    assert (found.key.id, found.status) == (made.id, "active")
    assert found.key.scopes == ("edits:read", "edits:write", "models:generate", "admin")


def test_a_damaged_key_is_not_accepted_and_does_not_hide_the_others(
    objects: ObjectStore, keys: ApiKeys
) -> None:
    keys.create(name="damaged")
    objects.put(objects.files("api_keys")[0].path, b"{")
    _, good = keys.create(name="good")

    assert [state.key for state in ApiKeys(objects).all()] == [good]


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"scopes": ()}, "/scopes"),
        ({"scopes": ("edits:read", "edits:read")}, "/scopes"),
        ({"scopes": ("edits:read", "fly")}, "/scopes/1"),
        ({"scopes": ("read",)}, "/scopes/0"),
        ({"name": " "}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"name": "a" * 101}, "/name"),
        ({"expires_at": 1}, "/expires_at"),
        *(({"tenant": tenant}, "/tenant") for tenant in ("_", "a/b", "", "../x")),
    ],
)
def test_keys_are_for_real_scopes_and_tenants(
    keys: ApiKeys, wrong: dict[str, object], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        keys.create(**{"name": "x", **wrong})  # type: ignore[arg-type]
    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert keys.all() == []
