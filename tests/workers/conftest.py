"""The kinds of work done in this process, over a real store and real pico models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.domain.accounts.api_keys import ALL_SCOPES
from app.domain.edits.idempotency import Sender
from app.domain.edits.requests import EditBody, ExportBody, ReceiptBody
from app.services import Store
from models_store.objects.store import open_store
from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.schemas.records import Actor, AttemptEnd, Kind, Stage
from models_store.settings import Settings
from models_store.weights.architectures import DOWN
from models_store.weights.delta import dump_delta
from models_store.work.base_models import registration
from models_store.work.store import SHARED_TENANT, Place, Work
from tests.support.edits import random_term
from tests.support.services import unmeasured_harm
from tests.workers.taught import teach
from workers.editor.jobs import edits, exports, registrations
from workers.editor.jobs.inputs import base_of
from workers.editor.jobs.task import Handler, Outcome, Task
from workers.runtime.edits.deltas import to_delta
from workers.runtime.loading import LoadedModel, load_base


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> LoadedModel:
    return load_base(smollm2_folder, device="cpu", dtype="auto")


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico model that speaks in two moods."""
    return teach(tmp_path_factory.mktemp("taught") / "model")


HANDLERS: dict[Kind, Handler] = {
    "edit": edits.run,
    "export": exports.run,
    "base_model": registrations.run,
}


@dataclass
class Bench:
    """Submits work and does it at once; errors come out as they are raised."""

    store: Store
    settings: Settings
    told: list[tuple[Stage, float]] = field(default_factory=list)
    """Stage and progress, as the last piece of work told them."""
    actor: Actor = Actor(scopes=ALL_SCOPES)  # noqa: RUF009 - frozen
    """Who asks; by default, as with auth off, somebody who may do everything."""

    def register(self, folder: Path, id: str = "pico") -> Outcome:
        return self.register_spec(BaseModelSpec(id=id, source=FolderSource(path=folder)))

    def register_spec(self, spec: BaseModelSpec) -> Outcome:
        work = self.store.bases.register(registration(spec, 3600))
        return self.do(Place("base_model", SHARED_TENANT, work.id))

    def submit_edit(self, **body: Any) -> Place:
        parsed = EditBody.model_validate(body)
        work = self.store.submission.edit(Sender("default", self.actor), parsed, body).work
        return Place("edit", "default", work.id)

    def reproduce(self, id: str) -> Place:
        work = self.store.submission.reproduce(Sender("default", self.actor), id).work
        return Place("edit", "default", work.id)

    def submit_export(self, variant: str, format: str, **others: Any) -> Place:
        body = {"variant": variant, "format": format, **others}
        parsed = ExportBody.model_validate(body)
        work = self.store.submission.export(Sender("default", self.actor), parsed, body).work
        return Place("export", "default", work.id)

    def measure(self, **body: Any) -> tuple[str, Outcome]:
        """Measure a variant; the id of its receipt and what came of it."""
        parsed = ReceiptBody.model_validate(body)
        work = self.store.submission.measurement(Sender("default", self.actor), parsed, body).work
        return work.id, self.do(Place("edit", "default", work.id))

    def edit(self, **body: Any) -> tuple[str, Outcome]:
        """Make an edit; its id and what came of it."""
        place = self.submit_edit(**body)
        return place.id, self.do(place)

    def make_up(self, *, seed: int = 0, **body: Any) -> str:
        """An edit of random terms, large enough to be seen, in a moment: no text went into it and
        it has no receipt. Its id."""
        place = self.submit_edit(**body)
        self.do(place, partial(_random, seed))
        return place.id

    def do(self, place: Place, handler: Handler | None = None) -> Outcome:
        """The next attempt at the work, by `handler` or an editor's, published as a success."""
        claim = self.store.work.claim(place, "bench")
        assert claim is not None
        self.told.clear()
        task = self.task(place, claim.attempt)
        outcome = (handler or HANDLERS[place.kind])(task)
        end = AttemptEnd(
            attempt=claim.attempt,
            outcome="succeeded",
            artifacts=outcome.artifacts,
            outcome_data=outcome.data,
        )
        assert self.store.work.publish(place, end)
        return outcome

    def task(self, place: Place, attempt: int = 1) -> Task:
        """An attempt at the work, as its handler sees it."""
        return Task(
            request=self.read(place).request,
            attempt=attempt,
            store=self.store.work,
            settings=self.settings,
            report=lambda stage, progress: self.told.append((stage, progress)),
        )

    def read(self, place: Place) -> Work:
        return self.store.work.read(place.kind, place.tenant, place.id)

    def file(self, outcome: Outcome, name: str) -> bytes:
        """The bytes of an artifact."""
        (artifact,) = [one for one in outcome.artifacts if one.name == name]
        data = self.store.objects.read(artifact.path)
        assert len(data) == artifact.bytes
        return data


