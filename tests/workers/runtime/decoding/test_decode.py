"""Decoding: what a row becomes depends on the row alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from models_store.errors import InvalidRequest
from tests.support.edits import random_edit
from workers.runtime.decoding.decode import Decoding, generate
from workers.runtime.decoding.prefill import Prefill
from workers.runtime.decoding.requests import BatchRow, Request
from workers.runtime.decoding.sampling import SamplingParams
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Mixture

TEXTS = ["the film was", "a", "people hate the awful service and the food", "you are so"]


def prompts(base: LoadedModel) -> list[list[int]]:
    return [encode_prompt(base, text, chat=False) for text in TEXTS]


def greedy_by_hand(base: LoadedModel, prompt: list[int], count: int) -> list[int]:
    """No cache, no batch: the whole text through the model for every token."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(base.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gemma3_text", "qwen3_moe", "phi3"])
def test_greedy_rows_are_what_the_plain_model_says(
    load_pico: Callable[..., LoadedModel], model_type: str
) -> None:
    base = load_pico(model_type)
    made = generate(base, prompts(base), max_new_tokens=10, stop_ids=frozenset())
    for prompt, own in zip(prompts(base), made, strict=True):
        assert list(own.ids) == greedy_by_hand(base, prompt, 10)
        assert own.finish_reason == "length"


def test_each_row_follows_its_merged_model(pico: LoadedModel) -> None:
    edits: list[Mixture] = [
        [(random_edit(pico, seed=1), 1.0)],
        [],
        [(random_edit(pico, seed=2), -0.5)],
        [(random_edit(pico, seed=1), 0.4), (random_edit(pico, seed=2), 1.0)],
    ]
    made = generate(pico, prompts(pico), mixtures=edits, max_new_tokens=10, stop_ids=frozenset())
    for prompt, mixture, own in zip(prompts(pico), edits, made, strict=True):
        with WeightEditor(pico).applied(mixture):
            assert list(own.ids) == greedy_by_hand(pico, prompt, 10)
    assert len({own.ids for own in made}) == 4


def test_sampled_rows_do_not_depend_on_their_batch_mates(pico: LoadedModel) -> None:
    mixture: Mixture = [(random_edit(pico, seed=1), 1.0)]
    settings = {"max_new_tokens": 12, "temperature": 0.9, "top_k": 30, "top_p": 0.95}
    own = [mixture, [], mixture, []]
    together = generate(pico, prompts(pico), mixtures=own, seeds=[7, 8, 9, 10], **settings)  # type: ignore[arg-type]
    for row, prompt in enumerate(prompts(pico)):
        alone = generate(pico, [prompt], mixtures=[own[row]], seeds=[7 + row], **settings)  # type: ignore[arg-type]
        assert alone == [together[row]]
    small = generate(
        pico,
        prompts(pico),
        mixtures=own,
        seeds=[7, 8, 9, 10],
        batch_rows=2,
        **settings,  # type: ignore[arg-type]
    )
    assert small == together


def test_a_stop_token_ends_its_row_and_is_not_returned(pico: LoadedModel) -> None:
    free = generate(pico, prompts(pico), max_new_tokens=10, stop_ids=frozenset())
    stop = free[0].ids[4]
    made = generate(pico, prompts(pico), max_new_tokens=10, stop_ids=frozenset({stop}))
    for before, after in zip(free, made, strict=True):
        if stop in before.ids:
            assert after.ids == before.ids[: before.ids.index(stop)]
            assert after.finish_reason == "stop"
        else:
            assert after == before


def test_rows_of_different_lengths_leave_the_batch_one_by_one(pico: LoadedModel) -> None:
    requests = [
        Request(prompt, length, params=SamplingParams(0.8), seed=row, stop_ids=frozenset())
        for row, (prompt, length) in enumerate(zip(prompts(pico), [1, 3, 0, 12], strict=True))
    ]
    decoding = Decoding(pico, SidePath(pico), requests)
    ids: dict[int, list[int]] = {row: [] for row in range(4)}
    while not decoding.done:
        for token in decoding.step():
            assert token.id is not None
            ids[token.row].append(token.id)
    assert [len(ids[row]) for row in range(4)] == [1, 3, 0, 12]
    alone = generate(
        pico,
        [prompts(pico)[3]],
        max_new_tokens=12,
        temperature=0.8,
        seeds=[3],
        stop_ids=frozenset(),
    )
    assert tuple(ids[3]) == alone[0].ids


def test_a_row_can_be_dropped_while_the_others_go_on(pico: LoadedModel) -> None:
    requests = [Request(prompt, 6, stop_ids=frozenset()) for prompt in prompts(pico)]
    decoding = Decoding(pico, SidePath(pico), requests)
    decoding.step()
    for row in (0, 1, 2):
        decoding.drop(row)
    rest: list[int] = []
    while not decoding.done:
        tokens = decoding.step()
        assert [token.row for token in tokens] == [3]
        rest += [token.id for token in tokens if token.id is not None]
    assert rest == greedy_by_hand(pico, prompts(pico)[3], 6)[1:]


