"""Continuous batching: rows join and leave between steps, each with its own edits and settings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Required, TypedDict

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from workers import progress
from workers.runtime.decoding.kv_cache import LEAST_COLUMNS, SLACK, RowCache
from workers.runtime.decoding.prefill import Prefill, forward, similar
from workers.runtime.decoding.requests import BatchRow, FinishReason, Request
from workers.runtime.decoding.sampling import SamplingParams, TokenScores, adjusted, sample, scores
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

BATCH_ROWS = 64


class GenerationSettings(TypedDict, total=False):
    """Of `generate`, for all prompts."""

    max_new_tokens: Required[int]
    temperature: float
    top_k: int
    top_p: float
    seeds: Sequence[int] | None


@dataclass(frozen=True)
class Generated:
    """What a row was given as continuation."""

    ids: tuple[int, ...]
    finish_reason: FinishReason


@dataclass(frozen=True)
class Token:
    """What one step brought for one row; `id` is None when the row ended instead."""

    row: int
    """The number that `Decoding.add` gave the request."""
    id: int | None
    finish_reason: FinishReason | None
    scores: TokenScores | None = None
    """Where the request asks for them."""
    prompt: Sequence[TokenScores | None] | None = None
    """With the first token, where the request asks for them: one a token of the prompt."""


class Decoding:
    """A batch that is being decoded, one token a row and step.

    Prompts are read a piece at a time, a piece a step, so that they hold up the rows which are
    decoded already by little. When keys and values would take more memory than they may, the row
    that joined last is set aside, and read again once there is room.
    """

    def __init__(
        self,
        base: LoadedModel,
        side: SidePath,
        requests: Sequence[Request] = (),
        *,
        kv_tokens: int | None = None,
    ) -> None:
        """
        Args:
            requests: the first ones, numbered from 0.
            kv_tokens: tokens that memory for keys and values may be held for; None: any number.
                One row alone may have more.

        Raises:
            InvalidRequest: as `add`.
        """
        self._base = base
        self._side = side
        self._most = kv_tokens
        self._rows: list[BatchRow] = []
        """By place in the batch."""
        self._waiting: deque[BatchRow] = deque()
        self._prefills: deque[Prefill] = deque()
        self._added = 0
        self._plan = side.plan([])
        self._cache = RowCache(base.model.config)
        self.add(requests)

    @property
    def done(self) -> bool:
        return all(row.ended for row in self._every())

    @property
    def reading(self) -> bool:
        """Whether some row has not been read to the end of its prompt."""
        return bool(self._waiting or self._prefills)

    @property
    def kv_tokens(self) -> int:
        """Tokens that memory for keys and values is held for."""
        return self._cache.capacity + sum(prefill.cache.capacity for prefill in self._prefills)

    def add(self, requests: Sequence[Request]) -> list[int]:
        """Let rows join; returns their numbers.

        Raises:
            InvalidRequest: a prompt is empty or an edit does not fit; then none joins.
        """
        for request in requests:
            if not request.prompt:
                raise InvalidRequest("each row to decode needs a prompt of at least one token")
            self._side.prepare(request.mixture)
        added = [BatchRow(self._added + place, request) for place, request in enumerate(requests)]
        self._added += len(added)
        self._waiting.extend(row for row in added if not row.ended)
        return [row.number for row in added]

    def drop(self, number: int) -> None:
        """Stop decoding a row, for a reader that has gone."""
        for row in self._every():
            if row.number == number:
                row.ended = True

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Decode one more token for every row that is open, and read a piece of what waits."""
        self._leave()
        while len(self._rows) > 1 and self._too_much(len(self._rows), self._cache.columns + 1):
            self._set_aside()
        tokens = self._decode() if self._rows else []
        return tokens + self._read()

    def _every(self) -> Iterable[BatchRow]:
        yield from self._rows
        yield from self._waiting
        for prefill in self._prefills:
            yield from prefill.members

    def _too_much(self, rows: int, columns: int) -> bool:
        if self._most is None:
            return False
        reading = sum(prefill.tokens for prefill in self._prefills)
        return SLACK * (rows * max(columns, LEAST_COLUMNS) + reading) > self._most

    def _decode(self) -> list[Token]:
        lengths = torch.tensor([row.length for row in self._rows])
        columns = self._cache.columns + 1
        states = forward(
            self._base,
            self._cache,
            self._side,
            self._plan,
            ids=torch.tensor([[row.ids[-1]] for row in self._rows]),
            mask=torch.arange(columns) >= columns - 1 - lengths[:, None],
            positions=lengths[:, None],
        )
        for row in self._rows:
            row.length += 1
        return self._choose(self._rows, states[:, -1])

    def _choose(self, rows: Sequence[BatchRow], states: Tensor) -> list[Token]:
        """The next token of each row from its last hidden state, `[rows, hidden]`."""
        # The head only sees the last position, laid out anew: on a CPU in bf16 it is about a
        # thousand times slower on a strided view.
        logits = self._base.logits(states.contiguous())
        params = [row.request.params for row in rows]
        chosen = sample(
            adjusted(logits, params, [row.ids for row in rows]),
            params,
            [row.stream for row in rows],
        ).tolist()
        row_scores = [
            scores(logits[place], [token], row.request.logprobs)[0]
            if row.request.logprobs is not None
            else None
            for place, (row, token) in enumerate(zip(rows, chosen, strict=True))
        ]
        return [
            self._take(row, token, score)
            for row, token, score in zip(rows, chosen, row_scores, strict=True)
            if not row.ended
        ]

    def _take(self, row: BatchRow, token: int, score: TokenScores | None) -> Token:
        request = row.request
        prompt, row.prompt_scores = row.prompt_scores or None, []
        stops = self._base.stop_ids if request.stop_ids is None else request.stop_ids
        if token in stops:
            row.ended = True
            return Token(row.number, None, "stop", score, prompt)
        row.ids.append(token)
        row.ended = len(row.ids) >= request.max_new_tokens
        return Token(row.number, token, "length" if row.ended else None, score, prompt)

    def _leave(self) -> None:
        """Take ended rows out of the batch; the last ones take their places."""
        places = list(range(len(self._rows)))
        moves: list[tuple[int, int]] = []
        place = 0
        while place < len(places):
            if not self._rows[places[place]].ended:
                place += 1
                continue
            last = places.pop()
            if place < len(places):
                places[place] = last
                moves.append((len(places), place))
        if len(places) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in places]
        if not self._rows:
            self._plan, self._cache = self._side.plan([]), RowCache(self._base.model.config)
            return
        longest = max(row.length for row in self._rows)
        self._cache.keep_(moves, len(self._rows), self._cache.columns - longest)
        self._plan.select_(torch.tensor(places))

    def _set_aside(self) -> None:
        """Take the row that joined last out, to be read again first of all when there is room."""
        latest = max(self._rows, key=lambda row: row.number)
        self._waiting.appendleft(latest.read_again())
        latest.ended = True
        self._leave()

    def _read(self) -> list[Token]:
        """One piece of a prompt; rows whose prompt is complete join with their first token."""
        self._prefills = deque(prefill for prefill in self._prefills if not prefill.abandoned)
        self._begin_reading()
        if not self._prefills:
            return []
        prefill = self._prefills.popleft()
        states = prefill.step()
        if states is None:
            self._prefills.append(prefill)
            return []
        first = self._choose(prefill.members, states[prefill.places])
        self._join(prefill)
        return first

    def _begin_reading(self) -> None:
        self._waiting = deque(row for row in self._waiting if not row.ended)
        if not self._waiting:
            return
        rows = len(self._rows) + sum(len(prefill.members) for prefill in self._prefills)
        columns = max([self._cache.columns, *(prefill.columns for prefill in self._prefills)])

        def fits(more: int, longest: int) -> bool:
            return not self._too_much(rows + more, max(columns, longest) + 1)

        taken = similar(self._waiting, fits)
        if not taken and not rows:
            taken = [self._waiting[0]]  # alone it may be larger than what there is for all
        if taken:
            gone = {row.number for row in taken}
            self._waiting = deque(row for row in self._waiting if row.number not in gone)
            self._prefills.append(Prefill(self._base, self._side, taken))

    def _join(self, prefill: Prefill) -> None:
        staying = [
            (row, place)
            for row, place in zip(prefill.members, prefill.places, strict=True)
            if not row.ended
        ]
        if not staying:
            return
        places = [place for _, place in staying]
        if self._rows or places != list(range(prefill.texts)):
            self._cache.join_(prefill.cache, places)
        else:
            self._cache = prefill.cache
        self._rows += [row for row, _ in staying]
        self._plan = self._side.plan([row.request.mixture for row in self._rows])


