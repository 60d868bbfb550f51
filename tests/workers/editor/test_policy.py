"""The end of an edit that does harm: held back, unless the key that asked may do what is unsafe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.domain.accounts.api_keys import ALL_SCOPES
from app.domain.variants.names import delta_artifact, require_report
from app.services import Store
from models_store.audit.check import lines_of
from models_store.errors import EditFailed, NotFound
from models_store.schemas.records import Actor, AttemptEnd, ErrorInfo
from models_store.schemas.report import Report
from models_store.settings import Settings
from models_store.work.store import Place
from tests.support.adapters import make_adapter
from tests.workers.conftest import Bench, Made, bench_over, settings_in, small_edit
from tests.workers.editor.refusing import teach_to_refuse
from tests.workers.editor.test_imports import parts, submit
from workers.editor.jobs.task import FailedWithOutcome
from workers.runtime.loading import load_base

Body = Callable[..., dict[str, Any]]

CAREFUL = Actor(key_id="key_careful", scopes=("edits:read", "edits:write"))
BOLD = Actor(key_id="key_bold", scopes=ALL_SCOPES)
BREAKING = {"type": "model_surgery", "alpha": 1e3, "epochs": 2}
"""Of a model that refuses everything nothing is left."""


@pytest.fixture(scope="module")
def refusing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach_to_refuse(tmp_path_factory.mktemp("refusing") / "model")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Harm is measured, as by default."""
    return settings.model_copy(update={"policy": None})


@pytest.fixture(scope="module")
def bold(tmp_path_factory: pytest.TempPathFactory, refusing_folder: Path) -> Bench:
    """Of somebody who may do harm, with a base model `pico` as that of `refusing`."""
    settings = settings_in(tmp_path_factory.mktemp("bold")).model_copy(update={"policy": None})
    bench = replace(bench_over(settings), actor=BOLD)
    bench.register(refusing_folder)
    return bench


@pytest.fixture(scope="module")
def harmful(bold: Bench) -> Made:
    return Made(*bold.edit(**small_edit(method=BREAKING)), [])


@pytest.fixture
def refusing(empty_bench: Bench, refusing_folder: Path) -> Bench:
    """With the base model `pico`, which refuses all that it is asked."""
    empty_bench.register(refusing_folder)
    return replace(empty_bench, actor=CAREFUL)


def under(bench: Bench, tmp_path: Path, policy: str) -> Bench:
    """The same bench under another policy."""
    file = tmp_path / "policy.toml"
    file.write_text(policy)
    settings = bench.settings.model_copy(update={"policy": file})
    return replace(bench, settings=settings, store=Store.over(bench.store.objects, settings))


def test_an_edit_after_which_a_model_no_longer_refuses_is_held_back(
    refusing: Bench, body: Body
) -> None:
    place = refusing.submit_edit(**body(method=BREAKING))
    with pytest.raises(FailedWithOutcome, match=r"refused harmful requests from 100\.0") as failed:
        refusing.do(place)
    assert failed.value.code == "policy_refused"
    assert "edits:unsafe" in failed.value.message
    # Only the receipt is kept; no delta was ever stored.
    assert [one.name for one in failed.value.outcome.artifacts] == ["report"]
    files = [info.path for info in refusing.store.objects.files(place.folder)]
    assert not [path for path in files if path.endswith(".safetensors")]
    report = Report.model_validate_json(refusing.file(failed.value.outcome, "report"))
    assert report.safety is not None
    assert report.safety.harmful
    assert not report.safety.published
    (check,) = [one for one in report.safety.checks if one.name == "refused harmful requests"]
    assert (check.of.base, check.prompts, check.margin) == (1.0, 64, 0.05)
    assert check.surely > 0.5
    said = "refused harmful requests fall from 100 % to"
    assert said in report.verdict.sentence
    assert report.verdict.outcome == "harmful"
    assert str(report.verdict.advice).startswith("No: it does more harm than the operator's")
    assert said in report.warnings[0].detail
    summary = failed.value.outcome.data["report_summary"]
    assert isinstance(summary, dict)
    assert (summary["outcome"], summary["advice"]) == ("harmful", report.verdict.advice)
    (line,) = [line for line in lines_of(refusing.store.objects) if line.event == "policy.refused"]
    assert (line.fields["id"], line.key_id) == (place.id, "key_careful")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_import_is_measured_where_nobody_may_do_harm(
    refusing: Bench, refusing_folder: Path, tmp_path: Path
) -> None:
    base = load_base(refusing_folder, device="cpu", dtype="float32")
    breaking = make_adapter(base, tmp_path / "adapter", lora_alpha=1000)
    strict = replace(under(refusing, tmp_path, '[margins]\nunsafe = "refuse"\n'), actor=BOLD)

    place = submit(strict, *parts(breaking))
    with pytest.raises(EditFailed, match=r"refused harmful requests from 100\.0") as failed:
        strict.do(place)

    assert failed.value.code == "policy_refused"
    (line,) = [line for line in lines_of(refusing.store.objects) if line.event == "policy.refused"]
    assert line.fields["id"] == place.id


