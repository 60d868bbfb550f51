"""What an edit does to the probabilities of given texts, teacher-forced.

The model's body runs once over a text, and only the last hidden states that predict a token that
counts are kept (a few megabytes for thousands of positions). The head, whose outputs would fill
gigabytes, runs over a few hundred positions at a time. A base model that many edits are compared
to is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.runtime.loading import LoadedModel
from workers.runtime.ranks import Ranks


@dataclass(frozen=True, eq=False)
class TextReading:
    """The last hidden states of a model at all positions that predict a token that counts, in the
    order of the texts, however they were batched.

    The first token of a text is predicted by nothing, so it never counts.
    """

    states: Tensor
    """`[positions, hidden]` in the model's dtype, on its device."""
    targets: Tensor
    """int64 `[positions]`: the token that comes next."""
    owners: Tensor
    """int64 `[positions]`: index of the text."""
    texts: int

    @property
    def counts(self) -> np.ndarray:
        """int64 `[texts]`: positions of each text."""
        counts: np.ndarray = torch.bincount(self.owners, minlength=self.texts).cpu().numpy()
        return counts

    def of(self, texts: Sequence[int]) -> TextReading:
        """That of some of the texts, ascending."""
        places = torch.full((self.texts,), -1, device=self.owners.device)
        places[list(texts)] = torch.arange(len(texts), device=places.device)
        owners = places[self.owners]
        kept = owners >= 0
        return TextReading(self.states[kept], self.targets[kept], owners[kept], len(texts))


@dataclass(frozen=True, eq=False)
class Divergence:
    """A model with edits against the base, text by text; means are over a text's positions.

    A text with no position has 0 everywhere.
    """

    kl: np.ndarray
    """float64 `[texts]`: KL(base ‖ edited) in nats a position, full vocabulary, temperature 1."""
    base_nll: np.ndarray
    """float64 `[texts]`: negative log-likelihood under the base, nats a position."""
    edited_nll: np.ndarray
    changed: np.ndarray
    """float64 `[texts]`: share of positions at which another token is the most likely one."""
    positions: np.ndarray
    """int64 `[texts]`."""
    position_kl: np.ndarray
    """float64 `[positions]`: the KL at each position, in the order of the texts."""

    @property
    def mean_kl(self) -> float:
        """Over all positions of all texts."""
        return self.mean(self.kl)

    @property
    def kl_p95(self) -> float:
        """The KL that 95 % of all positions of all texts do not exceed."""
        return float(np.quantile(self.position_kl, 0.95, method="inverted_cdf"))

    @property
    def nll_rise(self) -> float:
        """Rise of the negative log-likelihood, nats a position."""
        return self.mean(self.edited_nll) - self.mean(self.base_nll)

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the edited model over the base's."""
        return float(np.exp(self.nll_rise))

    def mean(self, values: np.ndarray) -> float:
        """Of values of the texts, over all positions of all texts."""
        return float(np.average(values, weights=self.positions))


@torch.no_grad()
def compare(
    base: LoadedModel,
    reference: TextReading,
    reading: TextReading,
    reader: LoadedModel | None = None,
) -> Divergence:
    """Compare a model with edits to the base, both read over the same texts.

    Args:
        reference: of the base itself.
        reading: of the base with edits.
        reader: the model that `reading` is of, where it is another one than the base.
    """
    found = torch.zeros(4, len(reference.targets), dtype=torch.float64)
    with base.ranks_for_logits(2 * len(reference.targets)) as ranks:
        for part in _chunks(base, reference, ranks):
            before = _log_probabilities(base, reference.states[part])
            after = _log_probabilities(reader or base, reading.states[part])
            targets = reference.targets[part, None].to(before.device)
            changed = before.argmax(dim=1) != after.argmax(dim=1)
            nll = [-model.gather(1, targets)[:, 0] for model in (before, after)]
            # In place: before becomes p, after becomes log p - log q.
            after.neg_().add_(before)
            kl = (before.exp_() * after).sum(dim=1)
            found[:, part] = torch.stack([kl, *nll, changed.to(kl.dtype)]).double().cpu()
        ranks.add_up([found])
    counts, owners = reference.counts, reference.owners.cpu().numpy()
    sums = [np.bincount(owners, row, minlength=reference.texts) for row in found.numpy()]
    kls, base_nll, edited_nll, share_changed = (row / counts.clip(min=1) for row in sums)
    return Divergence(kls, base_nll, edited_nll, share_changed, counts, found[0].numpy())


@torch.no_grad()
def negative_log_likelihood(base: LoadedModel, reading: TextReading) -> np.ndarray:
    """Nats a position of each text, float64 `[texts]`; 0 for a text with no position."""
    sums = torch.zeros(reading.texts, dtype=torch.float64)
    with base.ranks_for_logits(len(reading.targets)) as ranks:
        for part in _chunks(base, reading, ranks):
            log_probabilities = _log_probabilities(base, reading.states[part])
            targets = reading.targets[part, None].to(log_probabilities.device)
            target = log_probabilities.gather(1, targets)[:, 0]
            sums.index_add_(0, reading.owners[part].cpu(), -target.double().cpu())
        ranks.add_up([sums])
    means: np.ndarray = sums.numpy() / reading.counts.clip(min=1)
    return means


def _chunks(base: LoadedModel, reading: TextReading, ranks: Ranks) -> Iterator[slice]:
    """Those of this rank."""
    size = max(1, base.chunk_logits // base.vocabulary)
    for start in range(ranks.rank * size, len(reading.targets), ranks.size * size):
        yield slice(start, start + size)


def _log_probabilities(base: LoadedModel, states: Tensor) -> Tensor:
    """fp32 (or the model's wider dtype) `[positions, vocabulary]`."""
    logits = base.logits(states)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(wide), dim=-1)
