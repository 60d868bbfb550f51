"""What an edit would take, asked over HTTP and answered by a real generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.settings import Settings
from models_store.work.base_models import registration
from tests.app.support.generator import FakeGenerator
from tests.app.support.sample_report import sample_report
from tests.app.support.worker import Worker, edit_body
from tests.support.services import Api
from tests.workers.generator.running import running_generator
from workers.generator.engine.engine import Engine
from workers.runtime.base_models import fingerprint


@pytest.fixture
def real(api: Api, worker: Worker, settings: Settings, pico_folder: Path) -> Iterator[Engine]:
    """A generator of the base model `real`."""
    spec = BaseModelSpec(id="real", source=FolderSource(path=pico_folder))
    work = api.store.bases.register(registration(spec, 3600))
    worker.end_registration(work.id, fingerprint=fingerprint(pico_folder, None))
    client = api.services.live.client
    with running_generator(settings, api.store.objects, client) as engine:
        yield engine


def estimate(api: Api, **changes: Any) -> httpx.Response:
    return api.http.post("/v1/edits/estimate", json=edit_body(base_model="real", **changes))


def test_an_estimate_says_what_the_edit_would_take(api: Api, real: Engine) -> None:
    method = {"type": "bias", "layers": [1]}
    answer = estimate(api, method=method, effort="quick", seed=3, suffix="kinder")

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["object"], found["base_model"], found["effort"]) == ("estimate", "real", "quick")
    assert found["method"]["layers"] == [1]
    assert found["behavior"]["name"] == "tone"
    assert found["splits"]["fit_undesired"] + found["splits"]["scorer_undesired"] < 20
    assert set(found["separability"]) == {
        "probe_auc",
        "words_auc",
        "length_auc",
        "heldout_texts",
        "note",
    }
    assert set(found["seconds"]) == {"fit", "search", "test", "total"}
    assert found["memory_bytes"] > found["delta_bytes"] > 0
    warnings = {warning["code"]: warning for warning in found["warnings"]}
    assert warnings["few_texts"]["pointer"].startswith("/behavior/")
    assert "points" in warnings["underpowered"]["detail"]
    assert 0.2 < found["smallest_effect"] <= 1


def test_nothing_is_queued_or_written(api: Api, real: Engine) -> None:
    def written() -> set[str]:
        return {info.path for info in api.store.objects.files("")}

    before = written()

    assert estimate(api, suffix="kinder").status_code == 200

    assert written() == before
    assert api.http.get("/v1/edits").json()["data"] == []


def test_what_an_edit_would_be_refused_for_is_refused_here(api: Api, real: Engine) -> None:
    for changes, pointer in (
        ({"behavior": "sloth"}, "/behavior"),
        ({"method": {"type": "bias", "layers": [7]}}, "/method/layers/0"),
        ({"on_top_of": "real:nobody"}, "/on_top_of"),
        ({"seed": "x"}, "/seed"),
    ):
        answer = estimate(api, **changes)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == pointer
    behavior = edit_body()["behavior"]
    joined = [{"text": text, "pair_id": "one"} for text in behavior["undesired"]]
    answer = estimate(api, behavior={**behavior, "undesired": joined})
    # Only the generator finds this out.
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "pairs_too_large"


def test_without_a_generator_it_is_told_so(api: Api, worker: Worker) -> None:
    answer = api.http.post("/v1/edits/estimate", json=edit_body())

    assert (answer.status_code, answer.json()["code"]) == (503, "no_generator")
    assert "Retry-After" in answer.headers


def test_a_generator_that_answers_nonsense_is_told_from_one_that_is_away(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    answer = api.http.post("/v1/edits/estimate", json=edit_body())
    assert (answer.status_code, answer.json()["code"]) == (502, "generation_failed")

    generator.status, generator.refusal = 503, {"code": "overloaded", "message": "too busy"}
    answer = api.http.post("/v1/edits/estimate", json=edit_body())
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


def test_an_estimate_starts_from_the_receipts_of_edits_like_it(
    api: Api, worker: Worker, generator: FakeGenerator
) -> None:
    report = sample_report()
    like = {"method": {"type": "bias"}, "effort": "quick"}
    for changes, data in (
        (like, report.model_dump_json().encode()),
        ({**like, "effort": "standard"}, report.model_dump_json().encode()),
        ({**like, "method": {"type": "natural"}}, report.model_dump_json().encode()),
        (like, b"{}"),
    ):
        id = api.http.post("/v1/edits", json=edit_body(**changes)).json()["id"]
        worker.claim(id)
        worker.succeed(id, report=data)
    api.http.post("/v1/edits", json=edit_body(**like))  # not made yet

    api.http.post("/v1/edits/estimate", json=edit_body(**like))

    (past,) = generator.requests[-1]["past"]
    assert past["stages"] == report.cost.stages
    assert past["device"] == report.cost.device
    splits = report.splits
    assert past["texts"] == sum(
        getattr(splits, f"{part}_{side}")
        for part in ("fit", "heldout")
        for side in ("undesired", "desired")
    )


def test_completions_go_on_meanwhile(api: Api, real: Engine) -> None:
    body = {"model": "real", "prompt": "the food is", "max_tokens": 8}

    assert api.http.post("/v1/completions", json=body).status_code == 200
    assert estimate(api).status_code == 200
    assert api.http.post("/v1/completions", json=body).status_code == 200


def test_of_a_scorer_alone_it_says_the_cost_and_that_the_texts_are_yet_to_be_made(
    api: Api, real: Engine
) -> None:
    prompts = [f"{number} {number * number} is said to be" for number in range(100)]
    behavior = {"name": "tone", "scorer": "vader", "prompts": prompts, "max_new_tokens": 6}
    answer = estimate(api, behavior=behavior, effort="quick")

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["separability"], found["texts_read"], found["duplicates"]) == (None, 0, 0)
    assert found["splits"]["fit_undesired"] == found["splits"]["heldout_desired"] == 0
    assert found["splits"]["test_prompts"] + found["splits"]["validate_prompts"] == 50
    assert found["seconds"]["fit"] > 0
    warnings = {warning["code"]: warning for warning in found["warnings"]}
    assert warnings["texts_to_be_made"]["pointer"] == "/behavior/scorer"
    assert "few_texts" not in warnings
