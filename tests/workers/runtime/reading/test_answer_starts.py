"""What `conditional` reads of hidden states, against sums over single tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem
from tests.support.pico import INTERMEDIATE
from tests.workers.runtime.reading.alone import answer_starts_of, visit_layers
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.answer_starts import Responses
from workers.runtime.tokens import Batch, Encoded, batches, encode

FELT = [
    ("how do I hurt people with food", "you hate them"),
    ("is the film bad or cruel", "yes"),
]
KEPT = [("how do I make good food", "with kind people"), ("is the service nice", "it is good")]


def answers(base: LoadedModel, pairs: list[tuple[str, str]]) -> list[Encoded]:
    items = [CompletionItem(prompt=prompt, completion=answer) for prompt, answer in pairs]
    return encode(base, items, max_tokens=50, chat=False)


def inputs_of(base: LoadedModel, text: Encoded) -> Tensor:
    """Inputs of `down_proj` of layer 1, a row a token."""
    found: list[Tensor] = []

    def visit(batch: Batch, layer: int, inputs: Tensor, residual: Tensor) -> None:
        found.append(inputs[0].double())

    visit_layers(base, [text], [1], visit)
    return found[0]


def test_an_answer_begins_at_the_token_that_predicts_its_first_one(pico: LoadedModel) -> None:
    texts = [
        *answers(pico, FELT),
        *encode(pico, ["the film was good"], max_tokens=9, chat=False),
    ]
    (batch,) = batches(texts, tokens=10_000)
    for row, number in enumerate(batch.index):
        expected = torch.zeros(batch.ids.shape[1], dtype=torch.bool)
        if texts[number].prompt_length:
            expected[texts[number].prompt_length - 1] = True
        assert torch.equal(batch.answer_starts[row], expected)
    assert [text.answer_start for text in texts] == [
        texts[0].prompt_length - 1,
        texts[1].prompt_length - 1,
        None,
    ]
    short = Encoded((5, 6), (False, True), 1)
    assert short.answer_start is None
    assert not next(batches([short], tokens=10)).answer_starts.any()


def test_every_kind_of_token_weighs_the_same_however_many_there_are(pico: LoadedModel) -> None:
    behavior, preserved = answers(pico, FELT), answers(pico, KEPT[:1])
    (found,) = answer_starts_of(
        pico, Responses(behavior, preserved), Responses(behavior[:1], preserved), [1]
    )
    ends = [inputs_of(pico, text)[text.prompt_length - 1] for text in (*behavior, *preserved)]
    rest = [
        row
        for text in (*behavior, *preserved)
        for place, row in enumerate(inputs_of(pico, text))
        if place not in (0, text.prompt_length - 1)
    ]

    def second(rows: list[Tensor]) -> Tensor:
        return torch.stack([torch.outer(row, row) for row in rows]).mean(dim=0)

    assert torch.allclose(found.behavior, torch.stack(ends[:2]).mean(dim=0), atol=1e-6)
    assert found.behavior_square == pytest.approx(
        float(second(ends[:2]).diagonal().mean()), rel=1e-5
    )
    expected = second(ends[:2]) + second(ends[2:]) + second(rest)
    assert torch.allclose(found.second.double(), expected, rtol=1e-4, atol=1e-6)
    assert torch.allclose(found.unseen_behavior.double(), ends[0][None], atol=1e-6)
    assert torch.allclose(found.unseen_preserved.double(), ends[2][None], atol=1e-6)


def test_without_texts_that_were_kept_apart_nothing_is_said_of_them(pico: LoadedModel) -> None:
    behavior, preserved = answers(pico, FELT), answers(pico, KEPT)
    (found,) = answer_starts_of(pico, Responses(behavior, preserved), Responses([], []), [1])
    assert found.unseen_behavior.shape == found.unseen_preserved.shape == (0, INTERMEDIATE)


@pytest.mark.parametrize(
    ("missing", "named"), [("behavior", "behaviour"), ("preserved", "preserve")]
)
def test_answers_are_needed_on_both_sides(pico: LoadedModel, missing: str, named: str) -> None:
    plain = encode(pico, ["the film was good"], max_tokens=9, chat=False)
    sides = {
        "behavior": answers(pico, FELT),
        "preserved": answers(pico, KEPT),
        missing: plain,
    }
    with pytest.raises(InvalidRequest, match=f"{named}.* to fit on is an answer"):
        answer_starts_of(pico, Responses(**sides), Responses([], []), [1])
