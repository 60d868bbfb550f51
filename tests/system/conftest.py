"""Services that tests share: with a pico model, and with SmolLM2 and an edit of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models_store.schemas.catalogue import SMOLLM2
from models_store.settings import Settings
from tests.system.made_up import fill_store
from tests.system.service import Service, running_service

# The other core is for the tests that run beside these.
ONE_THREAD = {"SCALPEL_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def edited_pico_folder(make_pico: Callable[..., Path]) -> Path:
    """A pico model that `bias` finds layers of to write into."""
    return make_pico(first_token=True, num_hidden_layers=3)


@pytest.fixture(scope="session")
def pico_service(
    tmp_path_factory: pytest.TempPathFactory, edited_pico_folder: Path
) -> Iterator[Service]:
    """`scalpel up`, whose `smollm2-135m-instruct` is a pico model: its edits take seconds."""
    folder = tmp_path_factory.mktemp("pico-service")
    models = folder / "base_models.toml"
    source = f'{{ type = "folder", path = "{edited_pico_folder}" }}'
    models.write_text(f'[[base_model]]\nid = "{SMOLLM2.id}"\nsource = {source}\n')
    settings = {**ONE_THREAD, "SCALPEL_BASE_MODELS": str(models)}
    with running_service(folder / "data", **settings) as running:
        yield running


@dataclass(frozen=True)
class SmolLM2Service:
    """`scalpel up` with SmolLM2 and an edit of it, called `kinder`, that no text went into."""

    service: Service
    edit: str
    """Its id."""


@pytest.fixture(scope="session")
def smollm2_service(
    tmp_path_factory: pytest.TempPathFactory, smollm2_folder: Path
) -> Iterator[SmolLM2Service]:
    data = tmp_path_factory.mktemp("smollm2-service") / "data"
    # Where a CPU has half precision, a row that is one of many may break ties as it does not alone.
    edit = fill_store(Settings(data=data, dtype="float32", threads=1), SMOLLM2, "kinder")
    with running_service(data, **ONE_THREAD, SCALPEL_DTYPE="float32") as running:
        yield SmolLM2Service(running, edit)
