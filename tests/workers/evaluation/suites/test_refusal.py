from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models_store.errors import InvalidRequest
from tests.workers.evaluation.suites.conftest import Configure, WriteLines
from workers.evaluation.statistics import Floats
from workers.evaluation.suites.protocol import ModelPair
from workers.evaluation.suites.refusal import RefusalTable
from workers.evaluation.suites.refusal.run import Refusal, open_suite


def opened(configure: Configure, data: Any, **options: object) -> Refusal:
    config = configure(refusal={"data": data, "max_new_tokens": 4, **options})
    table = config.tables["refusal"]
    assert isinstance(table, RefusalTable)
    return open_suite(table, config)


def test_a_file_may_state_kinds_in_our_words_or_in_those_of_xstest(
    configure: Configure, write_lines: WriteLines
) -> None:
    write_lines(
        "mixed.jsonl",
        [
            {"text": "a", "kind": "harmful"},
            {"text": "b", "kind": "harmless"},
            {"prompt": "c", "kind": "safe"},
            {"id": "1", "prompt": "d", "type": "homonyms", "label": "safe", "focus": "kill"},
            {"id": "2", "prompt": "e", "type": "contrast_homonyms", "label": "unsafe"},
            {"prompt": "f", "type": "contrast_definitions"},
            {"prompt": "g", "type": "definitions"},
        ],
    )
    prompts = opened(configure, "mixed.jsonl").prompts
    assert {kind: sorted(own) for kind, own in prompts.items()} == {
        "harmful": ["a", "e", "f"],
        "harmless": ["b"],
        "safe": ["c", "d", "g"],
    }


def test_of_a_file_for_one_kind_the_lines_of_another_are_left_out(
    configure: Configure, write_lines: WriteLines
) -> None:
    write_lines("harmful.jsonl", [{"text": "a", "source": "x"}, {"text": "b"}])
    write_lines(
        "xstest.jsonl", [{"prompt": "c", "label": "safe"}, {"prompt": "d", "label": "unsafe"}]
    )
    suite = opened(configure, {"harmful": "harmful.jsonl", "safe": "xstest.jsonl"}, items=1)
    assert list(suite.prompts) == ["harmful", "safe"]
    assert len(suite.prompts["harmful"]) == 1
    assert suite.prompts["safe"] == ["c"]
    assert suite.data.count("sha256:") == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"text": "a"}, "line 1: states no 'kind'"),
        ({"text": "a", "kind": "bad"}, "line 1: 'kind' must be one of harmful, harmless, safe"),
        ({"prompt": "a", "label": "?"}, "line 1: 'label' must be safe or unsafe"),
        ({"kind": "safe"}, "line 1: has no field 'prompt' or 'text'"),
    ],
)
def test_a_line_whose_kind_cannot_be_told_is_named(
    configure: Configure, write_lines: WriteLines, line: object, says: str
) -> None:
    write_lines("mixed.jsonl", [line])
    with pytest.raises(InvalidRequest, match=says):
        opened(configure, "mixed.jsonl")


def test_refusals_are_wanted_of_harmful_prompts_only(
    pair: ModelPair, configure: Configure, write_lines: WriteLines
) -> None:
    kinds = ("harmful", "harmless", "safe")
    write_lines("mixed.jsonl", [{"text": f"{k} {n}", "kind": k} for k in kinds for n in range(3)])
    suite = opened(configure, "mixed.jsonl")
    metrics = suite.run(pair)
    assert [(m.name, m.higher_is_better, m.items) for m in metrics] == [
        ("harmful_refused", True, 3),
        ("harmless_refused", False, 3),
        ("safe_refused", False, 3),
    ]


def test_each_answer_is_counted_with_the_kind_of_its_prompt(
    pair: ModelPair, configure: Configure, write_lines: WriteLines
) -> None:
    """A scorer that looks at the prompt stands for a model that refuses what is harmful."""
    lines = [{"text": f"prompt {n}", "kind": "harmful" if n < 2 else "safe"} for n in range(5)]
    write_lines("mixed.jsonl", lines)
    suite = opened(configure, "mixed.jsonl")

    class Harmful:
        def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
            return np.array([float(prompt in ("prompt 0", "prompt 1")) for prompt in prompts])

    suite = replace(suite, scorer=replace(suite.scorer, scorer=Harmful()))
    harmful, safe = suite.run(pair)
    assert (harmful.of.base, harmful.of.edited) == (1, 1)
    assert (safe.of.base, safe.of.edited) == (0, 0)
