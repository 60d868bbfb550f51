"""Behaviours: their checks, their lines, the library of them, and the presets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.domain.behaviors.library import BehaviorLibrary
from models_store import presets
from models_store.audit.log import AuditLog
from models_store.errors import CorruptArtifact, InvalidRequest, NotFound
from models_store.objects.store import ObjectStore
from models_store.schemas.behaviors import (
    MAX_TEXTS,
    Behavior,
    checked,
    from_lines,
    reference,
    sha256_of,
    to_lines,
    with_preserved,
)
from models_store.schemas.items import ChatItem, Item, Prompt, TextItem, text_of
from models_store.schemas.scorers import SCORERS
from tests.models_store.make import behavior

ITEM: TypeAdapter[Any] = TypeAdapter(Item)


def problems(**changes: Any) -> dict[str, str]:
    """Pointer and code of what is wrong with a behaviour with these changes."""
    whole = {**behavior().model_dump(), **changes}
    with pytest.raises(InvalidRequest) as caught:
        checked(Behavior.model_validate(whole))
    return {error.pointer: error.code for error in caught.value.errors}


def test_a_behavior_in_order_is_left_as_it_is() -> None:
    assert checked(behavior()) == behavior()


def test_repeats_are_left_out_whatever_their_case_and_white_space() -> None:
    given_texts = [*(f"bad {n}" for n in range(20)), " BAD  3", "bad\n4\t"]
    whole = Behavior.model_validate(
        {**behavior().model_dump(), "undesired": given_texts, "prompts": ["Go on", "go  ON ", "x"]}
    )
    found = checked(whole)
    assert [text_of(item) for item in found.undesired] == given_texts[:20]
    assert [prompt.text for prompt in found.prompts] == ["Go on", "x"]


def test_answers_that_read_alike_to_different_prompts_are_two() -> None:
    pairs = [{"prompt": f"question {n}", "completion": "No."} for n in range(20)]
    assert (
        len(
            checked(
                Behavior.model_validate({**behavior().model_dump(), "undesired": pairs})
            ).undesired
        )
        == 20
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"undesired": []}, {"/behavior/undesired": "too_few_texts"}),
        ({"desired": ["a"] * 30}, {"/behavior/desired": "too_few_texts"}),
        (
            {
                "prompts": [
                    {"text": "a", "template": "t", "split": "test"},
                    {"text": "b", "template": "t"},
                    {"text": "c", "template": "t", "split": "validate"},
                ]
            },
            {"/behavior/prompts/2/split": "template_in_both_splits"},
        ),
        (
            {"undesired": [], "desired": []},
            {"/behavior/undesired": "too_few_texts", "/behavior/desired": "too_few_texts"},
        ),
        ({"desired": [f"BAD {n}" for n in range(20)]}, {"/behavior/desired": "identical_sets"}),
        (
            {"desired": [*(f"good {n}" for n in range(20)), "bad 7"]},
            {"/behavior/desired": "text_on_both_sides"},
        ),
        (
            {"undesired": [f"bad {n}" for n in range(MAX_TEXTS)]},
            {"/behavior/undesired": "too_many_texts"},
        ),
        (
            {
                "desired": [
                    *(f"good {n}" for n in range(20)),
                    {"messages": [{"role": "user", "content": "x"}]},
                ]
            },
            {"/behavior/desired/20/messages": "last_message_not_assistant"},
        ),
    ],
)
def test_sets_that_cannot_be_used_are_refused(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    assert problems(**changes) == expected


PAIRS = [{"prompt": f"what of {n}", "completion": f"good {n}"} for n in range(20)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"desired": PAIRS}, {}),
        (
            {"desired": PAIRS, "undesired": ["a"]},
            {"/behavior/undesired_from": "undesired_twice"},
        ),
        ({"desired": PAIRS[:3]}, {"/behavior/desired": "too_few_texts"}),
        ({"desired": [*PAIRS, "alone"]}, {"/behavior/desired/20": "no_prompt"}),
        ({"desired": PAIRS, "scorer": "vader"}, {"/behavior/scorer": "scorer_and_texts"}),
    ],
)
def test_desired_texts_alone_need_prompts_for_the_base_model(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    given = Behavior.model_validate({"name": "x", "undesired_from": "base_model", **changes})
    found: dict[str, str] = {}
    try:
        assert checked(given).lacks_texts
    except InvalidRequest as error:
        found = {problem.pointer: problem.code for problem in error.errors}
    assert found == expected


PROMPTS = [f"prompt number {n}" for n in range(64)]
BY_SCORER = {"name": "tone", "scorer": "vader", "prompts": PROMPTS}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"undesired": ["a"]}, {"/behavior/scorer": "scorer_and_texts"}),
        ({"prompts": PROMPTS[:63]}, {"/behavior/prompts": "too_few_prompts"}),
        (
            {"prompts": [*PROMPTS[:63], " PROMPT number  7"]},
            {"/behavior/prompts": "too_few_prompts"},
        ),
        (
            {"prompts": [*PROMPTS[:31], *({"text": t, "split": "test"} for t in PROMPTS[31:])]},
            {"/behavior/prompts": "too_few_prompts"},
        ),
        ({"scorers": ["vader"]}, {"/behavior/scorers": "no_other_scorer"}),
        (
            {"scorer": "answer-match"},
            {"/behavior/prompts/0/undesired_answer": "no_undesired_answer"},
        ),
    ],
)
def test_a_scorer_in_place_of_texts_needs_prompts_and_another_scorer_to_judge(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(Behavior.model_validate({**BY_SCORER, **changes}))
    assert {error.pointer: error.code for error in caught.value.errors} == expected


def test_a_scorer_and_prompts_are_a_behaviour() -> None:
    for changes in ({}, {"scorers": ["vader", "tfidf"]}, {"scorers": ["profanity"]}):
        made = checked(Behavior.model_validate({**BY_SCORER, **changes}))
        assert made.lacks_texts
        assert from_lines(to_lines(made)) == (made, ())
        assert sha256_of(made) != sha256_of(made.model_copy(update={"scorer": "profanity"}))
        assert reference(made).counts == {"undesired": 0, "desired": 0, "prompts": 64}


def test_a_behaviour_of_nothing_is_told_of_both_ways() -> None:
    with pytest.raises(InvalidRequest, match="or give a scorer and prompts in place of texts"):
        checked(Behavior.model_validate({"name": "tone", "prompts": PROMPTS}))


@pytest.mark.parametrize(
    ("value", "location"),
    [
        (5, ("TextItem",)),
        ({}, ("TextItem", "text")),
        ({"text": 5}, ("TextItem", "text")),
        ({"text": "a", "label": "b"}, ("TextItem", "label")),
        ({"completion": "a"}, ("CompletionItem", "prompt")),
        ({"messages": []}, ("ChatItem", "messages")),
        ({"messages": [{"role": "boss", "content": "a"}]}, ("ChatItem", "messages", 0, "role")),
    ],
)
def test_a_wrong_item_is_wrong_as_one_form_only(value: Any, location: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        ITEM.validate_json(json.dumps(value), strict=True)
    assert caught.value.errors()[0]["loc"] == location
    assert {error["loc"][0] for error in caught.value.errors()} == {location[0]}


def test_what_counts_of_a_conversation_is_its_last_message() -> None:
    item = ITEM.validate_python(
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    )
    assert isinstance(item, ChatItem)
    assert text_of(item) == "b"


texts = st.text(min_size=1, max_size=40)
items = st.one_of(
    texts,
    st.fixed_dictionaries({"text": texts, "pair_id": st.none() | st.just("p")}),
    st.fixed_dictionaries({"prompt": texts, "completion": texts}),
    st.fixed_dictionaries(
        {
            "messages": st.lists(
                st.fixed_dictionaries(
                    {"role": st.sampled_from(["user", "assistant", "system"]), "content": texts}
                ),
                min_size=1,
                max_size=3,
            )
        }
    ),
)
prompts = texts | st.fixed_dictionaries(
    {"text": texts, "template": texts, "split": st.just("test")}
)


@given(
    st.fixed_dictionaries(
        {
            "name": texts,
            "undesired": st.lists(items, max_size=4),
            "desired": st.lists(items, max_size=4),
            "prompts": st.lists(prompts, max_size=4),
            "chat": st.booleans(),
        }
    ),
    st.lists(items, max_size=3),
)
def test_lines_give_back_what_was_written(given_behavior: Any, preserve: Any) -> None:
    whole = Behavior.model_validate(given_behavior)
    kept = TypeAdapter(tuple[Item, ...]).validate_python(preserve)
    assert from_lines(with_preserved(to_lines(whole), kept)) == (whole, kept)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b'{"name": "a"}\n{"role": "desired"}\n'])
def test_lines_that_are_no_behavior_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        from_lines(data)


def test_the_digest_is_of_all_that_an_edit_takes() -> None:
    assert sha256_of(behavior()) == sha256_of(behavior())
    assert reference(behavior()).sha256.startswith("sha256:")
    for change in ({"name": "x"}, {"chat": True}, {"desired": behavior().desired[1:]}):
        assert sha256_of(behavior().model_copy(update=change)) != sha256_of(behavior())


def test_digests_and_lines_are_those_from_before_questions_and_answers_came() -> None:
    asked = Behavior.model_validate({**behavior().model_dump(), "prompts": ["Go on", "And then"]})
    assert sha256_of(asked) == (
        "sha256:5e429a05570838a369d5c0bf0905bf1ec7c0175c2da833e249422afbcadcd6ed"
    )
    assert b"question" not in to_lines(asked)
    assert b"undesired_answer" not in to_lines(asked)

    preset = presets.load_preset("negativity")
    assert sha256_of(preset) == (
        "sha256:22e4782b3f92340f0fec7c506da9dc86a7f560ad88201f2f72cf6b70db9ad676"
    )

    questioned = asked.model_copy(update={"question": "Is it bad?"})
    answered = asked.model_copy(update={"prompts": (Prompt(text="Go on", undesired_answer="No"),)})
    assert len({sha256_of(one) for one in (asked, questioned, answered)}) == 3
    for one in (questioned, answered):
        assert from_lines(to_lines(one))[0] == one


def test_the_library_keeps_what_it_is_given(objects: ObjectStore) -> None:
    library = BehaviorLibrary(objects, AuditLog(objects))
    made = library.add("red", "beh_1", behavior())
    assert library.add("red", "beh_1", behavior()) == made
    found = library.find("red", "beh_1")
    assert found.behavior == behavior()
    assert (found.ref.id, found.ref.version) == ("beh_1", 1)
    with pytest.raises(InvalidRequest):
        library.find("blue", "beh_1")
    library.delete("red", "beh_1")
    for read in (library.head, library.read, library.delete):
        with pytest.raises(NotFound):
            read("red", "beh_1")
    assert [info.path.rpartition(".")[2] for info in objects.files("behaviors")] == ["json", "json"]


PRESETS = ("compliance", "formality", "negativity", "refusal", "toxicity", "verbosity")


def test_the_presets_are_there() -> None:
    assert presets.preset_names() == PRESETS
    with pytest.raises(KeyError):
        presets.load_preset("sloth")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_behavior_in_order(name: str) -> None:
    preset = presets.load_preset(name)
    assert preset.name == name
    assert len(preset.description) > 40
    assert min(len(preset.undesired), len(preset.desired)) >= 200
    assert set(preset.scorers) <= set(SCORERS)
    assert len(preset.scorers) >= 2
    by_split: dict[str | None, set[str | None]] = {}
    for prompt in preset.prompts:
        by_split.setdefault(prompt.split, set()).add(prompt.template)
    assert by_split.keys() == {"validate", "test"}
    assert None not in by_split["validate"] | by_split["test"]
    assert not by_split["validate"] & by_split["test"], "a template is in both splits"
    assert len(preset.prompts) >= 300
    assert sum(prompt.split == "test" for prompt in preset.prompts) >= 200


def test_the_refusal_preset_has_both_signs() -> None:
    refusal, compliance = presets.load_preset("refusal"), presets.load_preset("compliance")
    assert refusal.undesired == compliance.desired
    assert refusal.desired == compliance.undesired


def test_there_are_neutral_texts_plain_and_chat() -> None:
    plain, chat = presets.neutral_texts()
    assert len(plain) >= 128
    assert len(chat) >= 64
    assert all(isinstance(item, TextItem) for item in plain)
