"""The factors of the curvature against a slow version: one text, one position at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem, Item
from models_store.weights.architectures import GATE, MatrixKey
from tests.workers.runtime.reading.alone import gate_readings
from tests.workers.runtime.reading.test_gradients import sides
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.benign import benign_statistics
from workers.runtime.tokens import Encoded, encode
from workers.surgery.curvature import Curvature
from workers.surgery.methods.attribution.fit import fit_attribution
from workers.surgery.methods.natural.fit import fit_natural
from workers.surgery.moments import DenseMoment
from workers.surgery.terms import Term, dense

TEXTS: list[Item | str] = [
    "the food was very good",
    "a",
    CompletionItem(prompt="what would you", completion=" please love"),
    "people are kind so they say and it is never too nice",
]


def encoded(base: LoadedModel) -> list[Encoded]:
    return encode(base, TEXTS, max_tokens=50, chat=False)


def matrix(curvature: Curvature, side: str) -> Tensor:
    moment = getattr(curvature, side)
    assert isinstance(moment, DenseMoment)
    return moment.matrix.double()


def slow(base: LoadedModel, layer: int, seed: int) -> tuple[Tensor, Tensor]:
    """A and S of one gate: labels by walking along the distribution function."""
    generator = torch.Generator().manual_seed(seed)
    seen: list[Tensor] = []
    module, _ = base.linear(MatrixKey(layer, GATE))
    size = len(base.matrix(MatrixKey(layer, GATE)))

    def watch(module: torch.nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        seen.extend([args[0][0].detach(), output.detach().requires_grad_()])
        return seen[-1]

    a, s, positions = torch.zeros(32, 32).double(), torch.zeros(size, size).double(), 0
    for text in encoded(base):
        draws = torch.rand(len(text), generator=generator)
        seen.clear()
        hook = module.register_forward_hook(watch)
        logits = base.model(torch.tensor([text.ids])).logits[0]
        hook.remove()
        loss, last = torch.zeros(()), -1
        for position in range(len(text) - 1):
            if not text.scored[position + 1]:
                continue
            log_p = torch.log_softmax(logits[position], dim=-1)
            p = log_p.detach().exp().tolist()
            below, label = 0.0, 0
            while (below := below + p[label]) <= float(draws[position + 1]):
                label += 1
            loss, last = loss + log_p[label], position
        if last < 0:
            continue
        inputs, outputs = seen
        (gradient,) = torch.autograd.grad(loss, outputs)
        for position in range(last + 1):
            x, g = inputs[position].double(), gradient[0, position].double()
            a += torch.outer(x, x)
            s += torch.outer(g[:size], g[:size])
        positions += last + 1
    return a / positions, s / positions


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_factors_are_those_of_a_slow_version(
    load_pico: Callable[..., LoadedModel], family: str
) -> None:
    base = load_pico(family)
    found = benign_statistics(base, encoded(base), seed=3)
    for layer in range(2):
        a, s = slow(base, layer, seed=3)
        own = found[MatrixKey(layer, GATE)]
        assert torch.allclose(matrix(own, "inputs"), a, rtol=1e-3, atol=1e-6 * float(a.norm()))
        assert torch.allclose(matrix(own, "outputs"), s, rtol=1e-3, atol=1e-5 * float(s.norm()))


def test_labels_depend_on_the_seed_and_not_on_the_batch(pico: LoadedModel) -> None:
    texts = encoded(pico)
    gate = MatrixKey(1, GATE)
    first, again, other = (benign_statistics(pico, texts, seed=s)[gate] for s in (0, 0, 1))
    assert torch.equal(matrix(first, "outputs"), matrix(again, "outputs"))
    assert not torch.allclose(matrix(first, "outputs"), matrix(other, "outputs"))
    assert torch.equal(matrix(first, "inputs"), matrix(other, "inputs"))


def test_texts_without_a_token_that_counts_are_refused(pico: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="no neutral text"):
        benign_statistics(pico, [Encoded((5,), (True,), 0)])


def test_gates_of_routed_experts_are_refused(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico("mixtral")
    with pytest.raises(InvalidRequest, match="routed experts"):
        benign_statistics(base, encoded(base))


def differences(base: LoadedModel, terms: Sequence[Term], scale: float) -> float:
    """How much mean log p(desired) - mean log p(undesired) rises."""
    desired, undesired = sides(base)
    mixture = [(terms, scale)]
    rise = EditedModel(base, mixture).divergence(undesired).nll_rise
    return rise - EditedModel(base, mixture).divergence(desired).nll_rise


def test_both_methods_raise_the_difference_of_log_likelihoods(pico: LoadedModel) -> None:
    desired, undesired = sides(pico)
    readings = gate_readings(pico, desired, undesired)
    curvature = benign_statistics(pico, encoded(pico))
    natural = fit_natural(readings.gradients, curvature, damping=0.1)
    attribution = fit_attribution(
        readings.gradients, curvature, readings.undesired, readings.desired, fraction=0.2
    )
    for fit in (natural, attribution):
        # To first order the rise is the inner product of the change with the gradient.
        slope = sum(
            float(dense(term, 64) @ readings.gradients[term.key] @ term.direction)
            for term in fit.terms
        )
        assert differences(pico, fit.terms, 0.02 / slope) == pytest.approx(0.02, rel=0.1)
        assert differences(pico, fit.terms, -0.02 / slope) == pytest.approx(-0.02, rel=0.1)
        kl = EditedModel(pico, [(fit.terms, fit.guess)]).divergence([*desired, *undesired]).mean_kl
        assert 0.003 < kl < 1  # 0.1 is aimed at
