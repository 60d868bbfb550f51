"""Texts looked at by a resident pico model, over the generator's internal port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sklearn.metrics import roc_auc_score

from models_store.objects.store import open_store
from models_store.schemas.behaviors import Behavior, reference
from models_store.schemas.catalogue import FolderSource
from models_store.schemas.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.schemas.items import CompletionItem
from models_store.schemas.methods import Auto, Method
from models_store.settings import Settings
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.data.splits import split_behavior
from workers.generator import examine
from workers.generator.engine.builtin import BuiltIn
from workers.generator.engine.engine import Engine
from workers.generator.server import create_server
from workers.generator.shelf import Shelf
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import features
from workers.runtime.tokens import encode
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.model_surgery import ModelSurgery

PROMPTS = [f"food at table {number} was" for number in range(70)]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    settings = Settings(data=tmp_path, cache=tmp_path / "cache", dtype="float32")
    return Shelf(settings, open_store(settings))


@pytest.fixture
def engine() -> Any:
    engine = Engine()
    yield engine
    engine.close()


def request(
    base: LoadedModel, asked: Behavior, method: Method | None = None, **changes: Any
) -> EstimateRequest:
    fields = {
        "base_model": "pico",
        "base_fingerprint": base.fingerprint,
        "source": FolderSource(path=base.folder),
        "on_top_of": None,
        "behavior": asked,
        "ref": reference(asked),
        "in_place": True,
        "preserve": (),
        "method": method or Bias(layers=(0, 1)),
        "effort": "quick",
        "seed": 0,
        **changes,
    }
    return EstimateRequest(**fields)


def test_an_estimate_is_answered_over_the_internal_port(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    asked = request(pico, behavior(60, prompts=PROMPTS, max_new_tokens=8))
    with TestClient(
        create_server(own := BuiltIn(shelf, engine), own, ""), base_url="http://127.0.0.1"
    ) as client:
        answer = client.post("/internal/estimate", json=asked.model_dump(mode="json"))

    found = Estimate.model_validate_json(answer.content)
    assert found.splits == split_behavior(asked.behavior, 0).counts()
    assert found.separability.words_auc > 0.9
    assert found.separability.probe_auc is not None
    assert 0.0 <= found.separability.probe_auc <= 1.0
    assert found.separability.heldout_texts == found.splits.heldout_undesired * 2
    assert found.texts_read == 2 * (found.splits.fit_undesired + found.splits.heldout_undesired)
    seconds = found.seconds
    assert seconds.search == 0
    assert seconds.total == pytest.approx(seconds.fit + seconds.test, abs=0.2)
    assert min(seconds.fit, seconds.test) > 0
    assert found.memory_bytes > 500_000_000
    assert 1_000 < found.delta_bytes < 5_000
    codes = [remark.code for remark in found.warnings]
    assert codes.count("few_texts") == 2
    assert "no_prompts" not in codes


def test_no_more_texts_are_read_than_are_needed(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    asked = request(pico, behavior(400, prompts=PROMPTS), seed=3)

    found = examine.estimate(shelf, engine, asked)

    # 200 a side, 60 : 15 of fit and held-out texts.
    assert found.texts_read == 2 * examine.MOST_TEXTS
    assert found.separability.heldout_texts == 2 * 40
    assert found.splits.fit_undesired == 240


def test_reading_stops_when_it_takes_too_long(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    asked = request(pico, behavior(100, prompts=PROMPTS))

    found = examine.estimate(shelf, engine, asked, read_seconds=0.0)

    assert found.texts_read == examine.FEWEST_TEXTS
    assert found.separability.heldout_texts > 0


def test_a_named_behavior_is_pointed_to_by_its_name(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    asked = request(pico, behavior(30), in_place=False)

    found = examine.estimate(shelf, engine, asked)

    assert {remark.pointer for remark in found.warnings} == {"/behavior"}
    assert {"no_prompts", "underpowered"} <= {remark.code for remark in found.warnings}


def test_a_search_takes_longer_and_more_memory(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    texts = behavior(60, prompts=PROMPTS)
    one, several = (
        examine.estimate(shelf, engine, request(pico, texts, method))
        for method in (ModelSurgery(), Auto())
    )

    assert several.seconds.search > 0
    assert several.seconds.fit > one.seconds.fit
    assert several.memory_bytes > one.memory_bytes
    assert several.delta_bytes > one.delta_bytes


def test_a_behavior_that_cannot_be_split_is_refused_with_its_field(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    joined = [{"text": text, "pair_id": "all"} for text in sentences("kind", 30)]
    asked = request(pico, behavior(30, desired=joined))
    with TestClient(
        create_server(own := BuiltIn(shelf, engine), own, ""), base_url="http://127.0.0.1"
    ) as client:
        answer = client.post("/internal/estimate", json=asked.model_dump(mode="json"))

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/behavior/undesired"]


def test_features_read_in_pieces_are_those_read_at_once(engine: Engine, pico: LoadedModel) -> None:
    texts = encode(pico, sentences("kind", 90), max_tokens=100, chat=False)
    reading = examine._Reading(SidePath(pico), texts, [], enough=len(texts))

    engine.run(reading.pieces(), timeout=60)

    assert reading.done == 90
    assert reading.tokens == sum(map(len, texts))
    assert (reading.features - features(pico, texts)).abs().max() < 1e-5


def pairs(side: str, count: int) -> tuple[CompletionItem, ...]:
    return tuple(
        CompletionItem(prompt=f"what is {number}?", completion=text, pair_id=f"pair-{number}")
        for number, text in enumerate(sentences(side, count))
    )


def test_pairs_are_judged_by_probes_that_did_not_see_them(
    shelf: Shelf, engine: Engine, pico: LoadedModel
) -> None:
    asked = ProbeRequest(
        base_model="pico",
        base_fingerprint=pico.fingerprint,
        source=FolderSource(path=pico.folder),
        chat=True,
        undesired=pairs("cruel", 40),
        desired=pairs("kind", 40),
        seed=1,
    )
    with TestClient(
        create_server(own := BuiltIn(shelf, engine), own, ""), base_url="http://127.0.0.1"
    ) as client:
        answer = client.post("/internal/probe", json=asked.model_dump(mode="json"))

    scores = ProbeScores.model_validate_json(answer.content)
    assert (len(scores.undesired), len(scores.desired)) == (40, 40)
    # The same texts on both sides: nothing that was learnt from a pair's other half may tell.
    same = asked.model_copy(update={"desired": asked.undesired})
    blind = examine.probe_scores(shelf, engine, same)
    assert blind.undesired == blind.desired
    labels = [1] * 40 + [0] * 40
    assert roc_auc_score(labels, [*scores.undesired, *scores.desired]) > 0.5
