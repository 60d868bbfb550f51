"""Batched decoding in which every row has its own edits, settings and random stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from models_store.errors import InvalidRequest
from workers.runtime.loading import BaseModel
from workers.runtime.sampling import GREEDY, RandomStream, SamplingParams, sample
from workers.runtime.side_path import SidePath
from workers.surgery.terms import Mixture

BATCH_ROWS = 64
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, eq=False)
class Request:
    """One row to decode."""

    prompt: Sequence[int]
    """At least one token."""
    max_new_tokens: int
    mixture: Mixture = ()
    params: SamplingParams = GREEDY
    seed: int = 0
    stop_ids: frozenset[int] | None = None
    """Tokens that end the row, none of which is returned; None: the model's own."""


@dataclass(frozen=True)
class Generated:
    """What a row was given as continuation."""

    ids: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(frozen=True)
class Token:
    """What one step brought for one row; `id` is None when the row ended instead."""

    row: int
    """Index of the request."""
    id: int | None
    finish_reason: FinishReason | None


class Decoding:
    """A batch that is being decoded, one token a row and step.

    Prompts are filled up on the left, so that all rows go on at the same position of the cache.
    Rows that have ended leave the batch once they are half of it.
    """

    def __init__(self, base: BaseModel, side: SidePath, requests: Sequence[Request]) -> None:
        if not requests or any(not request.prompt for request in requests):
            raise InvalidRequest("each row to decode needs a prompt of at least one token")
        self._base = base
        self._side = side
        self._requests = list(requests)
        self._plan = side.plan([request.mixture for request in requests])
        self._streams = [RandomStream(request.seed) for request in requests]
        self._made = [0] * len(requests)
        self._rows = list(range(len(requests)))
        """The request in each row of the batch."""
        self._open = {row for row, request in enumerate(requests) if request.max_new_tokens > 0}
        self._cache = DynamicCache(config=base.model.config)
        self._ids, self._mask = self._left_padded()

    @property
    def done(self) -> bool:
        return not self._open

    def drop(self, row: int) -> None:
        """Stop decoding a row, for a reader that has gone."""
        self._open.discard(row)

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Decode one more token for every row that is still open."""
        self._compact()
        chosen = self._next_tokens().to(self._base.device)
        self._ids = chosen[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        tokens = zip(self._rows, chosen.tolist(), strict=True)
        return [self._take(row, token) for row, token in tokens if row in self._open]

    def _next_tokens(self) -> Tensor:
        positions = (self._mask.cumsum(dim=1) - 1).clamp_min(0)[:, -self._ids.shape[1] :]
        with self._side.active(self._plan):
            states = self._base.decoder(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
            ).last_hidden_state
        # The head only sees the last position, laid out anew: on a CPU in bf16 it is about a
        # thousand times slower on a strided view.
        logits = self._base.logits(states[:, -1].contiguous())
        return sample(
            logits,
            [self._requests[row].params for row in self._rows],
            [self._streams[row] for row in self._rows],
        )

    def _take(self, row: int, token: int) -> Token:
        request = self._requests[row]
        stops = self._base.stop_ids if request.stop_ids is None else request.stop_ids
        if token in stops:
            self._open.discard(row)
            return Token(row, None, "stop")
        self._made[row] += 1
        if self._made[row] < request.max_new_tokens:
            return Token(row, token, None)
        self._open.discard(row)
        return Token(row, token, "length")

    def _compact(self) -> None:
        """Take ended rows out of the batch when half of it has ended."""
        keep = [place for place, row in enumerate(self._rows) if row in self._open]
        if len(keep) > len(self._rows) // 2 or not keep:
            return
        # On the CPU: the layers of the cache may lie on different devices.
        index = torch.tensor(keep)
        if self._cache.get_seq_length():
            self._cache.batch_select_indices(index)
        self._plan.select_(index)
        self._ids, self._mask = self._ids[index], self._mask[index]
        self._rows = [self._rows[place] for place in keep]

    def _left_padded(self) -> tuple[Tensor, Tensor]:
        length = max(len(request.prompt) for request in self._requests)
        ids = torch.full((len(self._requests), length), self._base.pad_id)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(self._requests):
            ids[row, length - len(request.prompt) :] = torch.tensor(list(request.prompt))
            mask[row, length - len(request.prompt) :] = 1
        return ids.to(self._base.device), mask.to(self._base.device)


def generate(
    base: BaseModel,
    prompts: Sequence[Sequence[int]],
    *,
    mixtures: Sequence[Mixture] | None = None,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    stop_ids: frozenset[int] | None = None,
    side: SidePath | None = None,
    batch_rows: int = BATCH_ROWS,
) -> list[Generated]:
    """Continue every prompt; prompts of similar length share a batch.

    Args:
        mixtures: the edits of each row; None: the model as it is.
        temperature, top_k, top_p: as in `SamplingParams`, for all rows.
        seeds: of each row's random stream; None: the row's index.
        stop_ids: see `Request`.
        side: a side path to reuse, which remembers the edits it has prepared.
        batch_rows: rows of a batch at most.

    Raises:
        InvalidRequest: a prompt is empty, or an edit does not fit the model.
    """
    params = SamplingParams(temperature, top_k, top_p)
    requests = [
        Request(
            prompt,
            max_new_tokens,
            mixtures[row] if mixtures is not None else (),
            params,
            seeds[row] if seeds is not None else row,
            stop_ids,
        )
        for row, prompt in enumerate(prompts)
    ]
    side = side or SidePath(base)
    order = sorted(range(len(requests)), key=lambda row: (len(requests[row].prompt), row))
    made: dict[int, Generated] = {}
    for start in range(0, len(order), batch_rows):
        rows = order[start : start + batch_rows]
        results = _decode_all(base, side, [requests[row] for row in rows])
        made.update(zip(rows, results, strict=True))
    return [made[row] for row in range(len(requests))]


def _decode_all(base: BaseModel, side: SidePath, requests: Sequence[Request]) -> list[Generated]:
    decoding = Decoding(base, side, requests)
    ids: list[list[int]] = [[] for _ in requests]
    reasons: list[FinishReason] = ["length"] * len(requests)
    while not decoding.done:
        for token in decoding.step():
            if token.id is not None:
                ids[token.row].append(token.id)
            if token.finish_reason is not None:
                reasons[token.row] = token.finish_reason
    return [Generated(tuple(own), reason) for own, reason in zip(ids, reasons, strict=True)]
