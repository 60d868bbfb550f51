"""Reading prompts a piece at a time, beside the batch that they will join."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from workers.runtime.decoding.kv_cache import LEAST_COLUMNS, RowCache
from workers.runtime.decoding.requests import BatchRow
from workers.runtime.decoding.sampling import TokenScores, scores
from workers.runtime.edits.side_path import RowPlan, SidePath
from workers.runtime.loading import LoadedModel

_PIECE_TOKENS = {"cpu": 256}
_LARGE_PIECE_TOKENS = 4096
"""What a piece has on an accelerator."""
_SCORED_POSITIONS = 256
"""Positions whose logits are held at the same time."""
_ALIKE = 32
"""Prompts whose lengths differ by less are read together, and those of up to twice the length."""


def forward(
    base: LoadedModel,
    cache: RowCache,
    side: SidePath,
    plan: RowPlan,
    *,
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
) -> Tensor:
    """Last hidden states `[rows, new, hidden]` of new tokens; their keys go into the cache.

    Args:
        ids: int64 `[rows, new]`.
        mask: bool `[rows, all]`, False where a row is filled up.
        positions: int64 `[rows, new]`.
    """
    with side.active(plan):
        states: Tensor = base.decoder(
            input_ids=ids.to(base.device),
            attention_mask=mask.to(base.device),
            position_ids=positions.to(base.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
    return states


def similar(waiting: Iterable[BatchRow], fits: Callable[[int, int], bool]) -> list[BatchRow]:
    """The first row and those that are good to read with it, as far as they fit.

    Args:
        fits: whether there is room for so many rows, the longest of which has so many tokens.
    """
    taken: list[BatchRow] = []
    longest = 0
    for row in waiting:
        length = row.size
        first = taken[0].size if taken else length
        near = min(first, length) * 2 >= max(first, length) or abs(first - length) < _ALIKE
        if near and fits(len(taken) + 1, max(longest, length)):
            taken.append(row)
            longest = max(longest, length)
        elif not taken:
            return []
    return taken


class Prefill:
    """Prompts that are read together; rows with the same prompt and edits share one reading."""

    def __init__(self, base: LoadedModel, side: SidePath, rows: Sequence[BatchRow]) -> None:
        self.members = list(rows)
        texts: dict[tuple[object, ...], int] = {}
        self.places = [
            texts.setdefault((*row.text, id(row.request.mixture)), len(texts)) for row in rows
        ]
        """Of each member, which text it has."""
        firsts = [self.places.index(place) for place in range(len(texts))]
        self._base = base
        self._side = side
        self._texts = [rows[first].text for first in firsts]
        self._plan = side.plan([rows[first].request.mixture for first in firsts])
        self.cache = RowCache(base.model.config)
        self.columns = max(map(len, self._texts))
        most = _PIECE_TOKENS.get(base.device.type, _LARGE_PIECE_TOKENS)
        self._piece = max(1, most // len(self._texts))

    @property
    def texts(self) -> int:
        return len(self._texts)

    @property
    def abandoned(self) -> bool:
        return all(row.ended for row in self.members)

    @property
    def tokens(self) -> int:
        """Padded tokens of all texts."""
        return self.texts * max(self.columns, LEAST_COLUMNS)

    def step(self) -> Tensor | None:
        """Read the next piece; after the last one the last hidden states, `[texts, hidden]`."""
        start = self.cache.columns
        end = min(start + self._piece, self.columns)
        lengths = torch.tensor([len(text) for text in self._texts])[:, None]
        places = torch.arange(end) - (self.columns - lengths)
        filler = self._base.pad_id
        ids = [
            [text[at] if at >= 0 else filler for at in row]
            for text, row in zip(self._texts, places[:, start:].tolist(), strict=True)
        ]
        states = forward(
            self._base,
            self.cache,
            self._side,
            self._plan,
            ids=torch.tensor(ids),
            mask=places >= 0,
            positions=places[:, start:].clamp_min(0),
        )
        self._score(states, start)
        if end < self.columns:
            return None
        for row in self.members:
            row.length = row.size
        return states[:, -1]

    def _score(self, states: Tensor, start: int) -> None:
        """Note how likely the prompts' tokens are, for members that ask."""
        members: defaultdict[int, list[BatchRow]] = defaultdict(list)
        for row, place in zip(self.members, self.places, strict=True):
            if row.wants_prompt_scores:
                members[place].append(row)
        for place, asking in members.items():
            text = self._texts[place]
            top = max(row.request.prompt_logprobs or 0 for row in asking)
            # The state at a position predicts the token after it.
            begin = start - (self.columns - len(text))
            predicting = states[place, max(0, -begin) :]
            targets = text[max(0, begin) + 1 : max(0, begin) + 1 + len(predicting)]
            scored: list[TokenScores] = []
            for cut in range(0, len(targets), _SCORED_POSITIONS):
                some = targets[cut : cut + _SCORED_POSITIONS]
                logits = self._base.logits(predicting[cut : cut + len(some)].contiguous())
                scored += scores(logits, some, top)
            for row in asking:
                row.prompt_scores = [*(row.prompt_scores or [None]), *scored]
