"""What is accepted as an edit, what is refused and why, and what a repeated request does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from models_store.schemas.behaviors import from_lines
from models_store.work.store import Place
from tests.app.support.worker import Worker, edit_body, texts
from tests.support.services import Api


def refusal(api: Api, **changes: Any) -> tuple[str, str]:
    """Pointer and detail of the first wrong field of an edit with these changes."""
    answer = api.http.post("/v1/edits", json=edit_body(**changes))
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["code"] == "invalid_request"
    assert problem["errors"]
    return problem["errors"][0]["pointer"], problem["errors"][0]["detail"]


def behavior(**changes: Any) -> dict[str, Any]:
    return {"name": "tone", "undesired": texts("bad"), "desired": texts("good"), **changes}


def test_an_unknown_base_model_is_answered_with_the_known_ones(api: Api, worker: Worker) -> None:
    pointer, detail = refusal(api, base_model="gpt-9")
    assert pointer == "/base_model"
    assert "pico" in detail


def test_an_unknown_behavior_is_answered_with_the_presets(api: Api, worker: Worker) -> None:
    for name in ("sloth", "beh_" + "0" * 26, "../x"):
        pointer, detail = refusal(api, behavior=name)
        assert pointer == "/behavior"
        assert "negativity" in detail


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"base_model": 5}, "/base_model"),
        ({"base_model": None}, "/base_model"),
        ({"behavior": 5}, "/behavior"),
        ({"behavior": ["a"]}, "/behavior"),
        ({"behavior": {"name": "x"}}, "/behavior/undesired"),
        ({"behavior": behavior(undesired="bad")}, "/behavior/undesired"),
        ({"behavior": behavior(undesired=[*texts("bad"), 7])}, "/behavior/undesired/20"),
        ({"behavior": behavior(undesired=[*texts("bad"), ""])}, "/behavior/undesired/20"),
        ({"behavior": behavior(desired=[{"text": "a", "x": 1}])}, "/behavior/desired/0/x"),
        ({"behavior": behavior(desired=[{"prompt": "a"}])}, "/behavior/desired/0/completion"),
        ({"behavior": behavior(scorers=["tfidf", "oracle"])}, "/behavior/scorers/1"),
        ({"behavior": behavior(max_new_tokens=0)}, "/behavior/max_new_tokens"),
        ({"method": "biass"}, "/method"),
        ({"method": {"type": "magic"}}, "/method"),
        ({"method": {"type": "bias", "ridge": "much"}}, "/method/ridge"),
        ({"method": {"type": "bias", "layers": [0, 2]}}, "/method/layers/1"),
        ({"method": {"type": "natural", "layers": [2, 0]}}, "/method/layers/0"),
        ({"method": {"type": "natural_bias", "layers": [0, 1, 7]}}, "/method/layers/2"),
        ({"method": {"type": "conditional", "layers": [9]}}, "/method/layers/0"),
        ({"method": {"type": "conditional"}}, "/behavior"),
        ({"method": {"type": "conditional"}, "behavior": "compliance"}, "/preserve"),
        ({"method": {"type": "bias", "alpha": 1}}, "/method/alpha"),
        ({"method": {"type": "model_surgery", "fraction": 0}}, "/method/fraction"),
        ({"method": {"type": "model_surgery", "alpha": 1e308}}, "/method/alpha"),
        (
            {"method": {"type": "model_surgery", "probe": "converged", "epochs": 3}},
            "/method/epochs",
        ),
        ({"method": {"type": "model_surgery", "weight_decay": 0}}, "/method/weight_decay"),
        ({"limits": {"max_kl": -1}}, "/limits/max_kl"),
        ({"limits": {"max_kl": "0.1"}}, "/limits/max_kl"),
        ({"seed": 1.5}, "/seed"),
        ({"seed": "1"}, "/seed"),
        ({"seed": True}, "/seed"),
        ({"seed": -1}, "/seed"),
        ({"suffix": "Not A Suffix"}, "/suffix"),
        ({"metadata": {"a": 1}}, "/metadata/a"),
        ({"metadata": {"a~/b": 1}}, "/metadata/a~0~1b"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "/metadata"),
        ({"preserve": [5]}, "/preserve/0"),
        ({"preserve": ["a"] * 2001}, "/preserve"),
        ({"on_top_of": "pico:nobody"}, "/on_top_of"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_a_wrong_field_is_pointed_to(
    api: Api, worker: Worker, changes: dict[str, Any], pointer: str
) -> None:
    found, _ = refusal(api, **changes)
    assert found == pointer or found == f"{pointer}/text"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"seed": NaN}', "/seed"),
        ('{"limits": {"max_kl": -1e999}}', "/limits/max_kl"),
        ('{"seed": ' + "9" * 5_000 + "}", "/seed"),
        ('{"behavior": {"desired": ["a", "\\uDFFF"]}}', "/behavior/desired/1"),
        ('{"metadata": {"\\ud800": "a"}}', "/metadata"),
    ],
)
def test_what_json_allows_but_nothing_can_hold_is_pointed_to(
    api: Api, body: str, pointer: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.http.post("/v1/edits", content=body, headers=headers)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert answer.json()["detail"] == error["detail"]
    assert pointer.replace("/", ".").lstrip(".") in error["detail"]


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_body_may_not_be_nested_without_end(api: Api, depth: int) -> None:
    body = '{"metadata": ' + "[" * depth + "]" * depth + "}"
    headers = {"Content-Type": "application/json"}
    answer = api.http.post("/v1/edits", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
    assert "nested too deeply" in answer.json()["detail"]


def test_whole_surrogate_pairs_are_characters(api: Api, worker: Worker) -> None:
    body = json.dumps(edit_body(metadata={"mood": "\U0001f600"}))
    assert "\\ud83d" in body
    headers = {"Content-Type": "application/json"}
    answer = api.http.post("/v1/edits", content=body, headers=headers)
    assert answer.status_code == 201
    assert answer.json()["metadata"] == {"mood": "\U0001f600"}


def test_two_factors_of_one_method_are_refused(api: Api, worker: Worker) -> None:
    method = {"type": "model_surgery", "alpha": 1, "relative_alpha": 1}
    pointer, detail = refusal(api, method=method)
    assert pointer == "/method"
    assert "not both" in detail


def test_one_sided_small_and_identical_sets_are_refused_with_the_reason(
    api: Api, worker: Worker
) -> None:
    pointer, detail = refusal(api, behavior=behavior(desired=[]))
    assert pointer == "/behavior/desired"
    assert detail.startswith("desired: 0 different texts")
    pointer, detail = refusal(api, behavior=behavior(undesired=["the same"] * 500))
    assert pointer == "/behavior/undesired"
    assert "1 different texts (500 given)" in detail
    pointer, detail = refusal(api, behavior=behavior(desired=texts("bad")))
    assert pointer == "/behavior/desired"
    assert "same texts" in detail
    pointer, detail = refusal(api, behavior=behavior(desired=[*texts("good"), texts("bad")[3]]))
    assert "both undesired and desired" in detail


def test_too_many_texts_and_too_long_ones_are_refused(api: Api, worker: Worker) -> None:
    many = [f"text {n}" for n in range(10_001)]
    assert refusal(api, behavior=behavior(undesired=many))[0] == "/behavior/undesired"
    pointer, detail = refusal(api, behavior=behavior(undesired=many[:9_990]))
    assert pointer == "/behavior/undesired"
    assert "10010 texts together" in detail
    pointer, detail = refusal(api, behavior=behavior(undesired=[*texts("bad"), "a" * 1_000_000]))
    assert pointer.startswith("/behavior/undesired/20")
    assert "20000 characters" in detail


def test_numbers_that_are_none_are_pointed_to(api: Api, worker: Worker) -> None:
    for literal in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = json.dumps(edit_body(limits={"max_kl": 0.125})).replace("0.125", literal)
        headers = {"Content-Type": "application/json"}
        answer = api.http.post("/v1/edits", content=body, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_request"
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/limits/max_kl"]


def test_all_wrong_fields_are_told_at_once(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/edits", json={"seed": "x", "suffix": "?"})
    pointers = {one["pointer"] for one in answer.json()["errors"]}
    assert pointers == {"/base_model", "/behavior", "/seed", "/suffix"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": 1,}', b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x']
)
def test_what_is_not_json_is_malformed(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.http.post("/v1/edits", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "malformed_json"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_does_not_say_it_is_json_is_not_taken_for_it(
    api: Api, kind: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = api.http.post("/v1/edits", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


def test_texts_are_stored_as_they_were_given_but_for_repeats(api: Api, worker: Worker) -> None:
    given = behavior(
        undesired=[*texts("bad"), "  BAD text number 0 about the bad thing"],
        desired=[
            *texts("good"),
            {"prompt": "Hi", "completion": "Hello", "pair_id": "p1"},
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        ],
        prompts=["Once upon", {"text": "Say", "template": "t1", "split": "test"}],
        chat=True,
        scorers=["vader"],
    )
    body = edit_body(behavior=given, preserve=["Keep this."])
    id = api.http.post("/v1/edits", json=body).json()["id"]
    place = Place("edit", "default", id)
    stored, preserved = from_lines(api.store.objects.read(place.texts))
    assert len(stored.undesired) == 20
    assert len(stored.desired) == 22
    assert stored.desired[20].model_dump() == given["desired"][20]
    assert [prompt.text for prompt in stored.prompts] == ["Once upon", "Say"]
    assert (stored.chat, stored.scorers) == (True, ("vader",))
    assert [item.model_dump()["text"] for item in preserved] == ["Keep this."]
    request = api.store.work.read("edit", "default", id).request
    assert request.body == {
        "base_model": "pico",
        "behavior": {
            "name": "tone",
            "undesired": "21 items",
            "desired": "22 items",
            "prompts": "2 items",
            "chat": True,
            "scorers": ["vader"],
        },
        "preserve": "1 items",
    }


def test_messages_need_a_base_model_with_a_chat_template(api: Api, worker: Worker) -> None:
    worker.register("plain", chat_template=False)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    # Repeats count: the pointer leads into the body as it was sent.
    given = behavior(desired=[*texts("good"), texts("good")[0], {"messages": messages}])
    body = edit_body(base_model="plain", behavior=given, preserve=["a", {"messages": messages}])
    errors = api.http.post("/v1/edits", json=body).json()["errors"]
    assert [(one["pointer"], one["code"]) for one in errors] == [
        ("/preserve/1/messages", "no_chat_template"),
        ("/behavior/desired/21/messages", "no_chat_template"),
    ]
    assert errors[0]["detail"].startswith("preserve.1.messages: plain has no chat template")
    made = api.http.post("/v1/behaviors", json=given).json()["id"]
    pointer, detail = refusal(api, base_model="plain", behavior=made)
    assert pointer == "/behavior"
    assert f"desired.20.messages of {made}" in detail


def test_no_more_than_a_hundred_wrong_items_are_named(api: Api, worker: Worker) -> None:
    worker.register("plain", chat_template=False)
    item = {"messages": [{"role": "assistant", "content": "b"}]}
    body = edit_body(base_model="plain", preserve=[item] * 200)
    assert len(api.http.post("/v1/edits", json=body).json()["errors"]) == 100


def test_a_base_model_that_is_being_registered_is_a_conflict(api: Api, worker: Worker) -> None:
    body = {"id": "new", "source": {"type": "folder", "path": "/weights/new"}}
    assert api.http.post("/v1/base_models", json=body).status_code == 201
    answer = api.http.post("/v1/edits", json=edit_body(base_model="new"))
    assert answer.status_code == 409
    assert answer.json()["code"] == "base_model_not_ready"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_preset_and_an_uploaded_behavior_are_named_in_the_answer(
    api: Api, worker: Worker
) -> None:
    edit = api.http.post("/v1/edits", json=edit_body(behavior="refusal")).json()
    assert (edit["behavior"]["id"], edit["behavior"]["name"]) == (None, "refusal")
    assert edit["behavior"]["counts"]["undesired"] >= 200
    made = api.http.post("/v1/behaviors", json=behavior()).json()
    edit = api.http.post("/v1/edits", json=edit_body(behavior=made["id"])).json()
    assert edit["behavior"] == {
        "id": made["id"],
        "name": "tone",
        "sha256": made["sha256"],
        "counts": {"undesired": 20, "desired": 20, "prompts": 0},
    }


def test_a_suffix_is_held_until_its_edit_ended_badly_or_is_gone(api: Api, worker: Worker) -> None:
    def post(**changes: Any) -> Any:
        return api.http.post("/v1/edits", json=edit_body(suffix="kinder", **changes))

    first = post().json()["id"]
    taken = post()
    assert taken.status_code == 409
    assert taken.json()["code"] == "suffix_taken"
    assert first in taken.json()["detail"]
    worker.register("other")
    assert post(base_model="other").status_code == 201
    api.http.post(f"/v1/edits/{first}/cancel")
    second = post().json()["id"]
    worker.fail(second)
    third = post().json()["id"]
    worker.succeed(third)
    assert post().status_code == 409
    api.http.delete(f"/v1/edits/{third}")
    assert post().status_code == 201


def test_of_many_that_want_one_suffix_at_once_one_gets_it(api: Api, worker: Worker) -> None:
    def post(number: int) -> int:
        body = edit_body(suffix="kinder", seed=number)
        return api.http.post("/v1/edits", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(post, range(8)))
    assert answers == [201] + [409] * 7
    assert len(api.http.get("/v1/edits").json()["data"]) == 1


def test_an_edit_on_top_of_another_is_served_with_it(api: Api, worker: Worker) -> None:
    below = api.http.post("/v1/edits", json=edit_body(suffix="below")).json()["id"]
    unfinished = api.http.post("/v1/edits", json=edit_body(on_top_of="pico:below"))
    assert unfinished.status_code == 409
    assert unfinished.json()["code"] == "edit_not_finished"
    worker.succeed(below)
    edit = api.http.post("/v1/edits", json=edit_body(on_top_of="pico:below@0.5")).json()
    assert edit["on_top_of"] == f"pico:{below}@0.5"
    worker.succeed(edit["id"])
    edit = api.http.get(f"/v1/edits/{edit['id']}").json()
    assert edit["variant"] == f"pico:{below}@0.5+{edit['id']}"
    alone = {"variant": f"pico:{edit['id']}"}
    refused = api.http.put("/v1/aliases/bot", json=alone)
    assert refused.status_code == 409
    assert refused.json()["code"] == "parents_missing"
    assert below in refused.json()["detail"]
    asked = api.http.put("/v1/aliases/bot", json={**alone, "without_parents": True})
    assert asked.status_code == 200
    together = api.http.put("/v1/aliases/bot", json={"variant": edit["variant"]})
    assert together.status_code == 200


def test_a_variant_of_another_base_model_cannot_be_below(api: Api, worker: Worker) -> None:
    worker.register("other")
    assert refusal(api, on_top_of="other")[0] == "/on_top_of"
    on_base = api.http.post("/v1/edits", json=edit_body(on_top_of="pico"))
    assert on_base.json()["on_top_of"] is None


def test_the_same_key_and_body_make_one_edit(api: Api, worker: Worker) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = api.http.post("/v1/edits", json=edit_body(), headers=headers)
    assert first.status_code == 201
    assert "Idempotent-Replayed" not in first.headers
    id = first.json()["id"]
    worker.succeed(id)
    # The order of keys and the spelling of numbers don't matter; the edit is as it is now.
    spelled = json.dumps(dict(reversed(edit_body().items())), indent=3)
    again = api.http.post(
        "/v1/edits", content=spelled, headers={**headers, "Content-Type": "application/json"}
    )
    assert again.status_code == 201
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == f"/v1/edits/{id}"
    assert (again.json()["id"], again.json()["status"]) == (id, "succeeded")
    assert len(api.http.get("/v1/edits").json()["data"]) == 1


def test_a_key_is_not_used_for_two_things(api: Api, worker: Worker) -> None:
    headers = {"Idempotency-Key": "abc"}
    id = api.http.post("/v1/edits", json=edit_body(), headers=headers).json()["id"]
    worker.succeed(id)
    other_body = api.http.post("/v1/edits", json=edit_body(seed=1), headers=headers)
    export = {"variant": f"pico:{id}", "format": "native"}
    other_route = api.http.post("/v1/exports", json=export, headers=headers)
    for answer in (other_body, other_route):
        assert answer.status_code == 409
        assert answer.json()["code"] == "idempotency_key_reused"


def test_a_refused_request_does_not_use_up_its_key(api: Api, worker: Worker) -> None:
    headers = {"Idempotency-Key": "abc"}
    for body, status in ((edit_body(seed=-1), 422), (edit_body(), 201)):
        assert api.http.post("/v1/edits", json=body, headers=headers).status_code == status


def test_many_repeats_at_once_make_one_edit(api: Api, worker: Worker) -> None:
    def post(_: int) -> Any:
        headers = {"Idempotency-Key": "abc"}
        return api.http.post("/v1/edits", json=edit_body(suffix="one"), headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_repeat_finishes_what_a_crash_cut_short(api: Api, worker: Worker) -> None:
    headers = {"Idempotency-Key": "abc"}
    id = api.http.post("/v1/edits", json=edit_body(suffix="mine"), headers=headers).json()["id"]
    # As if the process had died right before the request was written down.
    api.store.objects.delete(f"{Place('edit', 'default', id).folder}/request.json")
    assert api.http.get(f"/v1/edits/{id}").status_code == 404
    again = api.http.post("/v1/edits", json=edit_body(suffix="mine"), headers=headers)
    assert again.status_code == 201
    assert again.json()["id"] == id
    assert "Idempotent-Replayed" not in again.headers
    assert api.http.get(f"/v1/edits/{id}").status_code == 200


def test_a_repeat_of_what_was_deleted_is_not_found(api: Api, worker: Worker) -> None:
    headers = {"Idempotency-Key": "abc"}
    id = api.http.post("/v1/edits", json=edit_body(), headers=headers).json()["id"]
    api.http.delete(f"/v1/edits/{id}")
    assert api.http.post("/v1/edits", json=edit_body(), headers=headers).status_code == 404


def test_a_key_that_is_too_long_is_a_bad_request(api: Api, worker: Worker) -> None:
    headers = {"Idempotency-Key": "a" * 256}
    answer = api.http.post("/v1/edits", json=edit_body(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"
