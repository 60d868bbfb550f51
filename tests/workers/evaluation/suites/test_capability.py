from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from models_store.errors import InvalidRequest
from tests.support.pico import SPECIAL, START
from tests.workers.evaluation.suites.conftest import Configure, WriteLines
from workers.evaluation.suites.capability import CapabilityTable
from workers.evaluation.suites.capability.gsm8k import Problems, WordProblem, gsm8k, result_of
from workers.evaluation.suites.capability.multiple_choice import Question, multiple_choice
from workers.evaluation.suites.capability.perplexity import cut_windows, perplexity
from workers.evaluation.suites.capability.run import Capability, open_suite
from workers.evaluation.suites.protocol import ModelPair
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel

TEXT = "the food was good and the people very kind so we love it and they hate that day " * 4


def opened(configure: Configure, data: dict[str, str], **options: object) -> Capability:
    config = configure(capability={"data": data, **options})
    table = config.tables["capability"]
    assert isinstance(table, CapabilityTable)
    return open_suite(table, config)


def log_probabilities(base: LoadedModel, ids: list[int]) -> list[float]:
    """Of each token but the first, by the whole model."""
    logits = base.model(input_ids=torch.tensor([ids])).logits[0].double()
    log_p = torch.log_softmax(logits[:-1], dim=-1)
    return [float(log_p[place, token]) for place, token in enumerate(ids[1:])]


def test_perplexity_counts_every_token_but_the_first_once(pair: ModelPair) -> None:
    ids = pair.loaded.tokenizer(TEXT)["input_ids"]
    windows = cut_windows(pair.loaded, TEXT, 100, 16)
    assert [token for window in windows for token in window.ids[1:]] == ids[1:]
    assert all(len(window) == 17 for window in windows[:-1])
    metric = perplexity(pair, TEXT, windows=3, window_tokens=16)
    mixtures = [model.mixture for model in pair.models]
    for arm, mixture in zip(("base", "edited"), mixtures, strict=True):
        with WeightEditor(pair.loaded).applied(mixture):
            found = [p for w in windows[:3] for p in log_probabilities(pair.loaded, list(w.ids))]
        expected = math.exp(-sum(found) / 48)
        assert getattr(metric.of, arm) == pytest.approx(expected, rel=1e-4)
    assert metric.items == 3
    assert metric.of.difference.value == pytest.approx(metric.of.edited - metric.of.base)
    assert metric.of.difference.low < metric.of.difference.value < metric.of.difference.high


def test_a_window_begins_with_the_token_that_begins_every_text(
    load_pico: Callable[..., LoadedModel],
) -> None:
    base = load_pico()
    start = SPECIAL.index(START)
    base.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, start)]
    )
    ids = base.tokenizer(TEXT)["input_ids"]
    assert ids[0] == start
    windows = cut_windows(base, TEXT, 100, 16)
    assert all(window.ids[0] == start for window in windows)
    assert [token for window in windows for token in window.ids[1:]] == ids[1:]


def test_a_window_is_never_longer_than_the_context(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico(max_position_embeddings=8)
    assert max(map(len, cut_windows(base, TEXT, 4, 512))) == 8


def test_a_text_too_short_to_read_is_refused(pair: ModelPair) -> None:
    with pytest.raises(InvalidRequest):
        perplexity(pair, "a", windows=3, window_tokens=16)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("16 - 3 = 13 #### 1,234.", Decimal(1234)),
        ("that is #### -7\n\nQuestion: 5 apples?", Decimal(-7)),
        ("2 bolts and 1 make 3.50 in all.", Decimal("3.5")),
        ("it costs $18.", Decimal(18)),
        ("nine\nQuestion: 5 apples?", None),
        ("", None),
    ],
)
def test_the_result_of_an_answer_is_the_marked_number_or_the_last(
    text: str, result: Decimal | None
) -> None:
    assert result_of(text) == result


