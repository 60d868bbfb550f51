"""Which base model of the catalogue reads what an edit generates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.work.base_models import registration
from models_store.work.store import SHARED_TENANT, Place
from tests.support.pico import save_pico
from tests.workers.conftest import Bench
from workers.editor.jobs.inputs import base_of
from workers.editor.jobs.task import Task
from workers.editor.steps.reader import reader_for
from workers.evaluation.damage.reader import FluencyReader
from workers.runtime.loading import load_base


@pytest.fixture
def reader(bench: Bench, body: Callable[..., dict[str, Any]]) -> Callable[[], FluencyReader]:
    """The reader of an edit of `pico`, by the catalogue as it is when called."""
    place = bench.submit_edit(**body())
    task = Task(
        request=bench.read(place).request,
        attempt=1,
        store=bench.store.work,
        settings=bench.settings,
        report=lambda stage, progress: None,
    )
    base = base_of(task)
    return lambda: reader_for(task, base)


def _register(bench: Bench, id: str, folder: Path, pool: str) -> None:
    spec = BaseModelSpec(id=id, source=FolderSource(path=folder), pool=pool)
    work = bench.store.bases.register(registration(spec, 3600))
    bench.do(Place("base_model", SHARED_TENANT, work.id))


def test_without_another_base_model_the_edits_own_reads(
    reader: Callable[[], FluencyReader],
) -> None:
    assert reader().name == "pico"


def test_the_smallest_other_base_model_reads(
    bench: Bench, reader: Callable[[], FluencyReader], make_pico: Callable[..., Path]
) -> None:
    bench.register(make_pico(seed=5), "a-second")
    assert reader().name == "a-second"
    bench.register(make_pico(seed=6, num_hidden_layers=1), "smaller")
    found = reader()
    assert found.name == "smaller"
    nats, tokens = found.nll(["the food"], [" is good"])
    small = load_base(make_pico(seed=6, num_hidden_layers=1), device="cpu", dtype="float32")
    expected = FluencyReader(small, "smaller").nll(["the food"], [" is good"])
    assert (nats, tokens) == expected


def test_models_that_would_not_do_are_passed_over(
    bench: Bench, reader: Callable[[], FluencyReader], make_pico: Callable[..., Path]
) -> None:
    bench.register(make_pico(), "the-same-weights")
    bench.register(make_pico(seed=1, hidden_size=128, intermediate_size=512), "far-larger")
    _register(bench, "elsewhere", make_pico(seed=2), pool="gpu-80g")
    spec = BaseModelSpec(id="not-ready", source=FolderSource(path=make_pico(seed=3)))
    bench.store.bases.register(registration(spec, 3600))
    assert reader().name == "pico"


def test_a_reader_whose_files_are_gone_leaves_the_reading_to_the_base(
    bench: Bench,
    reader: Callable[[], FluencyReader],
    make_pico: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "moved"
    save_pico(folder, seed=7)
    bench.register(folder, "moved")
    folder.rename(tmp_path / "away")
    found = reader()
    assert found.name == "moved"
    found.nll(["the food"], [" is good"])
    assert found.name == "pico"
