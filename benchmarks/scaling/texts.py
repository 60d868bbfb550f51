"""As many different texts as wanted, of pieces of a preset's texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from models_store.presets import load_preset
from models_store.schemas.items import Item, TextItem, text_of
from workers.evaluation.data.splits import Sides

PRESET = "negativity"
_PIECE_WORDS = (2, 6)


def made_sides(count: int, *, words: int | None = None, seed: int = 0) -> Sides:
    """So many texts, half a side: pieces of 2 to 6 words, in a row, of texts of that side.

    Args:
        words: of each text; by default as many as a text drawn at random has.
    """
    preset = load_preset(PRESET)
    generator = random.Random(seed)
    return Sides(
        _recombined(preset.undesired, count // 2, words, generator),
        _recombined(preset.desired, count - count // 2, words, generator),
    )


def _recombined(
    items: Sequence[Item], count: int, words: int | None, generator: random.Random
) -> tuple[TextItem, ...]:
    texts = [text_of(item).split() for item in items]

    def made() -> str:
        wanted = words or len(generator.choice(texts))
        taken: list[str] = []
        while len(taken) < wanted:
            source = generator.choice(texts)
            start = generator.randrange(max(1, len(source) - 1))
            taken += source[start : start + generator.randint(*_PIECE_WORDS)]
        return " ".join(taken[:wanted])

    return tuple(TextItem(text=made()) for _ in range(count))