def test_as_many_examples_are_shown_as_fit(pair: ModelPair) -> None:
    short = [WordProblem("what is it", f"it is {n} #### {n}") for n in range(3)]
    long = [*short[:2], WordProblem("what is it " * 200, "it is 5 #### 5")]
    for examples, shots in ((short, 3), (long, 2), ([], 0)):
        metric = gsm8k(pair, Problems(examples, short), 8)
        assert metric.name == f"gsm8k_{shots}_shot"
        assert metric.items == 3
        assert metric.higher_is_better


def test_the_choice_that_is_likeliest_a_byte_is_taken(pair: ModelPair) -> None:
    questions = [
        Question("what is good", ("the food", "cruel people that hate us", "it"), answer)
        for answer in (0, 1, 2)
    ]
    metric = multiple_choice(pair, questions)
    # Of three questions that differ in what is called right, one is answered rightly.
    assert metric.of.base == metric.of.edited == pytest.approx(1 / 3)
    prompt = "Question: what is good\nAnswer:"
    border = len(pair.loaded.tokenizer(prompt)["input_ids"])
    per_byte = []
    for choice in questions[0].choices:
        ids = pair.loaded.tokenizer(f"{prompt} {choice}")["input_ids"]
        found = log_probabilities(pair.loaded, ids)[border - 1 :]
        per_byte.append(sum(found) / len(choice.encode()))
    best = per_byte.index(max(per_byte))
    one = multiple_choice(pair, [questions[best]])
    assert one.of.base == 1


def test_what_there_are_data_for_is_measured(
    pair: ModelPair, configure: Configure, write_lines: WriteLines, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    problems = [{"question": f"what is {n}", "answer": f"#### {n}"} for n in range(6)]
    write_lines("gsm8k.jsonl", problems)
    choices = {"question": "what", "choices": ["good", "bad"], "answer": "bad"}
    write_lines("choices.jsonl", [choices, {**choices, "answer": 0}])
    files = {"text": "text.txt", "gsm8k": "gsm8k.jsonl", "multiple_choice": "choices.jsonl"}
    options: dict[str, Any] = {"problems": 3, "shots": 2, "max_new_tokens": 8, "window_tokens": 16}
    suite = opened(configure, files, **options)
    metrics = suite.run(pair)
    assert [metric.name for metric in metrics] == ["perplexity", "gsm8k_2_shot", "multiple_choice"]
    assert [metric.items for metric in metrics] == [
        len(cut_windows(pair.loaded, TEXT, 24, 16)),
        3,
        2,
    ]
    assert suite.problems is not None
    assert [example.question for example in suite.problems.examples] == ["what is 0", "what is 1"]
    assert suite.data.startswith("text: text.txt sha256:")
    alone = opened(configure, {"text": "text.txt"}, **options)
    assert [metric.name for metric in alone.run(pair)] == ["perplexity"]


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        ("gsm8k", {"question": "a"}, "has no field 'answer'"),
        ("gsm8k", {"question": "a", "answer": "18"}, "'answer' must end with ####"),
        ("multiple_choice", {"question": "a", "answer": 0}, "'choices' must be a list"),
        ("multiple_choice", {"question": "a", "choices": ["b"], "answer": 0}, "two texts or more"),
        ("multiple_choice", {"question": "a", "choices": ["b", ""], "answer": 0}, "not empty"),
        ("multiple_choice", {"question": "a", "choices": ["b", "c"], "answer": 2}, "'answer' must"),
        ("multiple_choice", {"question": "a", "choices": ["b", "c"], "answer": "d"}, "'answer'"),
        ("multiple_choice", {"question": "a", "choices": ["b", "c"], "answer": True}, "'answer'"),
    ],
)
def test_a_wrong_line_is_named(
    configure: Configure, write_lines: WriteLines, name: str, line: object, says: str
) -> None:
    write_lines("data.jsonl", [line])
    with pytest.raises(InvalidRequest, match=rf"data\.jsonl, line 1: .*{says}"):
        opened(configure, {name: "data.jsonl"})
