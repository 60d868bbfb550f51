"""From logits to the next token, row by row, each with settings and a random stream of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingParams:
    """How one row samples."""

    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """Only the k likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability; 1: all."""
    min_p: float = 0.0
    """Only tokens at least so many times as likely as the likeliest one; 0: all."""
    frequency_penalty: float = 0.0
    """Taken off a token's logit for each time that it was made before."""
    presence_penalty: float = 0.0
    """Taken off a token's logit once it was made."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits."""


GREEDY = SamplingParams(temperature=0.0)


class RandomStream:
    """One row's random numbers: the same on every device, whatever else is in the batch."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed % 2**63)

    def draw(self) -> float:
        """The next number, uniform in [0, 1)."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))


@dataclass(frozen=True)
class TokenScores:
    """How likely a token was, in nats: what the model says, before temperature and penalties."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens, the first ones first."""


def scores(logits: Tensor, ids: Sequence[int], top: int) -> list[TokenScores]:
    """How likely one token a position is, and the likeliest ones.

    Args:
        logits: `[positions, vocabulary]`, or `[vocabulary]` for one position.
        ids: one a position.
        top: how many of the likeliest ones; at least 0.
    """
    logprobs = torch.log_softmax(logits.reshape(len(ids), -1).float(), dim=-1)
    logprob = logprobs.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0].tolist()
    best = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    return [
        TokenScores(id, value, tuple(zip(places, values, strict=True)))
        for id, value, places, values in zip(
            ids, logprob, best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]


def adjusted(
    logits: Tensor, params: Sequence[SamplingParams], made: Sequence[Sequence[int]]
) -> Tensor:
    """The logits with penalties and biases, as OpenAI's API defines them.

    Args:
        logits: `[rows, vocabulary]`; left as it is.
        params: one a row.
        made: the tokens that each row was given so far.
    """
    changed = logits
    for row, (row_params, ids) in enumerate(zip(params, made, strict=True)):
        changes: dict[int, float] = dict(row_params.logit_bias)
        if row_params.frequency_penalty or row_params.presence_penalty:
            for id, count in Counter(ids).items():
                taken = row_params.presence_penalty + count * row_params.frequency_penalty
                changes[id] = changes.get(id, 0.0) - taken
        if not changes:
            continue
        if changed is logits:
            changed = logits.float().clone()
        index = torch.tensor(list(changes), device=logits.device)
        changed[row, index] += torch.tensor(list(changes.values()), device=logits.device)
    return changed


def sample(
    logits: Tensor, params: Sequence[SamplingParams], streams: Sequence[RandomStream]
) -> Tensor:
    """One token a row.

    A row that samples takes exactly one number from its stream; a greedy row takes none.

    Args:
        logits: `[rows, vocabulary]`, any float dtype.
        params: one a row.
        streams: one a row.

    Returns:
        int64 `[rows]` on the device of the logits.
    """
    tokens = torch.empty(len(params), dtype=torch.int64, device=logits.device)
    for settings in dict.fromkeys(params):
        members = [row for row, row_params in enumerate(params) if row_params == settings]
        index = torch.tensor(members, device=logits.device)
        chosen = logits[index].float()
        if settings.temperature == 0:
            tokens[index] = chosen.argmax(dim=-1)
        else:
            draws = torch.tensor([streams[row].draw() for row in members], dtype=torch.float32)
            tokens[index] = _pick(chosen, settings, draws.to(logits.device))
    return tokens


def _pick(logits: Tensor, settings: SamplingParams, draws: Tensor) -> Tensor:
    """Invert the distribution function at `draws`: `[rows, vocabulary]`, `[rows]` to `[rows]`."""
    order: Tensor | None = None
    if 0 < settings.top_k < logits.shape[-1]:
        logits, order = logits.topk(settings.top_k, dim=-1)
    elif settings.top_p < 1:
        logits, order = logits.sort(dim=-1, descending=True)
    probabilities = torch.softmax(logits / settings.temperature, dim=-1)
    if settings.min_p > 0:
        least = settings.min_p * probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    if settings.top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= settings.top_p, 0.0)
    reached = probabilities.cumsum(dim=-1)
    # `right`: a token of probability 0 spans no number, so no draw may land on it.
    place = torch.searchsorted(reached, (draws * reached[:, -1])[:, None], right=True)
    last = (probabilities > 0).to(torch.int8) * torch.arange(
        1, probabilities.shape[-1] + 1, device=logits.device
    )
    place = torch.minimum(place, last.argmax(dim=-1, keepdim=True))
    return place[:, 0] if order is None else order.gather(-1, place)[:, 0]
