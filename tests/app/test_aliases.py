"""Aliases and the list of models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.app.generator import FakeGenerator
from tests.app.worker import Worker, edit_body
from tests.services import Api


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
