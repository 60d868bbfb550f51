"""Keys and values of a batch whose rows come and go.

All rows end at the same column and are filled up on the left, so a step writes one column for
everybody. The buffers have room at both ends: nothing is copied in a step, and rows that leave or
join move only what is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

_GROWTH = 1.25
"""What buffers have beyond what is needed when they are made, in rows and in columns."""
SLACK = 1.6
"""What they have at most, as a multiple of the tokens in use."""
LEAST_COLUMNS = 64


class _Columns(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, `[rows, heads, columns, dim]` in larger buffers."""

    is_sliding = False
    is_compileable = False

    def __init__(self, is_sliding: bool) -> None:
        super().__init__()
        self.is_sliding = is_sliding
        self.rows = 0
        self.begin = 0
        self.end = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys = key_states[:, :, :0].clone()
        self.values = value_states[:, :, :0].clone()
        self.rows = len(key_states)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new columns for all rows; returns views of all columns in use."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = key_states.shape[2]
        self.make_room(self.rows, new)
        columns = slice(self.end, self.end + new)
        self.keys[: self.rows, :, columns] = key_states
        self.values[: self.rows, :, columns] = value_states
        self.end += new
        return self.view(self.keys), self.view(self.values)

    def view(self, buffer: Tensor) -> Tensor:
        return buffer[: self.rows, :, self.begin : self.end]

    @property
    def capacity(self) -> int:
        """Tokens that the buffers have room for."""
        return len(self.keys) * self.keys.shape[2] if self.is_initialized else 0

    def make_room(self, rows: int, right: int, left: int = 0) -> None:
        """Let there be so many rows, and free columns at either end of those in use."""
        if self.end + right > self.keys.shape[2] or left > self.begin or rows > len(self.keys):
            self._move(rows, right, left)

    def _move(self, rows: int, right: int, left: int) -> None:
        """To buffers of the size that is wanted, and a little more."""
        used = self.end - self.begin
        columns = max(LEAST_COLUMNS, int((left + used + right) * _GROWTH))
        for name in ("keys", "values"):
            old: Tensor = getattr(self, name)
            # Zeros, as what is masked is multiplied by 0 and must not be infinite.
            new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
            new[: self.rows, :, left : left + used] = self.view(old)
            setattr(self, name, new)
        self.begin, self.end = left, left + used

    def join_(self, keys: Tensor, values: Tensor) -> None:
        """Append rows, `[more, heads, columns, dim]`, whose last column is the batch's last."""
        if not self.is_initialized:
            self.lazy_initialization(keys[:0], values[:0])
        more, columns = len(keys), keys.shape[2]
        used = self.end - self.begin
        rows = self.rows + more
        # With room for more, so that a row that joins moves the others seldom.
        room = len(self.keys) if rows <= len(self.keys) else int(rows * _GROWTH)
        self.make_room(room, 0, max(0, columns - used))
        self.begin -= max(0, columns - used)
        for buffer, added in ((self.keys, keys), (self.values, values)):
            # What lies left of a row is masked, but must be a number.
            buffer[: self.rows, :, self.begin : self.end - used] = 0
            buffer[self.rows : rows, :, self.begin : self.end - columns] = 0
            buffer[self.rows : rows, :, self.end - columns : self.end] = added
        self.rows = rows

    def move_(self, moves: Sequence[tuple[int, int]], rows: int, skip: int) -> None:
        """Copy row a over row b for each (a, b); keep `rows` rows and all but `skip` columns."""
        for source, target in moves:
            for buffer in (self.keys, self.values):
                buffer[target, :, self.begin : self.end] = buffer[source, :, self.begin : self.end]
        self.rows = rows
        self.begin += skip
        if self.capacity > SLACK * rows * max(self.end - self.begin, LEAST_COLUMNS):
            self._move(rows, 0, 0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self.end - self.begin

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):  # type: ignore[misc]
    """A transformers cache for a batch that rows leave and join between forward passes.

    Layers with a sliding window keep all columns; their mask hides what is too old.
    """

    def __init__(self, config: Any) -> None:
        """`config` is the model's, which says what kind of attention each layer has."""
        kinds = DynamicCache(config=config).layers
        super().__init__(layers=[_Columns(kind.is_sliding) for kind in kinds])

    @property
    def columns(self) -> int:
        """Of the longest row."""
        return int(self.get_seq_length())

    @property
    def capacity(self) -> int:
        """Tokens that memory is held for."""
        return int(self.layers[0].capacity)

    def join_(self, other: RowCache, places: Sequence[int]) -> None:
        """Append rows of another cache: those at `places`, where one may be there more than once.

        Both must have been through the model.
        """
        index = torch.tensor(places)
        for mine, layer in zip(self.layers, other.layers, strict=True):
            at = index.to(layer.keys.device)
            mine.join_(layer.view(layer.keys)[at], layer.view(layer.values)[at])

    def keep_(self, moves: Sequence[tuple[int, int]], rows: int, skip: int) -> None:
        """See `_Columns.move_`; the same for all layers."""
        for layer in self.layers:
            layer.move_(moves, rows, skip)
