"""The policy file: read whole or refused by table and key; what its rules and margins decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models_store.audit.check import lines_of
from models_store.audit.log import NO_TENANT, AuditLog
from models_store.errors import InvalidRequest, PolicyRefused
from models_store.objects.histories import Histories
from models_store.objects.store import ObjectStore
from models_store.operator.policy import (
    MAX_FILE_BYTES,
    Margins,
    Policy,
    PolicyVersion,
    Rule,
    Serving,
    direction_of,
    parse_policy,
    put_in_force,
    read_policy,
)
from models_store.schemas.measurements import Contrast, Interval, Safety, SafetyCheck
from models_store.settings import Settings

FULL = """
default = "deny"

[margins]
refusals_fall = 0.02
toxicity_rise = 0.1
prompts = 100
unsafe = "refuse"

[serving]
strengths = [-1.0, 2.0]
points = "any"

[[rule]]
name = "nobody weakens refusals"
effect = "deny"
behaviors = ["refusal"]

[[rule]]
name = "support tunes small models"
effect = "allow"
tenants = ["support", "team-*"]
base_models = ["smollm2-*"]
"""


def parsed(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return parse_policy(path)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    policy = parsed(tmp_path, FULL)
    assert policy.default == "deny"
    assert policy.margins == Margins(
        refusals_fall=0.02, toxicity_rise=0.1, prompts=100, unsafe="refuse"
    )
    assert policy.serving == Serving(strengths=(-1.0, 2.0), points="any")
    assert [rule.name for rule in policy.rule] == [
        "nobody weakens refusals",
        "support tunes small models",
    ]
    assert "deny by default, 2 rules" in policy.summary()


def test_what_holds_without_a_file() -> None:
    policy = Policy()
    assert policy.model_dump() == {
        "default": "allow",
        "margins": {
            "refusals_fall": 0.05,
            "toxicity_rise": 0.05,
            "prompts": 64,
            "unsafe": "scope",
        },
        "serving": {"strengths": (0.0, 1.0), "points": "selected", "compositions": "receipt"},
        "rule": (),
    }
    assert policy.summary() == (
        "allow by default, 0 rules; refusals may fall by 5 points, toxicity may rise by 5; "
        "strengths 0 to 1, selected points, measured compositions, without edits:unsafe"
    )
    blind = Policy(margins=Margins(prompts=0, toxicity_rise=0.125))
    assert "; harm is not measured; " in blind.summary()
    seeing = Policy(margins=Margins(prompts=1, toxicity_rise=0.125))
    assert "fall by 5 points, toxicity may rise by 12.5; " in seeing.summary()


@pytest.mark.parametrize(
    ("text", "worse"),
    [
        ("[serving]\nstrengths = [-4.0, 4.0]", "[serving]\nstrengths = [-4.1, 4.0]"),
        ("[serving]\nstrengths = [-4.0, 4.0]", "[serving]\nstrengths = [-4.0, 4.1]"),
        ("[serving]\nstrengths = [0.0, 0.0]", "[serving]\nstrengths = [-1.0, -0.5]"),
        ("[margins]\nprompts = 200", "[margins]\nprompts = -1"),
        ("[margins]\nrefusals_fall = 1.0", "[margins]\nrefusals_fall = 1.1"),
        ("[margins]\nrefusals_fall = 0.0", "[margins]\nrefusals_fall = -0.1"),
        (f"[[rule]]\nname = '{'a' * 100}'\neffect = 'deny'", "name = ''"),
        (f"[[rule]]\nname = '{'a' * 100}'\neffect = 'deny'", f"name = '{'a' * 101}'"),
        (f"[[rule]]\nname = 'a'\neffect = 'deny'\ntenants = ['{'a' * 128}']", f"['{'a' * 129}']"),
        ("[[rule]]\nname = 'a'\neffect = 'deny'\ntenants = ['a']", "['']"),
        (f"[[rule]]\nname = 'a'\neffect = 'deny'\ntenants = {['a'] * 1000}", f"{['a'] * 1001}"),
        ("".join(f"[[rule]]\nname='{n}'\neffect='deny'\n" for n in range(1000)), "name='x'"),
        ("#" * MAX_FILE_BYTES, "#" * (MAX_FILE_BYTES + 1)),
    ],
)
def test_bounds_are_inclusive(tmp_path: Path, text: str, worse: str) -> None:
    assert parsed(tmp_path, text)
    if worse.startswith("["):
        worse = worse if worse[1] in "sm" else f"[[rule]]\nname='x'\neffect='deny'\ntenants={worse}"
    elif worse == "name='x'":
        worse = f"{text}[[rule]]\nname='x'\neffect='deny'"
    elif worse.startswith("name"):
        worse = f"[[rule]]\n{worse}\neffect = 'deny'"
    with pytest.raises(InvalidRequest):
        parsed(tmp_path, worse)


def test_the_policy_is_that_of_the_operators_file_or_the_usual_one(tmp_path: Path) -> None:
    assert read_policy(Settings(policy=None)) == Policy()
    path = tmp_path / "policy.toml"
    path.write_text('default = "deny"')
    assert read_policy(Settings(policy=path)) == Policy(default="deny")


def test_a_policy_in_force_cannot_be_changed() -> None:
    for part, field in ((Policy(), "default"), (Margins(), "prompts"), (Serving(), "points")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, field, getattr(part, field))


def test_a_policy_has_256_kib_at_most() -> None:
    assert MAX_FILE_BYTES == 262_144


def test_an_empty_file_is_the_policy_that_holds_without_one(tmp_path: Path) -> None:
    assert parsed(tmp_path, "") == Policy()


@pytest.mark.parametrize(
    ("tenant", "base", "behavior", "decision"),
    [
        ("support", "smollm2-135m", "toxicity", (True, "support tunes small models")),
        ("team-7", "smollm2-135m", "in_place", (True, "support tunes small models")),
        ("support", "smollm2-135m", "refusal", (False, "nobody weakens refusals")),
        ("support", "qwen3-0.6b", "toxicity", (False, "default")),
        ("Support", "smollm2-135m", "toxicity", (False, "default")),
    ],
)
def test_the_first_rule_that_matches_decides(
    tmp_path: Path, tenant: str, base: str, behavior: str, decision: tuple[bool, str]
) -> None:
    assert parsed(tmp_path, FULL).decide(tenant, base, behavior) == decision


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("defalt = 'deny'", "defalt: Extra inputs"),
        ("default = 'maybe'", "default: Input should be 'allow' or 'deny'"),
        ("[margins]\nrefusals_fall = 5", "margins.refusals_fall"),
        ("[margins]\ntoxicity_rise = nan", "margins.toxicity_rise"),
        ("[margins]\nprompts = 201", "margins.prompts"),
        ("[serving]\nstrengths = [1.0, 2.0]", "serving.strengths: write the lowest"),
        ("[serving]\nstrengths = [-5.0, 2.0]", "serving.strengths.0"),
        ("[serving]\nstrengths = 1.0", "serving.strengths"),
        ("[[rule]]\nname = 'a'", "rule.0.effect: Field required"),
        ("[[rule]]\nname = 'a'\neffect = 'deny'\ntenant = ['x']", "rule.0.tenant: Extra"),
        ("[[rule]]\nname = 'a'\neffect = 'deny'\ntenants = []", "rule.0.tenants"),
        ("[[rule]]\nname = 'a'\neffect = 'deny'\n" * 2, "rule: each needs a name of its own"),
        ("rule = 'deny'", "rule: "),
        ("margins = 3", "margins: must be a table"),
        ("[[", "is not valid TOML"),
        ("a = " + "[" * 20_000, "is not valid TOML"),
        ("a = " + "1" * 20_000, "is not valid TOML"),
        ("#" * (MAX_FILE_BYTES + 1), f"{MAX_FILE_BYTES} at most"),
    ],
)
def test_a_mistake_is_named_by_table_and_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parsed(tmp_path, text)
    assert named in error.value.message
    assert "policy.toml" in error.value.message


def test_a_file_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"SCALPEL_POLICY: .*none\.toml cannot be read"):
        parse_policy(tmp_path / "none.toml")


_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
_SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(), _NAMES, st.just("deny")
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    [
        "default", "margins", "serving", "rule", "name", "effect", "tenants", "base_models",
        "behaviors", "strengths", "points", "prompts", "unsafe", "refusals_fall", "toxicity_rise",
    ]
)  # fmt: skip
_TABLES = st.dictionaries(_KEYS | _NAMES, _VALUES, max_size=4)
_FILES = st.dictionaries(_KEYS, _VALUES | _TABLES | st.lists(_TABLES, max_size=3), max_size=4)


def toml(value: Any) -> str:
    """A TOML value; tables in line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str) else str(value)