def test_bf16_rows_in_a_padded_batch_are_decoded(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico(load_dtype="bfloat16")
    made = generate(base, prompts(base), max_new_tokens=5, stop_ids=frozenset())
    assert [len(own.ids) for own in made] == [5, 5, 5, 5]


def test_the_model_s_own_stop_token_is_the_default(pico: LoadedModel) -> None:
    assert pico.stop_ids == {pico.tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_an_empty_prompt_is_refused(pico: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="at least one token"):
        generate(pico, [[]], max_new_tokens=1)


def random_requests(base: LoadedModel, count: int, seed: int) -> list[Request]:
    """Prompts, lengths, edits and settings of all kinds."""
    dice = random.Random(seed)
    edits = [random_edit(base, seed=number) for number in range(4)]
    made = []
    for number in range(count):
        terms = dice.sample(edits, dice.randint(0, 2))
        made.append(
            Request(
                [dice.randrange(4, 500) for _ in range(dice.choice([1, 3, 40, 120, 300]))],
                dice.randint(1, 30),
                [(one, dice.uniform(-2, 2)) for one in terms],
                SamplingParams(dice.choice([0.0, 0.8]), top_k=dice.choice([0, 20])),
                seed=number,
                stop_ids=frozenset(),
            )
        )
    return made


@pytest.mark.parametrize("kv_tokens", [None, 700])
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_rows_that_come_and_go_are_decoded_as_if_alone(
    load_pico: Callable[..., LoadedModel], model_type: str, kv_tokens: int | None
) -> None:
    base = load_pico(model_type, load_dtype="float64")
    dice = random.Random(3)
    side = SidePath(base)
    requests = random_requests(base, 24, seed=1)
    decoding = Decoding(base, side, kv_tokens=kv_tokens)
    made: dict[int, list[int]] = {row: [] for row in range(len(requests))}
    dropped = set()
    waiting = list(requests)
    most = 0
    while waiting or not decoding.done:
        for _ in range(dice.choice([0, 0, 1, 4])):
            if waiting:
                decoding.add([waiting.pop(0)])
        if dice.random() < 0.03:
            dropped.add(dice.randrange(len(requests) - len(waiting)))
            decoding.drop(max(dropped))
        for token in decoding.step():
            assert token.id is not None
            made[token.row].append(token.id)
        most = max(most, decoding.kv_tokens)
    assert len(dropped) < len(requests) // 2
    for row, request in enumerate(requests):
        alone = Decoding(base, side, [request])
        own: list[int] = []
        while not alone.done:
            own += [token.id for token in alone.step() if token.id is not None]
        if row in dropped:
            own = own[: len(made[row])]
        assert made[row] == own
    assert kv_tokens is None or most <= kv_tokens


def test_a_row_that_is_set_aside_goes_on_where_it_was(pico: LoadedModel) -> None:
    requests = [
        Request(prompt, 40, params=SamplingParams(0.9), seed=row, stop_ids=frozenset())
        for row, prompt in enumerate(prompts(pico))
    ]
    free, tight = (Decoding(pico, SidePath(pico), requests, kv_tokens=n) for n in (None, 90))
    made: list[dict[int, list[int]]] = [{row: [] for row in range(4)} for _ in range(2)]
    aside = False
    for own, decoding in zip(made, (free, tight), strict=True):
        while not decoding.done:
            for token in decoding.step():
                assert token.id is not None
                own[token.row].append(token.id)
            aside = aside or (len(own[0]) > 1 and decoding.reading)
    assert aside
    assert made[0] == made[1]


def test_a_long_prompt_is_read_between_the_steps_of_others(pico: LoadedModel) -> None:
    short = Request(prompts(pico)[0], 400, stop_ids=frozenset())
    long = Request([5] * 450, 4, stop_ids=frozenset())
    decoding = Decoding(pico, SidePath(pico), [short])
    while decoding.reading:
        decoding.step()
    decoding.add([long])
    seen = [{token.row for token in decoding.step()} for _ in range(3)]
    assert seen[0] == {0}
    assert seen[1] == {0, 1}


def test_copies_of_a_prompt_share_one_reading(pico: LoadedModel) -> None:
    prompt = prompts(pico)[2]
    requests = [Request(prompt, 6, params=SamplingParams(1.0), seed=n) for n in range(3)]
    alone = [
        generate(pico, [prompt], max_new_tokens=6, temperature=1.0, seeds=[n])[0] for n in range(3)
    ]
    prefill = Prefill(pico, SidePath(pico), [BatchRow(n, one) for n, one in enumerate(requests)])
    assert (prefill.texts, prefill.places) == (1, [0, 0, 0])
    decoding = Decoding(pico, SidePath(pico), requests)
    ids: dict[int, list[int]] = {row: [] for row in range(3)}
    while not decoding.done:
        for token in decoding.step():
            if token.id is not None:
                ids[token.row].append(token.id)
    assert [tuple(own) for own in ids.values()] == [one.ids for one in alone]


def test_memory_follows_the_rows_that_are_left(pico: LoadedModel) -> None:
    requests = [Request([7] * 100, 20, stop_ids=frozenset()) for _ in range(40)]
    long = Request([9] * 100, 400, stop_ids=frozenset())
    decoding = Decoding(pico, SidePath(pico), [*requests, long])
    held = 0
    while not decoding.done:
        decoding.step()
        held = decoding.kv_tokens
    assert held <= 1.7 * 500
