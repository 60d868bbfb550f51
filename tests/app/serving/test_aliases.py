"""Aliases and the list of models."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.app.support.generator import FakeGenerator
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api


@pytest.fixture
def edits(api: Api, worker: Worker) -> list[str]:
    """Two edits that succeeded; the first has the suffix `kinder`."""
    ids = []
    for suffix in ("kinder", None):
        id = api.http.post("/v1/edits", json=edit_body(suffix=suffix)).json()["id"]
        worker.succeed(id)
        ids.append(id)
    return ids


def ask(api: Api, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    answer = api.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


def test_an_alias_is_switched_and_keeps_its_history(
    api: Api, edits: list[str], generator: FakeGenerator
) -> None:
    first, second = edits
    answer = api.http.put("/v1/aliases/support-bot", json={"variant": "pico:kinder@0.5"})
    assert answer.status_code == 200
    assert answer.json()["variant"] == f"pico:{first}@0.5"
    assert ask(api, "support-bot") == f"I am pico:{first}@0.5"
    api.http.put("/v1/aliases/support-bot", json={"variant": f"pico:{first}+{second}@-1"})
    assert ask(api, "support-bot") == f"I am pico:{first}+{second}@-1"
    alias = api.http.get("/v1/aliases/support-bot").json()
    assert (alias["object"], alias["name"], alias["version"]) == ("alias", "support-bot", 2)
    assert alias["base_model"] == "pico"
    assert [(one["version"], one["variant"]) for one in alias["history"]] == [
        (2, f"pico:{first}+{second}@-1"),
        (1, f"pico:{first}@0.5"),
    ]


def asked_by(api: Api, model: str, **fields: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    answer = api.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    variant: str = answer.headers["Scalpel-Variant"]
    assert answer.json()["choices"][0]["message"]["content"] == f"I am {variant}"
    return variant


def test_a_part_of_the_requests_goes_to_another_variant_the_same_user_always_to_the_same(
    api: Api, edits: list[str], generator: FakeGenerator
) -> None:
    old, new = f"pico:{edits[0]}", f"pico:{edits[1]}"

    def split(weight: float) -> dict[str, str]:
        body = {"variant": old, "shares": [{"variant": new, "weight": weight}]}
        answer = api.http.put("/v1/aliases/bot", json=body)
        assert answer.json()["shares"] == [{"variant": new, "weight": weight}]
        return {f"u{n}": asked_by(api, "bot", user=f"u{n}") for n in range(60)}

    few, more = split(0.2), split(0.5)
    assert split(0.2) == few
    assert 2 <= list(few.values()).count(new) <= 26
    assert 14 <= list(more.values()).count(new) <= 46
    # Who had the new one keeps it when its share grows.
    assert {user for user in few if few[user] == new} <= {u for u in more if more[u] == new}
    assert {asked_by(api, "bot") for _ in range(40)} == {old, new}
    assert asked_by(api, "bot", safety_identifier="u3") == few["u3"]
    # Files are made of the variant that is not on trial.
    export = api.http.post("/v1/exports", json={"variant": "bot", "format": "native"}).json()
    assert export["variant"] == old


def test_what_a_share_needs_is_kept(api: Api, edits: list[str]) -> None:
    shares = [{"variant": f"pico:{edits[1]}", "weight": 0.1}]
    api.http.put("/v1/aliases/bot", json={"variant": "pico", "shares": shares})
    assert api.http.delete(f"/v1/edits/{edits[1]}").json()["code"] == "in_use"


@pytest.mark.parametrize(
    ("shares", "pointer"),
    [
        ([{"variant": "pico", "weight": 1}], "/shares/0/weight"),
        ([{"variant": "pico", "weight": 0.5}, {"variant": "pico", "weight": 0.5}], "/shares"),
        ([{"variant": "pico:none", "weight": 0.5}], "/shares/0/variant"),
    ],
)
def test_shares_that_make_no_sense_are_pointed_to(
    api: Api, edits: list[str], shares: list[dict[str, object]], pointer: str
) -> None:
    answer = api.http.put("/v1/aliases/bot", json={"variant": "pico", "shares": shares})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert api.http.get("/v1/aliases/bot").status_code == 404


def test_an_alias_goes_back_to_what_it_stood_for(api: Api, edits: list[str]) -> None:
    def put(variant: str, *shares: dict[str, object]) -> None:
        body = {"variant": variant, "shares": list(shares)}
        assert api.http.put("/v1/aliases/bot", json=body).status_code == 200

    def back(**body: int) -> dict[str, object]:
        answer = api.http.post("/v1/aliases/bot/rollback", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    share = {"variant": f"pico:{edits[1]}", "weight": 0.25}
    put("pico", share)
    put(f"pico:{edits[0]}@0.5")
    put(f"pico:{edits[0]}@0.5")
    first = back()
    assert (first["version"], first["variant"], first["shares"]) == (4, "pico", [share])
    assert back()["variant"] == f"pico:{edits[0]}@0.5"
    assert back(version=1)["shares"] == [share]
    refused = api.http.post("/v1/aliases/bot/rollback", json={"version": 99})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/version"
    assert api.http.post("/v1/aliases/nobody/rollback", json={}).status_code == 404


def test_while_an_alias_is_switched_every_request_gets_the_old_one_or_the_new_one(
    api: Api, edits: list[str], generator: FakeGenerator
) -> None:
    variants = [f"pico:{edits[0]}", f"pico:{edits[1]}@0.5"]
    api.http.put("/v1/aliases/bot", json={"variant": variants[0]})
    seen: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.append(asked_by(api, "bot"))

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        number = 0
        while (number < 20 or not set(variants) <= set(seen)) and not any(
            r.done() for r in readers
        ):
            number += 1
            api.http.put("/v1/aliases/bot", json={"variant": variants[number % 2]})
        ended.set()
    for reader in readers:
        reader.result()
    assert set(seen) == set(variants)


def test_models_tell_what_they_are_made_of(api: Api, edits: list[str]) -> None:
    api.http.put("/v1/aliases/bot", json={"variant": "pico:kinder@0.5"})
    models = {one["id"]: one["provenance"] for one in api.http.get("/v1/models").json()["data"]}
    assert (models["pico"]["type"], models["pico"]["edits"]) == ("base_model", [])
    assert models["pico"]["base_fingerprint"]
    alias = models["bot"]
    assert (alias["type"], alias["variant"]) == ("alias", f"pico:{edits[0]}@0.5")
    (edit,) = models[f"pico:{edits[0]}"]["edits"]
    assert alias["edits"] == [{**edit, "strength": 0.5}]
    assert len(edit["delta_sha256"]) == 64
    one = api.http.get(f"/v1/models/pico:{edits[0]}@-1").json()
    assert one["provenance"]["edits"] == [{**edit, "strength": -1.0}]


def test_an_alias_that_is_gone_is_not_found_and_remembers(api: Api, edits: list[str]) -> None:
    api.http.put("/v1/aliases/bot", json={"variant": "pico"})
    assert api.http.delete("/v1/aliases/bot").json() == {
        "name": "bot",
        "object": "alias",
        "deleted": True,
    }
    assert api.http.get("/v1/aliases/bot").status_code == 404
    assert api.http.delete("/v1/aliases/bot").status_code == 404
    assert api.http.get("/v1/models/bot").status_code == 404
    api.http.put("/v1/aliases/bot", json={"variant": "pico"})
    history = api.http.get("/v1/aliases/bot").json()["history"]
    assert [one["variant"] for one in history] == ["pico", None, "pico"]


def test_an_alias_stays_with_its_edit_when_the_suffix_changes_hands(
    api: Api, worker: Worker, edits: list[str]
) -> None:
    api.http.put("/v1/aliases/bot", json={"variant": "pico:kinder"})
    again = {"variant": "bot"}
    assert api.http.put("/v1/aliases/other", json=again).json()["variant"] == f"pico:{edits[0]}"


def test_names_that_no_alias_can_have_are_refused(api: Api, worker: Worker) -> None:
    taken = api.http.put("/v1/aliases/pico", json={"variant": "pico"})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    for name in ("Bot", "-bot", "a" * 64, "a:b"):
        assert api.http.put(f"/v1/aliases/{name}", json={"variant": "pico"}).status_code == 422
        assert api.http.get(f"/v1/aliases/{name}").status_code == 404
    unknown = api.http.put("/v1/aliases/bot", json={"variant": "pico:nobody"})
    assert unknown.status_code == 422
    assert unknown.json()["errors"][0]["pointer"] == "/variant"


def test_a_base_model_goes_before_an_alias(
    api: Api, worker: Worker, edits: list[str], generator: FakeGenerator
) -> None:
    api.http.put("/v1/aliases/later", json={"variant": f"pico:{edits[0]}"})
    worker.register("later")
    assert ask(api, "later") == "I am later"


def test_aliases_are_listed_by_name(api: Api, worker: Worker) -> None:
    for name in ("b", "a", "c"):
        api.http.put(f"/v1/aliases/{name}", json={"variant": "pico"})
    api.http.delete("/v1/aliases/b")
    page = api.http.get("/v1/aliases", params={"order": "asc"}).json()
    assert [one["name"] for one in page["data"]] == ["a", "c"]
    assert (page["first_id"], page["last_id"]) == ("a", "c")


def test_switching_at_the_same_time_loses_nothing(api: Api, edits: list[str]) -> None:
    def put(number: int) -> int:
        body = {"variant": f"pico:{edits[0]}@0.{number + 1}"}
        return api.http.put("/v1/aliases/bot", json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(put, range(4))) == [200] * 4
    assert len(api.http.get("/v1/aliases/bot").json()["history"]) == 4


def test_models_are_bases_aliases_and_edits_that_succeeded(
    api: Api, worker: Worker, edits: list[str]
) -> None:
    api.http.post("/v1/edits", json=edit_body())
    api.http.put("/v1/aliases/bot", json={"variant": "pico"})
    api.http.post("/v1/base_models", json={"id": "new", "source": {"type": "folder", "path": "/w"}})
    models = api.http.get("/v1/models").json()
    assert models["object"] == "list"
    assert [one["id"] for one in models["data"]] == [
        "pico",
        "bot",
        f"pico:{edits[1]}",
        f"pico:{edits[0]}",
    ]
    assert {one["object"] for one in models["data"]} == {"model"}
    for one in models["data"]:
        assert api.http.get(f"/v1/models/{one['id']}").json() == one
    for name in ("pico", "bot", "pico:kinder@0.5", f"pico:{edits[0]}+{edits[1]}@-2"):
        answer = api.http.get(f"/v1/models/{name}")
        assert (answer.status_code, answer.json()["id"]) == (200, name)
    answer = api.http.get("/v1/models/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    api.http.delete(f"/v1/edits/{edits[1]}")
    assert f"pico:{edits[1]}" not in [
        one["id"] for one in api.http.get("/v1/models").json()["data"]
    ]


def test_a_long_history_is_shown_in_pages(api: Api, worker: Worker) -> None:
    variants = []
    for n in range(2):
        edit = api.http.post("/v1/edits", json=edit_body(seed=n)).json()["id"]
        worker.succeed(edit)
        variants.append(f"pico:{edit}")
    for n in range(25):
        body = {"variant": variants[n % 2]}
        assert api.http.put("/v1/aliases/often", json=body).status_code == 200
    shown = api.http.get("/v1/aliases/often").json()
    assert [version["version"] for version in shown["history"]] == [*range(25, 5, -1)]
    seen: list[int] = []
    page: dict[str, Any] = {"has_more": True, "last_id": None}
    while page["has_more"]:
        after = {} if page["last_id"] is None else {"after": page["last_id"]}
        page = api.http.get("/v1/aliases/often/history", params={"limit": 10, **after}).json()
        seen += [version["version"] for version in page["data"]]
    assert seen == [*range(25, 0, -1)]
    oldest = api.http.get("/v1/aliases/often/history?order=asc&limit=2&after=3").json()
    assert [version["version"] for version in oldest["data"]] == [4, 5]
    assert api.http.get("/v1/aliases/nobody/history").status_code == 404
    assert api.http.delete("/v1/aliases/often").status_code == 200
    newest = api.http.get("/v1/aliases/often/history?limit=1").json()["data"]
    assert (newest[0]["version"], newest[0]["variant"]) == (26, None)
