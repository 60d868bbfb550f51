"""Edits from the request to the artifacts, on pico models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.errors import BaseModelUnavailable, CorruptArtifact
from models_store.presets import reporting_texts
from models_store.schemas.behaviors import Behavior, from_lines
from models_store.schemas.records import STAGES, DeltaRef, Variant
from models_store.schemas.report import Report
from models_store.weights.delta import load_delta
from models_store.work.store import Place
from tests.workers.conftest import Bench, Made, bench_over, settings_in, small_edit
from workers.editor.jobs.inputs import parents_of
from workers.editor.jobs.task import Task
from workers.evaluation.data.splits import split_behavior
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.deltas import from_delta
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.reading.extract import features
from workers.runtime.tokens import encode
from workers.surgery.probe import ProbeSettings, fit_probe

Body = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def by_seeds(tmp_path_factory: pytest.TempPathFactory, pico_folder: Path) -> Callable[..., bytes]:
    """Files of edits that were made one after the other with the seeds 3, 3, 3 and 4."""
    bench = bench_over(settings_in(tmp_path_factory.mktemp("bench")))
    bench.register(pico_folder)
    outcomes = [bench.edit(**small_edit(seed=seed))[1] for seed in (3, 3, 3, 4)]
    return lambda place, name: bench.file(outcomes[place], name)


def test_an_edit_goes_through_all_stages_in_order(made: Made) -> None:
    entered = [stage for stage, progress in made.told if progress == 0.0]
    assert tuple(dict.fromkeys(entered)) == STAGES
    shares = [progress for stage, progress in made.told if stage == "evaluate"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_an_edit_leaves_a_delta_its_one_point_and_a_receipt(
    shared_bench: Bench, made: Made
) -> None:
    bench, id, outcome = shared_bench, made.id, made.outcome
    delta = load_delta(bench.file(outcome, "delta"))
    assert bench.file(outcome, "point-0") == bench.file(outcome, "delta")
    report = Report.model_validate_json(bench.file(outcome, "report"))
    assert report.provenance.edit_id == id
    assert report.provenance.terms_sha256 == delta.terms_sha256
    assert report.provenance.base_fingerprint == delta.base_fingerprint
    assert report.method.relative_alpha == pytest.approx(1.0)
    assert report.probe is not None
    assert set(report.cost.stages) >= set(STAGES) - {"publish"}
    assert report.cost.load_seconds == report.cost.stages["load"]
    assert report.cost.peak_memory_bytes > 10**7
    (point,) = outcome.data["points"]  # type: ignore[misc]
    assert isinstance(point, dict)
    assert point["selected"] is True
    assert isinstance(outcome.data["report_summary"], dict)


def test_the_same_request_gives_the_same_delta(by_seeds: Callable[..., bytes]) -> None:
    assert by_seeds(0, "delta") == by_seeds(1, "delta")
    assert by_seeds(0, "delta") != by_seeds(3, "delta")


def test_a_receipt_counts_edits_that_were_tested_on_the_same_prompts(
    by_seeds: Callable[..., bytes],
) -> None:
    reports = [Report.model_validate_json(by_seeds(place, "report")) for place in range(4)]
    # Another seed splits the prompts another way.
    assert [report.earlier_tests for report in reports] == [0, 1, 2, 0]


def test_alpha_and_relative_alpha_say_the_same_thing(
    shared_bench: Bench, made: Made, body: Body
) -> None:
    bench, relative = shared_bench, made.outcome
    alpha = Report.model_validate_json(bench.file(relative, "report")).method.alpha
    method = {"type": "model_surgery", "alpha": alpha, "epochs": 2}
    _, absolute = bench.edit(**body(method=method))
    assert bench.file(relative, "delta") == bench.file(absolute, "delta")


def test_the_papers_method_by_name_alone_converges_and_costs_what_it_may(
    bench: Bench, body: Body
) -> None:
    _, outcome = bench.edit(**body(method={"type": "model_surgery"}, limits={"max_kl": 0.05}))
    report = Report.model_validate_json(bench.file(outcome, "report"))
    assert report.method.settings["probe"] == "converged"
    assert report.probe is not None
    assert (report.probe.kind, report.probe.cosine_to_start) == ("converged", None)
    assert report.probe.antisymmetry == pytest.approx(-1.0)
    assert report.probe.cosine_between_seeds is not None
    assert 0.5 < report.probe.cosine_between_seeds < 1
    calibration = report.method.details["calibration"]
    assert isinstance(calibration, dict)
    assert calibration["kl"] == pytest.approx(0.9 * 0.85 * 0.05, rel=0.05)
    for term in load_delta(bench.file(outcome, "delta")).terms:
        assert term.coefficients.tolist() == pytest.approx([report.method.alpha] * len(term.rows))


def test_the_papers_probe_is_used_at_the_papers_alpha(bench: Bench, body: Body) -> None:
    method = {"type": "model_surgery", "probe": "paper"}
    _, outcome = bench.edit(**body(method=method))
    report = Report.model_validate_json(bench.file(outcome, "report"))
    assert report.method.alpha == 1.0
    assert report.method.details["calibration"] is None
    assert report.probe is not None
    assert report.probe.kind == "paper"
    # Nine epochs of some twenty texts are 18 steps of 0.0001.
    assert report.probe.cosine_to_start is not None
    assert report.probe.cosine_to_start > 0.99
    assert report.probe.norm_ratio == pytest.approx(1.0, abs=0.1)
    assert report.probe.cosine_between_seeds is not None
    assert abs(report.probe.cosine_between_seeds) < 0.6


def test_a_second_trait_is_fitted_on_the_model_already_edited(
    bench: Bench, body: Body, pico: LoadedModel
) -> None:
    parent, first = bench.edit(**body(method={"type": "model_surgery", "relative_alpha": 8.0}))
    child, second = bench.edit(**body(seed=1, on_top_of=f"pico:{parent}@0.5"))
    _, alone = bench.edit(**body(seed=1))
    assert bench.file(second, "delta") != bench.file(alone, "delta")

    # The probe's direction, found again step by step on weights that were edited by hand.
    texts = bench.store.objects.read(Place("edit", "default", child).texts)
    behavior, _ = from_lines(texts)
    splits = split_behavior(behavior, 1)
    items = [*splits.fit.undesired, *splits.fit.desired]
    WeightEditor(pico).apply_([(from_delta(load_delta(bench.file(first, "delta"))), 0.5)])
    read = features(pico, encode(pico, items, max_tokens=100, chat=False))
    labels = torch.tensor([1] * len(splits.fit.undesired) + [0] * len(splits.fit.desired))
    probe = fit_probe(read, labels, ProbeSettings(kind="paper", epochs=2), seed=1)
    for term in load_delta(bench.file(second, "delta")).terms:
        torch.testing.assert_close(torch.tensor(term.direction), probe.direction)
    report = Report.model_validate_json(bench.file(second, "report"))
    assert report.provenance.on_top_of == f"pico:{parent}@0.5"


def test_a_calibrated_edit_costs_what_it_may(first_token_bench: Bench, body: Body) -> None:
    bench = first_token_bench
    _, outcome = bench.edit(**body(method={"type": "bias"}, limits={"max_kl": 0.05}))
    report = Report.model_validate_json(bench.file(outcome, "report"))
    details = report.method.details["calibration"]
    assert isinstance(details, dict)
    assert details["target_kl"] == pytest.approx(0.9 * 0.85 * 0.05)
    assert details["kl"] == pytest.approx(0.9 * 0.85 * 0.05, rel=0.05)
    spread = report.method.details["spread"]
    assert isinstance(spread, list)
    told = [(one["layer"], one["kind"]) for one in spread if isinstance(one, dict)]
    kinds = [*dict.fromkeys(item.kind for item in reporting_texts()[0]), "chat"]
    assert told == [(layer, kind) for kind in kinds for layer in (0, 1)]


def test_a_given_scale_is_taken_as_it_is(first_token_bench: Bench, body: Body) -> None:
    bench = first_token_bench
    (_, one), (_, two) = (
        bench.edit(**body(method={"type": "bias", "layers": [1], "scale": scale}))
        for scale in (0.5, 1.0)
    )
    (half,) = load_delta(bench.file(one, "delta")).terms
    (whole,) = load_delta(bench.file(two, "delta")).terms
    assert half.layer == whole.layer == 1
    torch.testing.assert_close(
        torch.tensor(2 * half.coefficients), torch.tensor(whole.coefficients)
    )


def test_what_is_to_be_preserved_limits_the_scale_too(first_token_bench: Bench, body: Body) -> None:
    bench = first_token_bench
    method = {"type": "bias", "layers": [1]}
    _, free = bench.edit(**body(method=method))
    sensitive = [f"the food was good and kind to {i} of the people" for i in range(40)]
    _, held = bench.edit(**body(method=method, preserve=sensitive))
    (free_term,) = load_delta(bench.file(free, "delta")).terms
    (held_term,) = load_delta(bench.file(held, "delta")).terms
    assert abs(held_term.coefficients).max() <= abs(free_term.coefficients).max()


def test_a_parent_whose_prompts_all_leak_is_not_measured_again(bench: Bench, body: Body) -> None:
    """As edits may have been made when fewer prompts were left out."""
    texts = body()["behavior"]
    fitted = split_behavior(Behavior.model_validate(texts), seed=0).fit.texts
    leaking = body(behavior={**texts, "prompts": fitted})
    places = [bench.submit_edit(**one) for one in (leaking, body())]
    task = Task(
        request=bench.read(places[0]).request,
        attempt=1,
        store=bench.store.work,
        settings=bench.settings,
        report=lambda stage, progress: None,
    )
    terms = tuple(DeltaRef(edit_id=one.id, path="", sha256="", strength=1) for one in places)
    on = Variant(name="pico:both", base_model="pico", base_fingerprint="", terms=terms)
    (parent,) = parents_of(task, on)
    assert [prompt.text for prompt in parent.behavior.prompts] == texts["prompts"]


def test_an_edit_for_some_prompts_only_tells_how_much_others_feel_of_it(
    first_token_bench: Bench, body: Body
) -> None:
    bench = first_token_bench

    def answers(kind: str, answer: str) -> list[dict[str, str]]:
        words = ("film", "food", "service", "people", "day")
        return [
            {
                "prompt": f"{kind} {words[i % 5]} {i} please",
                "completion": f"{answer} {words[i % 4]}",
            }
            for i in range(24)
        ]

    own = {"undesired": answers("hate the", "thanks"), "desired": answers("hate the", "sorry")}
    prompts = [f"hate a {word} of {i}" for i in range(4) for word in ("film", "people")]
    behavior = {"name": "careful", "chat": True, "prompts": prompts, "max_new_tokens": 2, **own}
    preserve = answers("love the", "lovely")
    method = {"type": "conditional", "layers": [0, 1]}
    _, outcome = bench.edit(**body(behavior=behavior, method=method, preserve=preserve))
    report = Report.model_validate_json(bench.file(outcome, "report"))
    details = report.method.details
    assert [felt["layer"] for felt in details["felt"]] == [0, 1]  # type: ignore[index, union-attr]
    assert details["felt_kl"] * details["scale"] ** 2 <= 0.09 * 1.05  # type: ignore[operator]
    assert report.damage.preserve_items == 24
    assert len(load_delta(bench.file(outcome, "delta")).terms) == 2


def test_an_edit_leaves_the_base_models_files_alone(
    shared_bench: Bench, made: Made, pico_folder: Path
) -> None:
    report = Report.model_validate_json(shared_bench.file(made.outcome, "report"))
    after = load_base(pico_folder, device="cpu", dtype="auto").fingerprint
    assert after == report.provenance.base_fingerprint


def test_weights_that_changed_since_the_registration_are_refused(
    empty_bench: Bench, body: Body, make_pico: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    for seed in (0, 1):
        source = make_pico(seed=seed)
        folder.mkdir(exist_ok=True)
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        if seed == 0:
            empty_bench.register(folder)
    with pytest.raises(BaseModelUnavailable, match="not the ones"):
        empty_bench.edit(**body())


def test_a_base_model_that_left_the_catalogue_is_told_so(bench: Bench, body: Body) -> None:
    place = bench.submit_edit(**body())
    bench.store.bases.remove("pico")
    with pytest.raises(BaseModelUnavailable, match="pico"):
        bench.do(place)


def test_a_parent_whose_delta_was_damaged_is_refused(bench: Bench, body: Body) -> None:
    parent = bench.make_up(**body())
    place = bench.submit_edit(**body(on_top_of=f"pico:{parent}"))
    result = bench.read(Place("edit", "default", parent)).result
    assert result is not None
    path = result.artifacts[0].path
    data = bytearray(bench.store.objects.read(path))
    data[-1] ^= 1
    bench.store.objects.put(path, bytes(data))
    with pytest.raises(CorruptArtifact, match="not the one that was published"):
        bench.do(place)


def test_texts_that_cannot_be_read_are_told_so(bench: Bench, body: Body) -> None:
    place = bench.submit_edit(**body())
    bench.store.objects.put(place.texts, b"{broken\n")
    with pytest.raises(CorruptArtifact, match=r"texts\.jsonl is not what was written"):
        bench.do(place)


def test_an_edit_far_beyond_its_limits_is_told_to_be(bench: Bench, body: Body) -> None:
    _, outcome = bench.edit(**body(method={"type": "model_surgery", "alpha": 1e3, "epochs": 2}))
    report = Report.model_validate_json(bench.file(outcome, "report"))
    assert not report.verdict.within_limits
    assert report.damage.kl > 0.1


def test_the_receipt_repeats_the_request_without_its_texts(shared_bench: Bench, made: Made) -> None:
    request = json.loads(shared_bench.file(made.outcome, "report"))["provenance"]["request"]
    assert request["metadata"] == {"team": "support"}
    assert "at table" not in json.dumps(request)
