"""Behaviours of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from models_store.presets import preset_names
from tests.app.support.worker import texts
from tests.support.services import Api

JSONL = {"Content-Type": "application/jsonl"}


def body(**changes: Any) -> dict[str, Any]:
    return {"name": "tone", "undesired": texts("bad"), "desired": texts("good"), **changes}


def lines(*extra: Any) -> str:
    items: list[Any] = [{"text": text, "label": "undesired"} for text in texts("bad")]
    items += [{"text": text, "label": "desired"} for text in texts("good")]
    return "\n".join(json.dumps(item) for item in [*items, *extra]) + "\n"


def test_an_uploaded_behavior_can_be_read_back(api: Api) -> None:
    prompts = [{"text": "Tell me", "template": "t1", "split": "test"}]
    answer = api.http.post("/v1/behaviors", json=body(prompts=prompts, chat=True))
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"].startswith("beh_")
    assert answer.headers["Location"] == f"/v1/behaviors/{made['id']}"
    assert made["counts"] == {"undesired": 20, "desired": 20, "prompts": 1}
    read = api.http.get(f"/v1/behaviors/{made['id']}").json()
    assert {name: read[name] for name in made} == made
    assert [item["text"] for item in read["undesired"]] == texts("bad")
    assert read["prompts"] == [{**prompts[0], "undesired_answer": None}]


def test_json_lines_are_an_upload_too(api: Api) -> None:
    pair = {"prompt": "Hi", "completion": "Hello", "label": "desired", "pair_id": "p1"}
    data = lines(pair, {"text": "Once", "label": "prompt"}) + "\n\n"
    answer = api.http.post("/v1/behaviors", params={"name": "mine"}, content=data, headers=JSONL)
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == "mine"
    assert answer.json()["counts"] == {"undesired": 20, "desired": 21, "prompts": 1}
    read = api.http.get(answer.headers["Location"]).json()
    assert read["desired"][-1] == {"prompt": "Hi", "completion": "Hello", "pair_id": "p1"}


@pytest.mark.parametrize(
    ("line", "status", "pointer"),
    [
        ({"text": "a"}, 422, "/40/label"),
        ({"text": "a", "label": "good"}, 422, "/40/label"),
        ({"text": "a", "label": ["desired"]}, 422, "/40/label"),
        ({"text": "a", "label": {}}, 422, "/40/label"),
        ("just a text", 422, "/40/label"),
        ({"text": 5, "label": "desired"}, 422, "/40/text"),
        ({"text": "a", "label": "desired", "x": 1}, 422, "/40/x"),
        ({"prompt": "a", "label": "undesired"}, 422, "/40/completion"),
    ],
)
def test_a_wrong_line_is_pointed_to(api: Api, line: Any, status: int, pointer: str) -> None:
    answer = api.http.post("/v1/behaviors", content=lines(line), headers=JSONL)
    assert answer.status_code == status
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert "line 41" in error["detail"]


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ('{"text": "\\ud800", "label": "desired"}', "/40/text"),
        ('{"text": "a", "label": "desired", "weight": 1e999}', "/40/weight"),
    ],
)
def test_a_line_that_no_text_and_no_number_can_hold_is_pointed_to(
    api: Api, line: str, pointer: str
) -> None:
    answer = api.http.post("/v1/behaviors", content=lines() + line, headers=JSONL)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert answer.json()["detail"].startswith(f"line 41: {pointer.rpartition('/')[2]}: ")


def test_a_line_may_not_be_nested_without_end(api: Api) -> None:
    line = '{"label": "desired", "text": ' + "[" * 500 + "]" * 500 + "}"
    answer = api.http.post("/v1/behaviors", content=lines() + line, headers=JSONL)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["detail"]


def test_a_line_that_is_not_json_is_malformed(api: Api) -> None:
    answer = api.http.post("/v1/behaviors", content=lines() + "{", headers=JSONL)
    assert answer.status_code == 400
    assert answer.json()["code"] == "malformed_json"
    assert "line 41" in answer.json()["detail"]


def test_of_a_hundred_wrong_lines_each_is_pointed_to(api: Api) -> None:
    answer = api.http.post("/v1/behaviors", content=b"[]\n" * 10_000, headers=JSONL)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [
        f"/{number}/label" for number in range(100)
    ]


def test_lines_sent_again_with_their_key_are_the_same_behavior(api: Api) -> None:
    headers = {**JSONL, "Idempotency-Key": "lines-1"}
    first = api.http.post("/v1/behaviors", content=lines(), headers=headers)
    again = api.http.post("/v1/behaviors", content=iter([lines().encode()]), headers=headers)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    other = api.http.post("/v1/behaviors", content=lines() + "\n", headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"undesired": []}, "/undesired"),
        ({"desired": texts("bad")}, "/desired"),
        ({"name": ""}, "/name"),
        ({"scorers": ["oracle"]}, "/scorers/0"),
        ({"desired": 7}, "/desired"),
        ({"extra": 7}, "/extra"),
    ],
)
def test_a_behavior_that_cannot_be_used_is_refused(
    api: Api, changes: dict[str, Any], pointer: str
) -> None:
    answer = api.http.post("/v1/behaviors", json=body(**changes))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_another_type_of_body_is_not_taken(api: Api) -> None:
    answer = api.http.post("/v1/behaviors", content="a,b", headers={"Content-Type": "text/csv"})
    assert answer.status_code == 415


def test_repeats_make_one_behavior(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    first = api.http.post("/v1/behaviors", json=body(), headers=headers)
    again = api.http.post("/v1/behaviors", json=body(), headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    other = api.http.post("/v1/behaviors", json=body(name="x"), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_behaviors_are_listed_without_texts_and_can_be_forgotten(api: Api) -> None:
    ids = [api.http.post("/v1/behaviors", json=body(name=name)).json()["id"] for name in "abc"]
    page = api.http.get("/v1/behaviors", params={"limit": 2, "preset": False}).json()
    assert [one["name"] for one in page["data"]] == ["c", "b"]
    assert page["has_more"] is True
    assert "undesired" not in page["data"][0]
    answer = api.http.delete(f"/v1/behaviors/{ids[1]}")
    assert answer.json() == {"id": ids[1], "object": "behavior", "deleted": True}
    assert api.http.get(f"/v1/behaviors/{ids[1]}").status_code == 404
    assert api.http.delete(f"/v1/behaviors/{ids[1]}").status_code == 404
    names = [one["name"] for one in api.http.get("/v1/behaviors?preset=false").json()["data"]]
    assert names == ["c", "a"]
    stored = [info.path for info in api.store.objects.files(f"behaviors/default/{ids[1]}")]
    assert not any(path.endswith(".jsonl") for path in stored)


def test_presets_are_listed_before_your_own_and_marked(api: Api) -> None:
    own = api.http.post("/v1/behaviors", json=body()).json()["id"]
    listed: list[tuple[str | None, str, bool]] = []
    after = ""
    while True:
        page = api.http.get(f"/v1/behaviors?limit=4{after}").json()
        listed += [(one["id"], one["name"], one["preset"]) for one in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    presets = [(None, name, True) for name in sorted(preset_names(), reverse=True)]
    assert listed == [*presets, (own, "tone", False)]
    alone = api.http.get("/v1/behaviors?preset=true").json()["data"]
    assert [one["name"] for one in alone] == [name for _, name, _ in presets]
    assert alone[0]["counts"]["undesired"] >= 300
    assert "undesired" not in alone[0]


def preferences(form: Callable[[int], dict[str, Any]]) -> str:
    return "\n".join(json.dumps(form(number)) for number in range(16))


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.mark.parametrize(
    ("form", "desired"),
    [
        (
            lambda n: {"prompt": "Hi?", "chosen": f"good {n}", "rejected": f"bad {n}"},
            {"prompt": "Hi?", "completion": "good 3"},
        ),
        (
            lambda n: {
                "prompt": said("user", "Hi?"),
                "chosen": said("assistant", f"good {n}"),
                "rejected": said("assistant", f"bad {n}"),
            },
            {"messages": [*said("user", "Hi?"), *said("assistant", "good 3")]},
        ),
        (
            lambda n: {
                "input": {"messages": said("user", "Hi?"), "tools": []},
                "preferred_output": said("assistant", f"good {n}"),
                "non_preferred_output": said("assistant", f"bad {n}"),
            },
            {"messages": [*said("user", "Hi?"), *said("assistant", "good 3")]},
        ),
        (lambda n: {"chosen": f"good {n}", "rejected": f"bad {n}"}, {"text": "good 3"}),
    ],
)
def test_lines_of_preferences_are_an_upload_too(
    api: Api, form: Callable[[int], dict[str, Any]], desired: dict[str, Any]
) -> None:
    answer = api.http.post("/v1/behaviors", content=preferences(form), headers=JSONL)
    assert answer.status_code == 201, answer.text
    read = api.http.get(answer.headers["Location"]).json()
    pair_id = read["desired"][3].pop("pair_id")
    assert read["desired"][3] == desired
    assert read["undesired"][3]["pair_id"] == pair_id
    together = read["desired"][4]["pair_id"] == pair_id
    assert together == ("text" not in desired), "responses to one prompt share a split"


@pytest.mark.parametrize(
    ("line", "pointer", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "/0/rejected", "is required"),
        ({"prompt": "a", "chosen": "b", "reject": "c"}, "/0/reject", "did you mean rejected?"),
        ({"prompt": "a", "chosen": 5, "rejected": "c"}, "/0/chosen", "must be"),
        (
            {"prompt": said("user", "a") * 100, "chosen": "b", "rejected": "c"},
            "/0/messages",
            "at most 100",
        ),
        ({"chosen": said("user", "a"), "rejected": "c"}, "/0/chosen", "the assistant's"),
        (
            {"input": {"messages": said("user", "a")}, "preferred_output": said("assistant", "b")},
            "/0/non_preferred_output",
            "is required",
        ),
        (
            {
                "input": {"messages": said("user", "a"), "tools": [{}]},
                "preferred_output": said("assistant", "b"),
                "non_preferred_output": said("assistant", "c"),
            },
            "/0/input/tools",
            "not supported",
        ),
    ],
)
def test_what_is_wrong_with_a_preference_is_pointed_to(
    api: Api, line: dict[str, Any], pointer: str, said: str
) -> None:
    answer = api.http.post("/v1/behaviors", content=json.dumps(line), headers=JSONL)
    assert answer.status_code == 422
    details = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert said in details[pointer]


def test_a_preset_can_be_read_by_its_name(api: Api) -> None:
    preset = api.http.get("/v1/behaviors/formality").json()
    assert (preset["id"], preset["name"], preset["created_at"]) == (None, "formality", None)
    assert len(preset["undesired"]) >= 200
    assert api.http.delete("/v1/behaviors/formality").status_code == 404
    for nobody in ("sloth", "beh_" + "0" * 26, "_neutral"):
        assert api.http.get(f"/v1/behaviors/{nobody}").status_code == 404


def test_a_preset_cannot_be_forgotten(api: Api) -> None:
    answer = api.http.delete("/v1/behaviors/negativity")
    assert answer.status_code == 404
    assert "preset" in answer.json()["detail"]
