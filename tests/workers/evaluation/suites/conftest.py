"""A pico model without and with an edit, and data files made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from models_store.operator.suites import SUITES, Suites
from tests.support.edits import random_edit
from workers.evaluation.statistics import Bootstrap
from workers.evaluation.suites.protocol import ModelPair
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base

Configure = Callable[..., Suites]
WriteLines = Callable[[str, Sequence[object]], Path]


@pytest.fixture(scope="session")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


@pytest.fixture
def pair(base: LoadedModel) -> ModelPair:
    """The model without and with an edit that changes what it writes."""
    return ModelPair(
        before=EditedModel(base),
        after=EditedModel(base).plus(random_edit(base)),
        seed=0,
        bootstrap=Bootstrap(0, 200),
    )


@pytest.fixture
def write_lines(tmp_path: Path) -> WriteLines:
    def write(name: str, lines: Sequence[object]) -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Suites as an operator's file of these tables would configure them."""

    def configured(**tables: dict[str, Any]) -> Suites:
        found = {
            name: SUITES[name].model_validate(table, context={"folder": tmp_path})
            for name, table in tables.items()
        }
        return Suites(found, tmp_path / "cache")

    return configured