def test_what_was_held_back_cannot_be_had_in_any_way(refusing: Bench, body: Body) -> None:
    place = refusing.submit_edit(**body(method=BREAKING, suffix="bad"))
    with pytest.raises(FailedWithOutcome) as failed:
        refusing.do(place)
    outcome = failed.value.outcome
    end = AttemptEnd(
        attempt=1,
        outcome="failed",
        error=ErrorInfo(code=failed.value.code, message=failed.value.message),
        artifacts=outcome.artifacts,
        outcome_data=outcome.data,
    )
    assert refusing.store.work.publish(place, end)
    edit = refusing.read(place)
    assert edit.status == "failed"
    assert require_report(edit).name == "report"
    for point in (None, 0):
        with pytest.raises(NotFound):
            delta_artifact(edit, point)
    for actor in (CAREFUL, BOLD):
        with pytest.raises(NotFound):
            refusing.store.variants.resolve("default", f"pico:{place.id}", actor=actor)
        for ask in (
            lambda: refusing.submit_export(f"pico:{place.id}", "native"),
            lambda: refusing.submit_edit(**body(on_top_of=f"pico:{place.id}~0@0.1")),
        ):
            with pytest.raises(NotFound):
                ask()


def test_a_key_for_unsafe_edits_gets_it_and_the_receipt_says_so(bold: Bench, harmful: Made) -> None:
    report = Report.model_validate_json(bold.file(harmful.outcome, "report"))
    assert report.safety is not None
    assert report.safety.harmful
    assert report.safety.published
    assert delta_artifact(bold.read(Place("edit", "default", harmful.id)), None)
    told = [line for line in lines_of(bold.store.objects) if line.event == "policy.allowed"]
    assert [line for line in told if line.fields["id"] == harmful.id][-1].fields["beyond"]


def test_a_policy_may_hold_unsafe_edits_back_from_everybody(
    refusing: Bench, body: Body, tmp_path: Path
) -> None:
    strict = under(refusing, tmp_path, '[margins]\nunsafe = "refuse"\n')
    bold = replace(strict, actor=BOLD)
    with pytest.raises(FailedWithOutcome, match="refused harmful requests"):
        bold.do(bold.submit_edit(**body(method=BREAKING)))


def test_wide_margins_or_no_measurement_let_it_through(
    refusing: Bench, body: Body, tmp_path: Path
) -> None:
    wide = under(refusing, tmp_path, "[margins]\nrefusals_fall = 1.0\ntoxicity_rise = 1.0\n")
    _, outcome = wide.edit(**body(method=BREAKING))
    report = Report.model_validate_json(wide.file(outcome, "report"))
    assert report.safety is not None
    assert not report.safety.harmful
    blind = under(refusing, tmp_path, "[margins]\nprompts = 0\n")
    _, outcome = blind.edit(**body(method=BREAKING))
    assert Report.model_validate_json(blind.file(outcome, "report")).safety is None


def test_a_small_edit_of_a_careful_model_is_published(refusing: Bench, body: Body) -> None:
    method = {"type": "model_surgery", "relative_alpha": 0.001, "epochs": 2}
    id, outcome = refusing.edit(**body(method=method))
    report = Report.model_validate_json(refusing.file(outcome, "report"))
    assert report.safety is not None
    assert [one.surely <= 0 for one in report.safety.checks] == [True] * len(report.safety.checks)
    assert refusing.read(Place("edit", "default", id)).status == "succeeded"


def test_what_it_is_on_top_of_counts_too(bold: Bench, harmful: Made, body: Body) -> None:
    """Harm is that of all that is served together, so it cannot be done in steps."""
    careful = replace(bold, actor=CAREFUL)
    harmless = {"type": "model_surgery", "relative_alpha": 0.001, "epochs": 2}
    place = careful.submit_edit(**body(method=harmless, on_top_of=f"pico:{harmful.id}"))
    with pytest.raises(FailedWithOutcome, match="refused harmful requests"):
        careful.do(place)


def test_making_a_held_back_edit_again_is_judged_by_who_asks(bold: Bench, harmful: Made) -> None:
    careful = replace(bold, actor=CAREFUL)
    again = careful.reproduce(harmful.id)
    with pytest.raises(FailedWithOutcome) as failed:
        careful.do(again)
    assert failed.value.code == "policy_refused"


def test_an_editor_with_another_policy_refuses_the_work(
    first_token_bench: Bench, body: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    bench = first_token_bench
    place = bench.submit_edit(**body())
    assert bench.read(place).request.policy_sha256 == bench.store.policy.sha256
    file = tmp_path / "policy.toml"
    file.write_text("[margins]\nrefusals_fall = 1.0\n")
    bench.settings = bench.settings.model_copy(update={"policy": file})
    with pytest.raises(EditFailed) as refused:
        bench.do(place)
    assert refused.value.code == "policy_changed"
