"""Which base models an idle editor prepares, and what edits have of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.schemas.report import Report
from models_store.work.base_models import registration
from tests.workers.conftest import Bench, bench_over
from workers.editor.preparing import run


def registered(bench: Bench, *ids: str) -> list[str]:
    """The ids of the registrations of base models."""
    return [bench.store.bases.get(id).work.id for id in ids]


@pytest.mark.long
def test_an_edit_of_a_preset_reuses_what_its_editor_prepared(first_token_bench: Bench) -> None:
    bench = bench_over(first_token_bench.settings.model_copy(update={"policy": None}))
    assert list(run(bench.settings, ())) == registered(bench, "pico")
    prepared = bench.store.objects.files("cache")
    _, outcome = bench.edit(
        base_model="pico", behavior="negativity", method={"type": "bias"}, effort="quick"
    )
    report = Report.model_validate_json(bench.file(outcome, "report"))
    assert report.cost.cached == ("first tokens", "generations")
    assert report.safety is not None
    assert bench.store.objects.files("cache") == prepared


@pytest.fixture
def spoilt(empty_bench: Bench, pico_folder: Path, tmp_path: Path) -> Bench:
    """With base models in two pools, which cannot be loaded any more: that takes no time."""
    folder = Path(shutil.copytree(pico_folder, tmp_path / "model"))
    source = FolderSource(path=folder)
    for id, pool in (("first", "cpu"), ("second", "cpu"), ("elsewhere", "gpu")):
        empty_bench.register_spec(BaseModelSpec(id=id, source=source, pool=pool))
    waiting = BaseModelSpec(id="waiting", source=source)
    empty_bench.store.bases.register(registration(waiting, 3600))
    (folder / "config.json").unlink()
    return empty_bench


def test_base_models_of_the_pool_have_their_turn_the_latest_first(spoilt: Bench) -> None:
    assert list(run(spoilt.settings, ())) == registered(spoilt, "second", "first")
    others = spoilt.settings.model_copy(update={"pool": "gpu"})
    assert list(run(others, ())) == registered(spoilt, "elsewhere")


def test_those_that_are_prepared_are_left_out(spoilt: Bench) -> None:
    first, second = registered(spoilt, "first", "second")
    assert list(run(spoilt.settings, {second})) == [first]
    assert list(run(spoilt.settings, {first, second})) == []


def test_those_whose_files_are_on_another_machine_are_left_to_it(
    spoilt: Bench, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "model")
    assert list(run(spoilt.settings, ())) == []


def test_a_store_that_is_away_is_no_failure(spoilt: Bench) -> None:
    shutil.rmtree(spoilt.settings.data / "store")
    assert list(run(spoilt.settings, ())) == []
