"""The linear probe that finds a trait in hidden states (arXiv 2407.08770, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models_store.errors import EditFailed, InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DESIRED = 0
UNDESIRED = 1
"""Class of the texts that show the trait: row of the probe's weight."""


_TOLERANCE = 1e-8
"""Largest gradient of a probe that has converged, its features scaled to a mean variance of 1."""
_MOST_STEPS = 10_000


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained."""

    kind: Literal["converged", "paper"] = "converged"
    """`converged`: from zero to the optimum. `paper`: a few epochs from a random start."""
    train_fraction: float = 0.9
    """Share of the rows that it is trained on."""
    weight_decay: float = 0.1
    """Of `converged`; see `fit_probe`."""
    epochs: int = 9
    """Of `paper`, as all below."""
    learning_rate: float = 1e-4
    batch_size: int = 16


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe: logits = `weight` · features + `bias`."""

    weight: Tensor
    """fp32 `[2, hidden]`."""
    bias: Tensor
    """fp32 `[2]`."""
    train_accuracy: float
    heldout_accuracy: float
    heldout_auc: float
    """0.5 when the held-out rows are all of one class."""
    train_rows: tuple[int, ...]
    heldout_rows: tuple[int, ...]
    start: Tensor | None
    """fp32 `[2, hidden]`, the weight before training; None where that was zero."""

    @property
    def direction(self) -> Tensor:
        """W[undesired], as it is: fp32 `[hidden]`, not normalised."""
        return self.weight[UNDESIRED]

    @property
    def cosine_to_start(self) -> float | None:
        """Of W[undesired]: 1 where training has not turned it."""
        return None if self.start is None else cosine(self.direction, self.start[UNDESIRED])

    @property
    def norm_ratio(self) -> float | None:
        """Norm of W[undesired] over that of its start."""
        if self.start is None:
            return None
        return float(self.direction.norm() / self.start[UNDESIRED].norm())

    @property
    def antisymmetry(self) -> float:
        """Cosine between the rows of the two classes: training from zero keeps it at -1."""
        return cosine(self.weight[UNDESIRED], self.weight[DESIRED])


def fit_probe(features: Tensor, labels: Tensor, settings: ProbeSettings, seed: int) -> Probe:
    """Train a linear classifier of two classes with cross entropy.

    `paper` takes the paper's few steps of Adam from a random start. `converged` is the minimum of

        mean cross entropy + weight_decay / 2 · σ² · ‖W‖²

    where σ² is the mean variance of a feature over the training rows, so that `weight_decay` means
    the same on every model. Without it there is no minimum where a plane separates the classes; the
    larger it is, the more the direction is that of the difference of means.

    Start, split and per-epoch shuffles are drawn in the original order of the texts, one after the
    other from one generator, so the result depends on the texts and the seed and not on the
    order or the batches in which features were read. Both kinds have the same split.

    Args:
        features: fp32 `[n, hidden]`.
        labels: int64 `[n]`, `UNDESIRED` or `DESIRED`.
        seed: of the initial weights, the split and the shuffles.

    Raises:
        InvalidRequest: the training rows or the held-out rows would be none, or there is only
            one class.
        EditFailed: the features are not finite, or no minimum was found.
    """
    if not bool(torch.isfinite(features).all()):
        raise EditFailed("the hidden states of some texts are not finite")
    count = len(features)
    train_count = int(settings.train_fraction * count)
    if not 0 < train_count < count or len(torch.unique(labels)) != 2:
        raise InvalidRequest(
            f"a probe needs texts of both sides, some to train on and some held out; "
            f"{count} texts at a train fraction of {settings.train_fraction} are not enough"
        )
    generator = torch.Generator().manual_seed(seed)
    start = _initial(features.shape[1], generator)
    order = torch.randperm(count, generator=generator)
    train, heldout = order[:train_count], order[train_count:]
    if settings.kind == "paper":
        weight, bias = _trained(start, features[train], labels[train], settings, generator)
    else:
        weight, bias = _optimum(features[train], labels[train], settings.weight_decay)
    margins = F.linear(features, weight, bias) @ torch.tensor([-1.0, 1.0])
    return Probe(
        weight=weight,
        bias=bias,
        train_accuracy=_accuracy(margins[train], labels[train]),
        heldout_accuracy=_accuracy(margins[heldout], labels[heldout]),
        heldout_auc=auc(margins[heldout], labels[heldout]),
        train_rows=tuple(train.tolist()),
        heldout_rows=tuple(heldout.tolist()),
        start=start[0] if settings.kind == "paper" else None,
    )


def cosine(one: Tensor, other: Tensor) -> float:
    """Of the angle between two vectors; 0 if one of them is zero."""
    return float(F.cosine_similarity(one.double(), other.double(), dim=0).clamp(-1, 1))


def auc(scores: Tensor | Floats | Sequence[float], labels: Tensor | Sequence[int]) -> float:
    """Chance that an undesired row scores above a desired one, ties counting half.

    Args:
        scores: `[n]`.
        labels: `[n]`, `UNDESIRED` or `DESIRED`.
    """
    scores, labels = torch.as_tensor(scores).double(), torch.as_tensor(labels)
    undesired, desired = scores[labels == UNDESIRED], scores[labels == DESIRED]
    if not len(undesired) or not len(desired):
        return 0.5
    differences = undesired[:, None] - desired[None, :]
    wins = (differences > 0).double() + 0.5 * (differences == 0).double()
    return float(wins.mean())


def _initial(hidden: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight and bias as `nn.Linear` starts them: uniform within ± 1/√hidden."""
    bound = hidden**-0.5
    weight = torch.empty(2, hidden).uniform_(-bound, bound, generator=generator)
    bias = torch.empty(2).uniform_(-bound, bound, generator=generator)
    return weight, bias


def _trained(
    start: tuple[Tensor, Tensor],
    features: Tensor,
    labels: Tensor,
    settings: ProbeSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Weight and bias after the paper's training: Adam over shuffled batches."""
    weight, bias = (part.clone().requires_grad_() for part in start)
    optimizer = torch.optim.Adam([weight, bias], lr=settings.learning_rate)
    for _ in range(settings.epochs):
        shuffled = torch.randperm(len(features), generator=generator)
        for batch in torch.split(shuffled, settings.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(features[batch], weight, bias), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return weight.detach(), bias.detach()


def _optimum(features: Tensor, labels: Tensor, weight_decay: float) -> tuple[Tensor, Tensor]:
    """Weight `[2, hidden]` and bias `[2]` of the converged probe, in fp32.

    From zero the gradients of the two classes are opposite, so they stay opposite, and those of
    the undesired one are all that has to be found.
    """
    mean = features.double().mean(dim=0)
    centred = features.double() - mean
    spread = centred.square().mean().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    scaled = centred / spread
    sides = torch.where(labels == UNDESIRED, 1.0, -1.0).double()
    weight, bias = torch.zeros_like(mean).requires_grad_(), mean.new_zeros(()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MOST_STEPS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        margins = 2 * (scaled @ weight + bias)
        value = F.softplus(-sides * margins).mean() + weight_decay * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    loss()
    steepest = max(float(p.grad.abs().max()) for p in (weight, bias) if p.grad is not None)
    if not steepest <= 100 * _TOLERANCE:
        raise EditFailed(f"the probe has not converged in {_MOST_STEPS} steps: more weight decay")
    row = weight.detach() / spread
    offset = bias.detach() - mean @ row
    return torch.stack([-row, row]).float(), torch.stack([-offset, offset]).float()


def _accuracy(margins: Tensor, labels: Tensor) -> float:
    return float(((margins > 0).long() == labels).double().mean())
