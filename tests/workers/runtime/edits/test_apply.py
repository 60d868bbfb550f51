"""Edits go into the weights by the rule and come out again to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models_store.errors import InvalidRequest
from models_store.weights.architectures import DOWN, GATE, OUTPUT, UP, MatrixKey
from tests.support.edits import random_edit, random_term
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, make_term

BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def bits(base: LoadedModel) -> dict[str, torch.Tensor]:
    """A copy of every parameter, bit by bit."""
    return {
        name: parameter.detach().clone().view(BITS[base.dtype])
        for name, parameter in base.model.named_parameters()
    }


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in before if not torch.equal(before[name], after[name])]


def test_new_rows_are_pristine_plus_the_change_rounded_once(
    load_pico: Callable[..., LoadedModel],
) -> None:
    base = load_pico(load_dtype="bfloat16")
    key = MatrixKey(1, GATE)
    one, two = random_term(base, key, seed=1), random_term(base, key, seed=2, rows=64)
    pristine = base.matrix(key).float().clone()
    WeightEditor(base).apply_([([one], 0.5), ([two], -2.0)])
    first, second = sorted([(one, 0.5), (two, -2.0)], key=lambda pair: pair[0].digest)
    expected = pristine.clone()
    for row in range(64):
        total = torch.zeros(32)
        for term, strength in (first, second):
            for place in (term.rows == row).nonzero()[:, 0]:
                total += (strength * term.coefficients[place]) * term.direction
        expected[row] += total
    assert torch.equal(base.matrix(key), expected.to(torch.bfloat16))


def test_only_the_rows_of_the_edit_change(pico: LoadedModel) -> None:
    before = bits(pico)
    key = MatrixKey(0, UP)
    term = random_term(pico, key, seed=3)
    WeightEditor(pico).apply_([([term], 1.0)])
    name = pico.architecture.tensor(key)
    after = bits(pico)
    assert changed(before, after) == [name]
    rows = (before[name] != after[name]).any(dim=1).nonzero()[:, 0]
    assert torch.equal(rows, term.rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_undoing_restores_the_bits_in_any_order_of_edits(
    load_pico: Callable[..., LoadedModel], dtype: str
) -> None:
    base = load_pico(load_dtype=dtype)
    pristine = bits(base)
    edits = [random_edit(base, seed=seed) for seed in range(3)]
    strength = st.sampled_from([-4.0, -1.0, 0.0, 0.3, 1.0, 4.0])
    steps = st.lists(st.lists(st.tuples(st.sampled_from(range(3)), strength), max_size=4))

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(history=steps, last=st.lists(st.tuples(st.sampled_from(range(3)), strength), max_size=3))
    def check(history: list[list[tuple[int, float]]], last: list[tuple[int, float]]) -> None:
        editor = WeightEditor(base)
        for step in history:
            editor.apply_([(edits[i], s) for i, s in step])
        editor.apply_([(edits[i], s) for i, s in last])
        after_history = bits(base)
        editor.restore_()
        assert changed(pristine, bits(base)) == []
        # The same mixture, named in the opposite order, on weights that never saw another edit.
        fresh = WeightEditor(base)
        fresh.apply_([(edits[i], s) for i, s in reversed(last)])
        assert changed(after_history, bits(base)) == []
        fresh.restore_()
        assert changed(pristine, bits(base)) == []

    check()


def test_an_empty_mixture_is_the_base_model(pico: LoadedModel) -> None:
    before = bits(pico)
    editor = WeightEditor(pico)
    editor.apply_([(random_edit(pico), 1.0)])
    assert changed(before, bits(pico))
    editor.apply_([])
    assert changed(before, bits(pico)) == []


def test_a_block_undoes_its_edit_when_it_fails(pico: LoadedModel) -> None:
    before = bits(pico)
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        WeightEditor(pico).applied([(random_edit(pico), 1.0)]),
    ):
        raise RuntimeError("on purpose")
    assert changed(before, bits(pico)) == []


@pytest.mark.parametrize(
    ("key", "length", "row", "reason"),
    [
        (MatrixKey(0, GATE), 31, 0, "does not fit"),
        (MatrixKey(0, DOWN), 64, 32, "outside"),
        (MatrixKey(2, GATE), 32, 0, "no matrix"),
        (MatrixKey(0, GATE, expert=0), 32, 0, "no matrix"),
        (MatrixKey(0, "self_attn.q_norm"), 32, 0, "no matrix"),
    ],
)
def test_an_edit_that_does_not_fit_changes_nothing(
    pico: LoadedModel, key: MatrixKey, length: int, row: int, reason: str
) -> None:
    editor = WeightEditor(pico)
    good: Mixture = [([random_term(pico, MatrixKey(0, OUTPUT), seed=0)], 1.0)]
    editor.apply_(good)
    before = bits(pico)
    bad = make_term(key, torch.ones(length), torch.tensor([row]), torch.ones(1))
    with pytest.raises(InvalidRequest, match=reason):
        editor.apply_([*good, ([bad], 1.0)])
    assert changed(before, bits(pico)) == []


def test_the_file_of_a_mapped_model_never_changes(
    load_pico: Callable[..., LoadedModel], make_pico: Callable[..., object]
) -> None:
    base = load_pico(seed=17)
    weights = base.folder / "model.safetensors"
    before = weights.read_bytes()
    WeightEditor(base).apply_([(random_edit(base), 1.0)])
    assert weights.read_bytes() == before