def generate(
    base: LoadedModel,
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
    """Continue every prompt; prompts of similar length share a batch, each of which advances
    the current step of the work.

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
    with base.ranks_for(sum(len(prompt) + max_new_tokens for prompt in prompts)) as ranks:
        # As many batches for each rank, all of about the same size.
        batches = ranks.size * ceil(len(order) / ranks.size / batch_rows)
        size = ceil(len(order) / batches) if batches else 1
        for start in range(ranks.rank * size, len(order), ranks.size * size):
            rows = order[start : start + size]
            batch = _generate_batch(base, side, [requests[row] for row in rows])
            made.update(zip(rows, batch, strict=True))
            progress.advance(start + len(rows), len(order))
        for part in ranks.gather(made):
            made |= part
    return [made[row] for row in range(len(requests))]


def _generate_batch(
    base: LoadedModel, side: SidePath, requests: Sequence[Request]
) -> list[Generated]:
    decoding = Decoding(base, side, requests)
    ids: list[list[int]] = [[] for _ in requests]
    reasons: list[FinishReason] = ["length"] * len(requests)
    while not decoding.done:
        for token in decoding.step():
            if token.id is not None:
                ids[token.row].append(token.id)
            if token.finish_reason is not None:
                reasons[token.row] = token.finish_reason
    return [Generated(tuple(row), reason) for row, reason in zip(ids, reasons, strict=True)]
