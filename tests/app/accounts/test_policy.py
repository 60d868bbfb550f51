"""The operator's policy over HTTP: who may edit what, and at which strengths a key may use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from models_store.audit.check import lines_of
from models_store.errors import InvalidRequest
from models_store.schemas.canary import NAME, Canary
from models_store.settings import Settings
from tests.app.domain.test_canaries import canary
from tests.app.support.generator import FakeGenerator, running_generator
from tests.app.support.worker import Worker, edit_body, small_delta
from tests.support.services import Api, running_api

POLICY = """
[[rule]]
name = "red does not weaken refusals"
effect = "deny"
tenants = ["red"]
behaviors = ["refusal", "in_place"]
base_models = ["pi*"]
"""
CAREFUL = ("edits:read", "edits:write", "models:generate")


@pytest.fixture
def governed(settings: Settings, tmp_path: Path) -> Iterator[Api]:
    """The API with keys and a policy, and with an edit of the tenant blue."""
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    with running_api(settings.model_copy(update={"auth": "keys", "policy": file})) as api:
        Worker(api.store, api.services.live.client).register("pico")
        yield api


@pytest.fixture
def fake(governed: Api) -> Iterator[FakeGenerator]:
    with running_generator() as one:
        one.beat(governed.services.live.client)
        yield one


def key(api: Api, tenant: str, *scopes: str) -> dict[str, str]:
    secret, _ = api.store.keys.create(name="test", tenant=tenant, scopes=scopes or CAREFUL)
    return {"Authorization": f"Bearer {secret}"}


def done(api: Api, tenant: str, delta: bytes | None = None, **options: Any) -> str:
    """An edit that has succeeded, with two points."""
    headers = key(api, tenant)
    id = str(api.http.post("/v1/edits", json=edit_body(**options), headers=headers).json()["id"])
    worker = Worker(api.store, api.services.live.client)
    worker.claim(id, tenant=tenant)
    worker.succeed(id, tenant=tenant, delta=delta, points={0: b"0", 1: b"1"})
    return id


def test_a_rule_refuses_edits_and_estimates_by_its_name(governed: Api) -> None:
    red, blue = key(governed, "red"), key(governed, "blue")
    for path in ("/v1/edits", "/v1/edits/estimate"):
        for body in (edit_body(), edit_body(behavior="refusal")):
            refused = governed.http.post(path, json=body, headers=red)
            assert refused.status_code == 403
            assert refused.json()["code"] == "policy_refused"
            assert "'red does not weaken refusals'" in refused.json()["detail"]
    assert governed.http.get("/v1/edits", headers=red).json()["data"] == []
    body = edit_body(behavior="compliance")
    assert governed.http.post("/v1/edits", json=body, headers=red).status_code == 201
    assert governed.http.post("/v1/edits", json=edit_body(), headers=blue).status_code == 201
    events = [(line.event, line.tenant) for line in lines_of(governed.store.objects)]
    assert events.count(("policy.refused", "red")) == 4
    assert events.count(("policy.allowed", "red")) == 1
    assert events.count(("policy.allowed", "blue")) == 1


def test_an_edit_cannot_be_made_again_past_a_rule_that_came_later(
    governed: Api, settings: Settings, tmp_path: Path
) -> None:
    id = done(governed, "blue")
    headers = key(governed, "blue")
    again = f"/v1/edits/{id}/reproduce"
    assert governed.http.post(again, headers=headers).status_code == 201
    later = tmp_path / "later.toml"
    later.write_text(POLICY.replace('"red"', '"blue"'))
    changed = settings.model_copy(update={"auth": "keys", "policy": later})
    with running_api(changed) as api:
        refused = api.http.post(again, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "policy_refused")


def test_a_measurement_is_judged_by_what_its_edits_were_made_for(
    governed: Api, settings: Settings, tmp_path: Path
) -> None:
    refusing, complying = (
        done(governed, "blue", behavior=name) for name in ("compliance", "refusal")
    )
    headers = key(governed, "blue")

    def post(api: Api, variant: str) -> int:
        body = {"variant": f"pico:{variant}", "behavior": "toxicity"}
        return api.http.post("/v1/receipts", json=body, headers=headers).status_code

    measured = governed.http.post(
        "/v1/receipts", json={"variant": f"pico:{complying}"}, headers=headers
    ).json()["id"]
    worker = Worker(governed.store, governed.services.live.client)
    worker.succeed(measured, tenant="blue")
    assert post(governed, f"{refusing}@-1") == 201
    later = tmp_path / "later.toml"
    later.write_text(POLICY.replace('"red"', '"blue"'))
    changed = settings.model_copy(update={"auth": "keys", "policy": later})
    with running_api(changed) as api:
        assert post(api, refusing) == 201
        for denied in (complying, f"{refusing}@-1", measured, f"{refusing}+{complying}@0.5"):
            assert post(api, denied) == 403, denied
        assert post(api, f"{complying}@-1") == 201
        again = api.http.post(f"/v1/edits/{measured}/reproduce", headers=headers)
        assert (again.status_code, again.json()["code"]) == (403, "policy_refused")


def test_where_no_harm_is_measured_a_measurement_covers_nothing_new(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[margins]\nprompts = 0\n")
    with running_api(settings.model_copy(update={"auth": "keys", "policy": file})) as api:
        Worker(api.store, api.services.live.client).register("pico")
        edit, headers = done(api, "blue"), key(api, "blue")
        for strength, status in (("", 201), ("@0.5", 201), ("@4", 403)):
            body = {"variant": f"pico:{edit}{strength}"}
            assert api.http.post("/v1/receipts", json=body, headers=headers).status_code == status


def uses(id: str, term: str) -> dict[str, tuple[str, str, Any]]:
    """Every call that takes the name of a variant."""
    variant = f"pico:{id}{term}"
    message = [{"role": "user", "content": "hello"}]
    return {
        "completion": ("POST", "/v1/completions", {"model": variant, "prompt": "a"}),
        "chat": ("POST", "/v1/chat/completions", {"model": variant, "messages": message}),
        "stream": (
            "POST",
            "/v1/completions",
            {"model": variant, "prompt": "a", "stream": True},
        ),
        "live by name": ("POST", "/v1/compare", {"variants": [variant], "prompt": "a"}),
        "export": ("POST", "/v1/exports", {"variant": variant, "format": "native"}),
        "alias": ("PUT", "/v1/aliases/bot", {"variant": variant}),
        "share": (
            "PUT",
            "/v1/aliases/bot",
            {"variant": "pico", "shares": [{"variant": variant, "weight": 0.1}]},
        ),
        "on top": ("POST", "/v1/edits", edit_body(on_top_of=variant)),
        "estimate": ("POST", "/v1/edits/estimate", edit_body(on_top_of=variant)),
    }


def of_strength(id: str, strength: float) -> dict[str, tuple[str, str, Any]]:
    """Those that take strengths."""
    live = {"model": f"pico:{id}", "strengths": [0, strength], "prompt": "a"}
    return {
        "live": ("POST", "/v1/compare", live),
        "compare": (
            "POST",
            f"/v1/edits/{id}/compare",
            {"prompts": ["a"], "strengths": [0, strength]},
        ),
    }


@pytest.mark.parametrize("strength", [-1, -0.1, 1.5, 4])
def test_a_key_uses_an_edit_at_strengths_that_its_receipt_covers(
    governed: Api, fake: FakeGenerator, strength: float
) -> None:
    id = done(governed, "blue")
    careful, bold = key(governed, "blue"), key(governed, "blue", *CAREFUL, "edits:unsafe")
    calls = {**uses(id, f"@{strength:g}"), **of_strength(id, strength)}
    for name, (method, path, body) in calls.items():
        refused = governed.http.request(method, path, json=body, headers=careful)
        assert refused.status_code == 403, (name, refused.text)
        assert "policy_refused" in refused.text
        assert "serving.strengths" in refused.text
        allowed = governed.http.request(method, path, json=body, headers=bold)
        assert allowed.status_code != 403, (name, allowed.text)
    within = {**uses(id, "@0.5"), **of_strength(id, 0.5)}
    for name, (method, path, body) in within.items():
        answer = governed.http.request(method, path, json=body, headers=careful)
        assert answer.status_code != 403, (name, answer.text)


def test_a_point_that_was_not_selected_needs_the_scope_too(
    governed: Api, fake: FakeGenerator
) -> None:
    id = done(governed, "blue")
    careful, bold = key(governed, "blue"), key(governed, "blue", *CAREFUL, "edits:unsafe")
    for name, (method, path, body) in uses(id, "~1").items():
        refused = governed.http.request(method, path, json=body, headers=careful)
        assert refused.status_code == 403, (name, refused.text)
        assert "serving.points" in refused.text
    # The selected one may be named by its number.
    ask = {"model": f"pico:{id}~0", "prompt": "a"}
    assert governed.http.post("/v1/completions", json=ask, headers=careful).status_code == 200
    delta = f"/v1/edits/{id}/delta"
    for query, who, status in (
        ("", careful, 200),
        ("?point=0", careful, 200),
        ("?point=1", careful, 403),
        ("?point=1", bold, 200),
    ):
        assert governed.http.get(delta + query, headers=who).status_code == status


def test_an_alias_is_used_by_all_as_who_made_it_was_allowed_to(
    governed: Api, fake: FakeGenerator
) -> None:
    id = done(governed, "blue")
    bold = key(governed, "blue", *CAREFUL, "edits:unsafe")
    body = {"variant": f"pico:{id}@-1"}
    assert governed.http.put("/v1/aliases/bot", json=body, headers=bold).status_code == 200
    careful = key(governed, "blue")
    ask = {"model": "bot", "prompt": "a"}
    assert governed.http.post("/v1/completions", json=ask, headers=careful).status_code == 200
    # But it cannot be turned further, nor rolled back to, without the scope.
    live = {"model": "bot", "strengths": [1], "prompt": "a"}
    assert governed.http.post("/v1/compare", json=live, headers=careful).status_code == 403
    other = {"variant": "pico"}
    assert governed.http.put("/v1/aliases/bot", json=other, headers=careful).status_code == 200
    back = governed.http.post("/v1/aliases/bot/rollback", json={}, headers=careful)
    assert back.status_code == 403


def test_nothing_of_an_edit_that_was_held_back_can_be_had_but_its_report(
    governed: Api, fake: FakeGenerator
) -> None:
    headers = key(governed, "blue", *CAREFUL, "edits:unsafe")
    id = governed.http.post("/v1/edits", json=edit_body(suffix="bad"), headers=headers).json()["id"]
    worker = Worker(governed.store, governed.services.live.client)
    worker.claim(id, tenant="blue")
    # More than an editor leaves: even stored deltas of a failed attempt are out of reach.
    worker.hold_back(id, {"report": b"{}", "delta": b"d", "point-0": b"d"}, tenant="blue")
    edit = governed.http.get(f"/v1/edits/{id}", headers=headers).json()
    assert (edit["status"], edit["error"]["code"]) == ("failed", "policy_refused")
    assert governed.http.get(f"/v1/edits/{id}/report", headers=headers).status_code == 200
    for query in ("", "?point=0", "?point=1"):
        answer = governed.http.get(f"/v1/edits/{id}/delta{query}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_delta")
    for term in ("", "~0", "@0.1"):
        for name, (method, path, body) in uses(id, term).items():
            answer = governed.http.request(method, path, json=body, headers=headers)
            assert answer.status_code in (404, 409, 422), (name, answer.text)
    compared = governed.http.post(
        f"/v1/edits/{id}/compare", json={"prompts": ["a"]}, headers=headers
    )
    assert compared.status_code == 404
    models = governed.http.get("/v1/models", headers=headers).text
    assert id not in models
    assert fake.requests == []


def test_a_wrong_policy_stops_the_api_and_is_told_by_doctor(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[margins]\nrefusals = 1\n")
    with (
        pytest.raises(InvalidRequest, match=r"margins\.refusals: Extra"),
        running_api(settings.model_copy(update={"policy": file})),
    ):
        pass
    monkeypatch.setenv("SCALPEL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SCALPEL_POLICY", str(file))
    runner = CliRunner()
    assert "margins.refusals" in runner.invoke(app, ["doctor"]).stdout.replace("\n", "")
    file.write_text(POLICY)
    told = " ".join(runner.invoke(app, ["doctor"]).stdout.split())
    assert "allow by default, 1 rules; refusals may fall by 5 points" in told
    assert "# policy: allow by default, 1 rules" in runner.invoke(app, ["config"]).stdout


@pytest.mark.parametrize(
    ("strength", "strengths"), [(1, [0, 0.5, 1]), (0.5, [0, 0.5, 1, 2]), (-1, [-1, 0, 1])]
)
def test_a_canary_has_no_strengths_that_the_policy_reserves(
    governed: Api, strength: float, strengths: list[float]
) -> None:
    careful, bold = key(governed, "blue"), key(governed, "blue", *CAREFUL, "edits:unsafe")
    body = {"variant": f"pico:{done(governed, 'blue')}@{strength}", "format": "native"}
    id = governed.http.post("/v1/exports", json=body, headers=bold).json()["id"]
    worker, whole = Worker(governed.store, governed.services.live.client), canary()
    worker.export(id, {NAME: whole.model_dump_json().encode()}, tenant="blue")

    def read(headers: dict[str, str]) -> Canary:
        answer = governed.http.get(f"/v1/exports/{id}/canary", headers=headers)
        assert answer.status_code == 200
        return Canary.model_validate_json(answer.content)

    assert read(bold) == whole
    got = read(careful)
    assert list(got.strengths) == strengths
    assert set(got.text_strengths) == set(strengths) & set(whole.text_strengths)
    full, fewer = whole.sheets[0].prompts[5], got.sheets[0].prompts[5]
    for recorded, row in zip(got.strengths, fewer.logprobs, strict=True):
        assert row == full.logprobs[whole.strengths.index(recorded)]
    for recorded, text in zip(got.text_strengths, fewer.texts, strict=True):
        assert text == full.texts[whole.text_strengths.index(recorded)]


def test_a_mixture_is_judged_as_a_whole(governed: Api, fake: FakeGenerator) -> None:
    parent, again = (done(governed, "blue", small_delta(0)) for _ in range(2))
    other = done(governed, "blue", small_delta(1))
    child = done(governed, "blue", small_delta(2), on_top_of=f"pico:{parent}@0.5")
    careful, bold = key(governed, "blue"), key(governed, "blue", *CAREFUL, "edits:unsafe")

    def status(headers: dict[str, str], variant: str, path: str = "/v1/exports") -> int:
        body = {"variant": f"pico:{variant}", "format": "native"}
        if path == "/v1/completions":
            body = {"model": f"pico:{variant}", "prompt": "a"}
        return governed.http.post(path, json=body, headers=headers).status_code

    for covered in (
        parent,
        f"{parent}@0.5+{again}@0.5",
        f"{parent}@0.5+{child}",
        f"{parent}@0.25+{child}@0.5",
    ):
        assert status(careful, covered) == 201
        assert status(careful, covered, "/v1/completions") == 200
    for beyond in (
        f"{parent}+{again}",
        f"{parent}+{other}",
        f"{parent}@0.0001+{child}",
        f"{parent}+{child}",
    ):
        assert status(careful, beyond) == 403
        assert status(careful, beyond, "/v1/completions") == 403
        assert status(bold, beyond) == 201
    # What no receipt covers may be measured, which is how it gets one.
    measured = {"variant": f"pico:{parent}+{other}"}
    assert governed.http.post("/v1/receipts", json=measured, headers=careful).status_code == 201
    alone = {"variant": f"pico:{child}", "format": "native", "without_parents": True}
    for headers, expected in ((careful, 403), (bold, 201)):
        answer = governed.http.post("/v1/exports", json=alone, headers=headers)
        assert answer.status_code == expected, answer.text