def outcome_of(path: Path) -> tuple[Policy | None, str]:
    """The policy, or why there is none; any other error comes out."""
    try:
        return parse_policy(path), ""
    except InvalidRequest as error:
        return None, error.message


@given(_FILES)
@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_table_is_a_policy_or_a_clear_refusal(tmp_path: Path, document: dict[str, Any]) -> None:
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in document.items())
    path = tmp_path / "policy.toml"
    path.write_text(text)
    policy, refusal = outcome_of(path)
    if policy is None:
        assert refusal.startswith(str(path))
    else:
        assert Policy.model_validate_json(policy.model_dump_json()) == policy
        assert set(document) <= set(Policy.model_fields)


@given(st.binary(max_size=300))
@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_a_policy_or_a_clear_refusal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    policy, refusal = outcome_of(path)
    assert policy is not None or "policy.toml" in refusal


def check(surely: float) -> SafetyCheck:
    difference = Interval(value=0.3, low=0.2, high=0.4)
    return SafetyCheck(
        name="harm",
        prompts=64,
        of=Contrast(base=0.5, edited=0.8, difference=difference),
        surely=surely,
        margin=0.05,
    )


@pytest.mark.parametrize(
    ("surely", "held"),
    [(0.06, True), (0.05, False), (0.04, False), (-0.10, False)],
)
def test_only_what_is_surely_beyond_the_margin_is_held_back(surely: float, held: bool) -> None:
    safety = Safety(checks=(check(0.0), check(surely)), published=True)
    if not held:
        Policy().require_harmless(safety, ())
        return
    with pytest.raises(PolicyRefused, match=r"by 6\.0 points at least, where 5\.0"):
        Policy().require_harmless(safety, ("edits:write",))
    Policy().require_harmless(safety, ("edits:unsafe",))


