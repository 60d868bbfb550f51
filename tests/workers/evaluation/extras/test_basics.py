from __future__ import annotations

from collections import Counter

import pytest
import torch

from models_store.presets import StructuredRequest, basic_questions, structured_requests
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.effect.generations import Arm, DecodingSettings
from workers.evaluation.extras.basics import basics, well_formed
from workers.evaluation.statistics import Bootstrap
from workers.evaluation.suites.protocol import ModelPair
from workers.runtime.decoding.decode import Generated
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import make_term

JSON = StructuredRequest(kind="json", prompt="", keys=("name", "age"))
CALL = StructuredRequest(kind="tool_call", prompt="", keys=("city",), name="get_weather")


@pytest.mark.parametrize(
    ("request_", "text", "expected"),
    [
        (JSON, '{"name": "Maria", "age": 34}', True),
        (JSON, ' {"name": "Maria", "age": 34, "city": null}\n', True),
        (JSON, '```json\n{"name": "Maria", "age": 34}\n```\n', True),
        (JSON, '```json\n{"name": "Maria", "age": 34}\n```\nThis is Maria.', False),
        (JSON, 'Here it is:\n```json\n{"name": "Maria", "age": 34}\n```', False),
        (JSON, '```\n{"name": "`", "age": "```"}\n```', True),
        (JSON, 'Here it is: {"name": "Maria", "age": 34}', False),
        (JSON, '{"name": "Maria"}', False),
        (JSON, '["name", "age"]', False),
        (JSON, '{"name": "Maria", "age": 34', False),
        (JSON, "", False),
        (CALL, '{"name": "get_weather", "arguments": {"city": "Oslo"}}', True),
        (CALL, '{"name": "get_weather", "arguments": {}}', False),
        (CALL, '{"name": "set_timer", "arguments": {"city": "Oslo"}}', False),
        (CALL, '{"name": "get_weather", "arguments": "Oslo"}', False),
        (CALL, '{"city": "Oslo"}', False),
        (CALL, "get_weather(Oslo)", False),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for(
    request_: StructuredRequest, text: str, expected: bool
) -> None:
    assert well_formed(request_, text) is expected


def test_every_question_has_one_right_choice_and_no_place_is_favoured() -> None:
    questions = basic_questions()
    assert len({each.question for each in questions}) == len(questions) == 96
    assert all(len(set(each.choices)) == 3 for each in questions)
    places = Counter(each.answer for each in questions)
    assert set(places) == {0, 1, 2}
    assert max(places.values()) < len(questions) / 2
    assert {each.kind for each in questions[:4]} == {each.kind for each in questions}


def _pair(base: LoadedModel, size: float) -> ModelPair:
    generator = torch.Generator().manual_seed(0)
    term = make_term(
        MatrixKey(0, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        size * torch.randn(HIDDEN, generator=generator),
    )
    model = EditedModel(base)
    return ModelPair(model, model.plus([term]), 0, Bootstrap(0, 200))


def test_what_the_base_never_gives_is_not_counted(pico: LoadedModel) -> None:
    found = basics(_pair(pico, 0.0))
    (questions,) = found.metrics
    assert (questions.name, questions.items) == ("easy questions", 96)
    assert questions.of.base == questions.of.edited
    assert basics(_pair(pico, 5.0)).metrics[0].of.difference.low != 0


def test_answers_that_lose_their_form_are_counted(pico: LoadedModel) -> None:
    """The base answers eight requests well, the edited model, which speaks no JSON, none."""
    requests = structured_requests()

    def base_text(ids: object, decoding: DecodingSettings) -> Arm:
        texts = [
            '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
            if request.name == "get_weather"
            else "{" + ", ".join(f'"{key}": 1' for key in request.keys) + "}"
            if place < 6
            else "no"
            for place, request in enumerate(requests)
        ]
        return Arm(
            [[1]] * len(texts), [[Generated((1,), "stop")]] * len(texts), [[t] for t in texts]
        )

    _, valid, calls = basics(_pair(pico, 0.5), base_text).metrics
    assert (valid.name, valid.items, valid.of.base, valid.of.edited) == ("valid JSON", 6, 1, 0)
    assert (calls.name, calls.items, calls.of.edited) == ("well-formed calls", 2, 0)
    assert valid.of.difference.value == -1
