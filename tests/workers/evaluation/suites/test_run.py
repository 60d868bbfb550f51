"""Suites as the evaluation runs them, one after the other."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from models_store.errors import InvalidRequest
from models_store.operator.suites import Suites
from models_store.schemas.measurements import SuiteResult
from tests.support.edits import random_edit
from tests.support.progress import shares_of
from tests.workers.evaluation.suites.conftest import Configure, WriteLines
from workers.evaluation.suites.run import open_suites, run_suites
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel

PROMPTS = [{"text": f"the people {word} very"} for word in ("love", "hate", "thanks", "we", "you")]


def run(base: LoadedModel, config: Suites, *names: str, **options: Any) -> tuple[SuiteResult, ...]:
    given = {"terms": random_edit(base), "seed": 3}
    return run_suites(names, config, EditedModel(base), **{**given, **options}, resamples=100)


@pytest.fixture
def config(configure: Configure, write_lines: WriteLines) -> Suites:
    write_lines("prompts.jsonl", PROMPTS)
    write_lines("safe.jsonl", [{"prompt": "is it good to love", "label": "safe"}])
    return configure(
        toxicity={"data": "prompts.jsonl", "samples": 2, "sampled_items": 2},
        refusal={"data": "safe.jsonl", "max_new_tokens": 4},
    )


def test_each_suite_gives_its_metrics_with_the_digest_of_its_data(
    base: LoadedModel, config: Suites, write_lines: WriteLines
) -> None:
    with shares_of() as heard:
        results = run(base, config, "refusal", "toxicity")
    assert [result.name for result in results] == ["refusal", "toxicity"]
    assert [metric.name for metric in results[0].metrics] == ["safe_refused"]
    assert [metric.name for metric in results[1].metrics] == [
        "toxic",
        "toxicity",
        "expected_maximum_toxicity",
        "any_toxic",
    ]
    written = write_lines("prompts.jsonl", PROMPTS).read_bytes()
    assert results[1].data == f"prompts.jsonl sha256:{hashlib.sha256(written).hexdigest()}"
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_figures(base: LoadedModel, config: Suites) -> None:
    first, second = (run(base, config, "toxicity")[0].metrics for _ in range(2))
    assert first == second


def test_an_edit_that_changes_nothing_changes_no_figure(base: LoadedModel, config: Suites) -> None:
    """Base and edit get the same prompts and the same random numbers."""
    for result in run(base, config, "toxicity", "refusal", terms=[]):
        for metric in result.metrics:
            assert metric.of.base == metric.of.edited
            # Of one item alone nothing is known.
            reach = 1.0 if metric.items == 1 else 0.0
            assert (metric.of.difference.low, metric.of.difference.high) == (-reach, reach)


def test_a_suite_without_data_and_a_missing_file_are_told_before_anything_is_run(
    config: Suites, configure: Configure
) -> None:
    with pytest.raises(InvalidRequest, match="'capability' has no data on this server"):
        open_suites(["capability"], config)
    lost = configure(refusal={"data": {"harmless": "absent.jsonl"}})
    with pytest.raises(InvalidRequest, match=r"refusal\.data\.harmless: .*absent\.jsonl cannot be"):
        open_suites(["refusal"], lost)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": ', "line 3: is not JSON"),
        ('["a"]', "line 3: must be a JSON object"),
        ({"txt": "a"}, "line 3: has no field 'prompt' or 'text'"),
        ({"text": " "}, "line 3: 'text' must be a text that is not empty"),
        ({"prompt": {"toxicity": 0.1}}, "line 3: has no field 'text'"),
        ({"prompt": 7}, "line 3: 'prompt' must be a text"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(
    configure: Configure, write_lines: WriteLines, line: object, says: str
) -> None:
    write_lines("wrong.jsonl", [PROMPTS[0], "", line, PROMPTS[1]])
    with pytest.raises(InvalidRequest, match=says) as caught:
        open_suites(["toxicity"], configure(toxicity={"data": "wrong.jsonl"}))
    assert "wrong.jsonl" in caught.value.message


def test_a_file_without_lines_or_not_in_utf8_is_told(
    configure: Configure, write_lines: WriteLines
) -> None:
    config = configure(toxicity={"data": "prompts.jsonl"})
    write_lines("prompts.jsonl", [""])
    with pytest.raises(InvalidRequest, match="has no item for this suite"):
        open_suites(["toxicity"], config)
    write_lines("prompts.jsonl", []).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="is not UTF-8"):
        open_suites(["toxicity"], config)