def test_a_policy_may_hold_what_is_unsafe_back_from_every_key() -> None:
    strict = Policy(margins=Margins(unsafe="refuse"))
    safety = Safety(checks=(check(0.06),), published=True)
    with pytest.raises(PolicyRefused) as refused:
        strict.require_harmless(safety, ("edits:unsafe",))
    assert refused.value.message == (
        "margins: harm from 50.0 % to 80.0 %, by 6.0 points at least, where 5.0 are allowed"
    )
    with pytest.raises(PolicyRefused, match="the scope edits:unsafe is needed"):
        Policy().require_harmless(safety, ("edits:write",))


def test_what_rules_call_a_behaviour() -> None:
    assert direction_of("refusal") == "refusal"
    assert direction_of({"name": "refusal"}) == "in_place"


def test_a_rule_needs_all_that_it_names_to_match() -> None:
    rule = Rule(name="x", effect="deny", tenants=("a", "b"), base_models=("m?",), behaviors=("t*",))
    assert rule.matches("b", "m1", "toxicity")
    assert not rule.matches("c", "m1", "toxicity")
    assert not rule.matches("a", "m12", "toxicity")
    assert not rule.matches("a", "m1", "refusal")


def test_points_that_no_receipt_covers_need_the_scope() -> None:
    policy = Policy()
    policy.require_point("edit_1", None, ())
    with pytest.raises(PolicyRefused, match="edits:unsafe"):
        policy.require_point("edit_1", 2, ("models:generate",))
    policy.require_point("edit_1", 2, ("edits:unsafe",))
    Policy(serving=Serving(points="any")).require_point("edit_1", 2, ())


def test_the_digest_of_a_policy_is_that_of_what_it_says() -> None:
    assert Policy().sha256 == Policy(serving=Serving(points="selected")).sha256
    others = (
        Policy(default="deny"),
        Policy(serving=Serving(points="any")),
        Policy(serving=Serving(compositions="any")),
        Policy(margins=Margins(prompts=0)),
    )
    assert len({policy.sha256 for policy in (Policy(), *others)}) == 5


def test_a_policy_that_changes_is_logged_and_kept(objects: ObjectStore) -> None:
    log = AuditLog(objects)
    rule = Rule(name="none", effect="deny")
    for policy in (Policy(), Policy(), Policy(rule=(rule,)), Policy(rule=(rule,))):
        put_in_force(objects, log, policy)
    told = [(line.event, line.fields.get("before")) for line in lines_of(objects)]
    assert told == [
        ("policy.changed", None),
        ("policy.loaded", None),
        ("policy.changed", Policy().sha256),
        ("policy.loaded", None),
    ]
    versions = Histories(objects, "policies", PolicyVersion)
    newest = versions.newest(NO_TENANT, "policy")
    assert newest is not None
    assert (newest.number, newest.policy.rule) == (2, (rule,))
    assert len(objects.files("policies")) == 2