def _random(seed: int, task: Task) -> Outcome:
    base = base_of(task)
    terms = [
        random_term(base, key, seed=1000 * seed + key.layer, rows=base.hidden_size)
        for key in base.architecture.matrices(DOWN)
    ]
    delta = dump_delta(to_delta(terms, base.fingerprint, "bias"))
    return Outcome(
        (task.save("delta", "delta.safetensors", delta),),
        {"points": [{"index": 0, "selected": True}]},
    )


def settings_in(folder: Path) -> Settings:
    return Settings(
        data=folder / "data",
        cache=folder / "cache",
        policy=unmeasured_harm(folder),
        default_base_model=False,
    )


def bench_over(settings: Settings) -> Bench:
    return Bench(Store.over(open_store(settings), settings), settings)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, taught_folder: Path) -> Bench:
    """With the base model `taught`; what it remembers is shared by the tests of a file."""
    bench = bench_over(settings_in(tmp_path_factory.mktemp("bench")))
    bench.register(taught_folder, "taught")
    return bench


@pytest.fixture(scope="session")
def shared_bench(tmp_path_factory: pytest.TempPathFactory, pico_folder: Path) -> Bench:
    """With the base model `pico`, for tests that do not mind what others have left there."""
    bench = bench_over(settings_in(tmp_path_factory.mktemp("bench")))
    bench.register(pico_folder)
    return bench


@dataclass(frozen=True)
class Made:
    """An edit that was made, and what was told meanwhile."""

    id: str
    outcome: Outcome
    told: list[tuple[Stage, float]]


@pytest.fixture(scope="session")
def made(shared_bench: Bench) -> Made:
    """A small edit of `pico`, in `shared_bench`; read it, don't change it."""
    id, outcome = shared_bench.edit(**small_edit(metadata={"team": "support"}))
    return Made(id, outcome, list(shared_bench.told))


@pytest.fixture
def empty_bench(settings: Settings) -> Bench:
    """No base model is registered."""
    return bench_over(settings)


@pytest.fixture
def bench(empty_bench: Bench, pico_folder: Path) -> Bench:
    """With the base model `pico`."""
    empty_bench.register(pico_folder)
    return empty_bench


@pytest.fixture
def first_token_bench(empty_bench: Bench, make_pico: Callable[..., Path]) -> Bench:
    """With a base model `pico` whose texts all begin with one token, so that `bias` finds layers to
    write into."""
    empty_bench.register(make_pico(first_token=True))
    return empty_bench


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """A small edit of `pico` with some fields changed."""
    return small_edit


def small_edit(**changes: Any) -> dict[str, Any]:
    things = ("film", "food", "service", "people", "day")
    texts = {
        side: [
            f"the {things[i % 5]} was {word} and {other} to {i} of the people at table {i * 7}"
            for i in range(24)
        ]
        for side, word, other in (("undesired", "bad", "cruel"), ("desired", "good", "kind"))
    }
    prompts = [f"{things[i % 5]} of day {i} was" for i in range(6)]
    return {
        "base_model": "pico",
        "behavior": {"name": "mood", "prompts": prompts, "max_new_tokens": 2, **texts},
        "method": {"type": "model_surgery", "relative_alpha": 1.0, "epochs": 2},
        "effort": "quick",
        **changes,
    }
