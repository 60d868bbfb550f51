"""Last hidden states of texts: their means, which probes are fitted on, and the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from workers.runtime.loading import LoadedModel
from workers.runtime.reading.passes import Reading, read_texts
from workers.runtime.tokens import Batch, Encoded

EXTRACTOR_VERSION = 1
"""Part of the key of cached features: raise it when the numbers change."""


class MeanStates(Reading):
    """Mean over the tokens that count of the last hidden state, after the final norm; pooling is in
    fp32 whatever the model's dtype."""

    def __init__(self, base: LoadedModel, texts: int) -> None:
        self.pooled = torch.zeros(texts, base.hidden_size)
        """fp32 `[texts, hidden]` on the CPU, in the order of the texts."""

    def tensors(self) -> Iterable[Tensor]:
        return [self.pooled]

    def at_end(self, batch: Batch, states: Tensor) -> None:
        weights = batch.scored.to(states.device, torch.float32)
        weights /= weights.sum(dim=1, keepdim=True)
        mean = torch.bmm(weights[:, None], states.float())[:, 0]
        self.pooled[list(batch.index)] = mean.cpu()


def features(
    base: LoadedModel,
    texts: Sequence[Encoded],
    *,
    batch_tokens: int | None = None,
) -> Tensor:
    """`MeanStates` of texts, of which nothing else is read; the head is never run."""
    reading = MeanStates(base, len(texts))
    read_texts(base, texts, [reading], batch_tokens=batch_tokens)
    return reading.pooled


class LastStates(Reading):
    """The last hidden state of each text's last token, after the final norm."""

    def __init__(self, base: LoadedModel, texts: int) -> None:
        self.states = torch.zeros(texts, base.hidden_size, dtype=base.dtype, device=base.device)
        """`[texts, hidden]`, in the order of the texts."""

    def tensors(self) -> Iterable[Tensor]:
        return [self.states]

    def at_end(self, batch: Batch, states: Tensor) -> None:
        last = batch.real.sum(dim=1).to(states.device) - 1
        rows = torch.arange(len(last), device=states.device)
        self.states[list(batch.index)] = states[rows, last].to(self.states.device)
