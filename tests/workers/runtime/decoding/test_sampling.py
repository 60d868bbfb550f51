"""Sampling follows the distribution asked for, and each row its own stream."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.decoding.sampling import GREEDY, RandomStream, SamplingParams, adjusted, sample

LOGITS = torch.tensor([2.0, 0.0, 1.0, -1.0, 1.5])


def frequencies(params: SamplingParams, draws: int = 20_000) -> torch.Tensor:
    rows = LOGITS.expand(draws, -1)
    tokens = sample(rows, [params] * draws, [RandomStream(seed) for seed in range(draws)])
    return torch.bincount(tokens, minlength=5) / draws


def restricted(kept: list[int], temperature: float) -> torch.Tensor:
    mask = torch.full((5,), -torch.inf)
    mask[kept] = 0.0
    return torch.softmax(LOGITS / temperature + mask, dim=0)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (SamplingParams(), [0, 1, 2, 3, 4]),
        (SamplingParams(temperature=0.5), [0, 1, 2, 3, 4]),
        (SamplingParams(top_k=2), [0, 4]),
        (SamplingParams(top_k=99), [0, 1, 2, 3, 4]),
        # Probabilities .46 .28 .17 .06 .02: .46 + .28 = .74 reaches .7, .46 alone does not.
        (SamplingParams(top_p=0.7), [0, 4]),
        (SamplingParams(top_p=0.01), [0]),
        (SamplingParams(top_k=3, top_p=0.9), [0, 4, 2]),
        # .28 is more than half of .46, .17 is less.
        (SamplingParams(min_p=0.5), [0, 4]),
        (SamplingParams(min_p=1.0), [0]),
        (SamplingParams(top_p=0.97, min_p=0.3), [0, 4, 2]),
    ],
)
def test_tokens_come_as_often_as_they_should(params: SamplingParams, kept: list[int]) -> None:
    expected = restricted(kept, params.temperature)
    got = frequencies(params)
    assert (got - expected).abs().max() < 0.015
    assert bool((got[expected == 0] == 0).all())


def test_penalties_are_taken_once_and_for_each_time() -> None:
    params = [
        SamplingParams(frequency_penalty=0.5),
        SamplingParams(presence_penalty=0.25),
        SamplingParams(frequency_penalty=1.0, presence_penalty=-2.0, logit_bias=((1, 3.0),)),
        SamplingParams(),
    ]
    made = [[0, 2, 0, 0], [0, 2, 0, 0], [1, 1, 4], [0, 0]]
    found = adjusted(LOGITS.expand(4, -1), params, made) - LOGITS
    assert found.tolist() == [
        [-1.5, 0.0, -0.5, 0.0, 0.0],
        [-0.25, 0.0, -0.25, 0.0, 0.0],
        [0.0, 3.0, 0.0, 0.0, 1.0],
        [0.0] * 5,
    ]


def test_greedy_takes_the_likeliest_and_no_random_number() -> None:
    stream = RandomStream(3)
    assert sample(LOGITS[None], [GREEDY], [stream]).tolist() == [0]
    assert stream.draw() == RandomStream(3).draw()


@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8))
def test_a_row_gets_the_same_token_whatever_the_others_do(seeds: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(len(seeds), 50, generator=generator)
    params = [
        (SamplingParams(), SamplingParams(0.7, top_k=5), GREEDY, SamplingParams(top_p=0.8))[i % 4]
        for i in range(len(seeds))
    ]
    together = sample(logits, params, [RandomStream(seed) for seed in seeds]).tolist()
    alone = [
        int(sample(logits[i : i + 1], [params[i]], [RandomStream(seed)]))
        for i, seed in enumerate(seeds)
    ]
    assert together == alone


def test_a_token_without_probability_is_never_taken() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf])
    rows = logits.expand(500, -1)
    streams = [RandomStream(seed) for seed in range(500)]
    assert set(sample(rows, [SamplingParams()] * 500, streams).tolist()) == {1}


def test_bf16_logits_are_sampled_in_fp32() -> None:
    rows = LOGITS.to(torch.bfloat16).expand(8, -1)
    streams = [RandomStream(seed) for seed in range(8)]
    exact = sample(rows.float(), [SamplingParams()] * 8, [RandomStream(s) for s in range(8)])
    assert torch.equal(sample(rows, [SamplingParams()] * 8, streams), exact)
