"""Work that is shared by several processes comes to what one of them makes of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from models_store.errors import EditFailed
from tests.support.edits import random_edit
from tests.workers.runtime.reading.alone import bias_statistics, gate_readings, shift_gradients
from workers.runtime import ranks as ranks_module
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.ranks import Ranks
from workers.runtime.reading.benign import benign_statistics
from workers.runtime.reading.extract import features
from workers.runtime.tokens import Encoded, encode

WORDS = (
    "good",
    "film",
    "kind",
    "awful",
    "food",
    "bad",
    "cruel",
    "service",
    "nice",
    "people",
    "the",
)


def texts(base: LoadedModel, count: int = 30) -> list[Encoded]:
    rows = [" ".join(WORDS[(i * j) % len(WORDS)] for j in range(3 + i % 5)) for i in range(count)]
    return encode(base, rows, max_tokens=50, chat=False)


@pytest.fixture
def shared(pico: LoadedModel) -> LoadedModel:
    """The model, whose every piece of work is shared by three processes."""
    return replace(pico, ranks=3, rank_operations=1.0)


def alive(processes: Sequence[int]) -> list[int]:
    def runs(process: int) -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return True

    return [process for process in processes if runs(process)]


def test_all_parts_come_together_in_the_order_of_the_ranks() -> None:
    with Ranks(3) as ranks:
        process = os.getpid()
        parts = ranks.gather((ranks.rank, process, torch.full((1000, 1000), float(ranks.rank))))
    assert [rank for rank, _, _ in parts] == [0, 1, 2]
    assert [float(tensor.mean()) for _, _, tensor in parts] == [0.0, 1.0, 2.0]
    processes = [process for _, process, _ in parts]
    assert len(set(processes)) == 3
    assert alive(processes) == [os.getpid()]
    if sys.platform == "linux":  # each had a tensor of 4 MB
        assert 8e6 < ranks_module.most_bytes < 2e9


def in_two(first: Callable[[], None], second: Callable[[], None]) -> None:
    with Ranks(2) as ranks:
        (second if ranks.rank else first)()
        ranks.gather(None)


def nothing() -> None:
    pass


def test_what_another_rank_raises_is_raised_here() -> None:
    def fail() -> None:
        raise EditFailed("rank 1 found nothing", code="no_effect")

    with pytest.raises(EditFailed, match="rank 1") as caught:
        in_two(nothing, fail)
    assert caught.value.code == "no_effect"


def test_a_rank_that_is_killed_is_a_want_of_memory() -> None:
    with pytest.raises(MemoryError):
        in_two(nothing, lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_where_this_process_fails_no_other_goes_on() -> None:
    read, write = os.pipe()

    def fail() -> None:
        os.read(read, 20)  # until the other has begun
        raise ValueError("here")

    def work() -> None:
        os.write(write, str(os.getpid()).encode())
        time.sleep(60)

    begun = time.monotonic()
    with pytest.raises(ValueError, match="here"):
        in_two(fail, work)
    assert time.monotonic() - begun < 30


def test_a_model_is_read_the_same_by_several(pico: LoadedModel, shared: LoadedModel) -> None:
    encoded, edit = texts(pico), random_edit(pico)
    alone, together = (EditedModel(base).plus(edit) for base in (pico, shared))
    one, other = (
        model.divergence(encoded, model.base.reading(encoded, batch_tokens=40))
        for model in (alone, together)
    )
    assert one.mean_kl > 0
    for name in ("kl", "base_nll", "edited_nll", "positions"):
        assert np.allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-7)


def test_several_generate_the_same(pico: LoadedModel, shared: LoadedModel) -> None:
    prompts = [text.ids[:3] for text in texts(pico)]
    one, other = (
        EditedModel(base).generate(prompts, max_new_tokens=8, temperature=1.0)
        for base in (pico, shared)
    )
    assert one == other


@pytest.mark.parametrize(
    "read",
    [
        lambda base: [features(base, texts(base))],
        lambda base: gate_readings(base, texts(base), texts(base, 9)).gradients.values(),
        lambda base: gate_readings(base, texts(base), texts(base, 9)).desired.values(),
        lambda base: shift_gradients(base, texts(base), texts(base, 9), [0, 1]).values(),
        lambda base: [bias_statistics(base, texts(base), texts(base, 9), [1])[0].rest.second],
        lambda base: [bias_statistics(base, texts(base), texts(base, 9), [1])[0].difference],
        lambda base: [
            curvature.outputs.diagonal
            for curvature in benign_statistics(base, texts(base)).values()
        ],
    ],
)
def test_readings_add_up(
    pico: LoadedModel, shared: LoadedModel, read: Callable[[LoadedModel], Sequence[torch.Tensor]]
) -> None:
    small = {"batch_tokens": property(lambda self: 40)}
    few = type("FewTokens", (LoadedModel,), small)
    one, other = (read(few(**vars_of(base))) for base in (pico, shared))
    for expected, tensor in zip(one, other, strict=True):
        assert float(expected.norm()) > 0
        assert torch.allclose(expected, tensor, rtol=1e-4, atol=1e-6 * float(expected.norm()))


def vars_of(base: LoadedModel) -> dict[str, object]:
    return {name: getattr(base, name) for name in LoadedModel.__dataclass_fields__}
