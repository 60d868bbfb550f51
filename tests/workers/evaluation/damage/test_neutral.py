from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from models_store.schemas.items import ChatItem, CompletionItem, Message, TextItem
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.damage.damage import REPORTED
from workers.evaluation.damage.neutral import KlMeter, Use, encode_neutral
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Term, make_term

TEXTS = (
    [TextItem(text=f"the food in shop {i} was good and not so bad to have") for i in range(8)],
    [CompletionItem(prompt=f"what is {i}", completion="it is a very nice day") for i in range(6)],
)


@pytest.fixture
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _term(seed: int = 0, size: float = 0.1) -> Term:
    generator = torch.Generator().manual_seed(seed)
    return make_term(
        MatrixKey(1, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        size * torch.randn(HIDDEN, generator=generator),
    )


def _slow_kl(base: LoadedModel, terms: list[Term]) -> tuple[float, float]:
    """Mean KL of plain texts and of answers with the edit in the weights, text by text."""
    encoded = encode_neutral(base, TEXTS)
    means = []
    for part in (encoded.texts[: encoded.plain], encoded.texts[encoded.plain :]):
        values = []
        for text in part:
            ids = torch.tensor([text.ids])
            before = base.model(ids).logits[0, :-1].double().log_softmax(-1)
            with WeightEditor(base).applied([(terms, 1.0)]):
                after = base.model(ids).logits[0, :-1].double().log_softmax(-1)
            kl = (before.exp() * (before - after)).sum(-1)
            values.append(kl[torch.tensor(text.scored[1:])])
        means.append(float(torch.cat(values).mean()))
    return means[0], means[1]


def test_the_meter_gives_the_larger_of_the_two_means(base: LoadedModel) -> None:
    meter = KlMeter.read(EditedModel(base), encode_neutral(base, TEXTS).parts)
    plain, chat = _slow_kl(base, [_term()])
    assert plain != pytest.approx(chat)
    assert meter.kl([_term()]) == pytest.approx(max(plain, chat), rel=1e-3)


def test_nothing_applied_is_at_distance_zero(base: LoadedModel) -> None:
    meter = KlMeter.read(EditedModel(base), encode_neutral(base, TEXTS).parts)
    assert meter.kl([]) == 0
    assert meter.kl([_term()], 0.0) == 0


def test_an_edit_on_top_is_measured_against_what_it_is_on(base: LoadedModel) -> None:
    below = [_term(seed=1)]
    neutral = encode_neutral(base, TEXTS)
    on_top = KlMeter.read(EditedModel(base).plus(below), neutral.parts)
    assert on_top.kl([]) == 0
    assert on_top.kl([_term()]) != pytest.approx(
        KlMeter.read(EditedModel(base), neutral.parts).kl([_term()]), rel=1e-3
    )


def test_a_broken_model_is_infinitely_far_away(base: LoadedModel) -> None:
    meter = KlMeter.read(EditedModel(base), encode_neutral(base, TEXTS).parts)
    assert meter.kl([_term(size=1e38)]) == float("inf")


def test_no_text_has_two_uses(base: LoadedModel) -> None:
    uses: tuple[Use, ...] = get_args(Use)
    texts = [text.ids for use in uses for text in encode_neutral(base, use).texts]
    assert len(uses) == 4
    assert len(set(texts)) == len(texts)


def test_of_every_kind_the_first_texts_are_given(base: LoadedModel) -> None:
    neutral = encode_neutral(base, "reporting", each=44)
    found = neutral.by_kind(3)
    assert set(found) == {*neutral.kinds, "chat"}
    assert {len(texts) for texts in found.values()} == {3}
    assert found["chat"] == list(neutral.texts[44:47])
    for kind, texts in found.items():
        if kind != "chat":
            places = [place for place, other in enumerate(neutral.kinds) if other == kind]
            assert texts == [neutral.texts[place] for place in places[:3]]


def test_plain_texts_alone_do(base: LoadedModel) -> None:
    meter = KlMeter.read(EditedModel(base), encode_neutral(base, (TEXTS[0], ())).parts)
    assert len(meter.parts) == 1
    assert meter.kl([_term()]) > 0


def test_a_model_without_a_chat_template_reads_answers_after_their_messages(
    base: LoadedModel, make_pico: Callable[..., Path]
) -> None:
    silent = load_base(make_pico(chat=False), device="cpu", dtype="float32")
    both = [encode_neutral(one, "calibration", each=20) for one in (base, silent)]
    assert [(one.plain, len(one.texts)) for one in both] == [(20, 40), (20, 40)]
    with_template, without = (one.texts[20] for one in both)
    assert without.prompt_length > 0
    said = [id for id, scored in zip(without.ids, without.scored, strict=True) if scored]
    answer = [
        id for id, scored in zip(with_template.ids, with_template.scored, strict=True) if scored
    ]
    # The token that ends a turn belongs to the template.
    assert said == answer[: len(said)]
    assert len(answer) - len(said) <= 1


def test_without_a_chat_template_all_messages_come_before_the_answer(
    make_pico: Callable[..., Path],
) -> None:
    silent = load_base(make_pico(chat=False), device="cpu", dtype="float32")
    turns = [("user", "what is good"), ("assistant", "the food"), ("user", "why")]
    turns.append(("assistant", "it is kind"))
    talk = ChatItem(messages=tuple(Message(role=role, content=text) for role, text in turns))
    (read,) = encode_neutral(silent, ((), [talk])).texts
    decoded = silent.tokenizer.decode(read.ids)
    assert decoded.startswith("what is good\n\nthe food\n\nwhy\n\nit is kind")
    assert silent.tokenizer.decode(read.ids[: read.prompt_length]).endswith("why\n\n")


@pytest.mark.smollm2
@pytest.mark.parametrize("template", [True, False])
def test_a_receipt_rests_on_64_neutral_texts_and_4000_positions(
    smollm2_folder: Path, template: bool
) -> None:
    base = load_base(smollm2_folder, device="cpu", dtype="auto")
    if not template:
        base.tokenizer.chat_template = None
    neutral = encode_neutral(base, "reporting", each=REPORTED.neutral_each)
    assert len(neutral.texts) >= 64
    assert sum(sum(text.scored[1:]) for text in neutral.texts) >= 4000
