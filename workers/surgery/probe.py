"""The linear probe that finds a trait in hidden states (arXiv 2407.08770, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class ProbeSettings:
    """The paper's setting by default."""

    epochs: int = 9
    learning_rate: float = 1e-4
    batch_size: int = 16
    train_fraction: float = 0.9
    weight_decay: float = 0.0


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

    @property
    def direction(self) -> Tensor:
        """W[undesired], as it is: fp32 `[hidden]`, not normalised."""
        return self.weight[UNDESIRED]


def fit_probe(features: Tensor, labels: Tensor, settings: ProbeSettings, seed: int) -> Probe:
    """Train a linear classifier with cross entropy and Adam.

    Split and per-epoch shuffles are drawn in the original order of the texts, one after the
    other from one generator, so the result depends on the texts and the seed and not on the
    order or the batches in which features were read.

    Args:
        features: fp32 `[n, hidden]`.
        labels: int64 `[n]`, `UNDESIRED` or `DESIRED`.
        seed: of the initial weights, the split and the shuffles.

    Raises:
        InvalidRequest: the training rows or the held-out rows would be none, or there is only
            one class.
        EditFailed: the features are not finite.
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
    weight, bias = _initial(features.shape[1], generator)
    order = torch.randperm(count, generator=generator)
    train, heldout = order[:train_count], order[train_count:]
    optimizer = torch.optim.Adam(
        [weight, bias], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    for _ in range(settings.epochs):
        shuffled = train[torch.randperm(train_count, generator=generator)]
        for batch in torch.split(shuffled, settings.batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(F.linear(features[batch], weight, bias), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    weight, bias = weight.detach(), bias.detach()
    margins = F.linear(features, weight, bias) @ torch.tensor([-1.0, 1.0])
    return Probe(
        weight=weight,
        bias=bias,
        train_accuracy=_accuracy(margins[train], labels[train]),
        heldout_accuracy=_accuracy(margins[heldout], labels[heldout]),
        heldout_auc=auc(margins[heldout], labels[heldout]),
        train_rows=tuple(train.tolist()),
        heldout_rows=tuple(heldout.tolist()),
    )


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
    return weight.requires_grad_(), bias.requires_grad_()


def _accuracy(margins: Tensor, labels: Tensor) -> float:
    return float(((margins > 0).long() == labels).double().mean())
