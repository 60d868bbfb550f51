"""KL to the base on neutral text: one half of the texts to calibrate on, the other to report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeVar

import numpy as np

from models_store.presets import neutral_code, neutral_texts
from models_store.schemas.items import CompletionItem, TextItem
from workers.evaluation.progress import Progress
from workers.evaluation.seeds import derive
from workers.runtime.likelihood import Divergence, Reading, compare, read
from workers.runtime.loading import BaseModel
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Mixture, Term

T = TypeVar("T")
Half = Literal["calibration", "reporting"]
MAX_TOKENS = 48
"""A neutral text is cut after so many tokens: many short texts say more than few long ones."""


@dataclass(frozen=True)
class NeutralTexts:
    """Encoded neutral texts; the plain ones come first."""

    texts: Sequence[Encoded]
    plain: int
    """How many are plain; the others are answers in conversations."""
    code: frozenset[int] = frozenset()
    """Indices of plain ones that are source code."""

    @property
    def parts(self) -> tuple[Sequence[Encoded], Sequence[Encoded]]:
        """Plain ones and answers."""
        return self.texts[: self.plain], self.texts[self.plain :]

    def kinds(self, each: int) -> dict[str, list[Encoded]]:
        """Plain text, code and chat apart, so many of each at most and none that is empty."""
        code = [self.texts[index] for index in sorted(self.code)]
        prose = [self.texts[index] for index in range(self.plain) if index not in self.code]
        kinds = {"plain": prose, "code": code, "chat": list(self.texts[self.plain :])}
        return {kind: texts[:each] for kind, texts in kinds.items() if texts}


def encode_neutral(
    base: BaseModel,
    half: Half,
    *,
    each: int | None = None,
    skip: int = 0,
    max_tokens: int = MAX_TOKENS,
    texts: tuple[Sequence[TextItem], Sequence[CompletionItem]] | None = None,
) -> NeutralTexts:
    """One half of the neutral texts; no text is in both, whatever the seed.

    Args:
        each: so many plain texts and so many answers at most.
        skip: so many of each are left out first.
        max_tokens: a text is cut after so many tokens.
        texts: plain texts and conversations; by default Scalpel's own. For a model without a chat
            template an empty line stands between a message and the answer to it.
    """
    plain, chat = neutral_texts() if texts is None else texts
    some, answers = _half(plain, half)[skip:][:each], _half(chat, half)[skip:][:each]
    if not base.has_chat_template:
        answers = [
            answer.model_copy(update={"prompt": f"{answer.prompt}\n\n"}) for answer in answers
        ]
    read_plain = encode(base, some, max_tokens=max_tokens, chat=False)
    read_chat = encode(base, answers, max_tokens=max_tokens, chat=True, end_of_turn=True)
    code = frozenset(i for i, item in enumerate(some) if item.text in neutral_code())
    return NeutralTexts([*read_plain, *read_chat], len(read_plain), code)


def _half(texts: Sequence[T], half: Half) -> list[T]:
    """One half, in an order of its own: what stands side by side in a file is of a kind."""
    order = np.random.default_rng(derive(0, "neutral")).permutation(len(texts))
    border = len(texts) // 2
    return [texts[index] for index in (order[:border] if half == "calibration" else order[border:])]


class KlMeter:
    """Measures edits against one model, which is read once, on the same texts.

    They come in parts, each with a mean of its own.
    """

    def __init__(
        self,
        base: BaseModel,
        parts: Sequence[Sequence[Encoded]],
        *,
        on_top: Mixture = (),
        side: SidePath | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Args:
        parts: of these the ones that are not empty are measured.
        on_top: edits that are part of the model that is compared to.
        """
        ends = list(accumulate(map(len, parts)))
        self.parts = [
            slice(end - len(part), end) for part, end in zip(parts, ends, strict=True) if part
        ]
        """Indices of the texts of each part."""
        self._base = base
        self._texts = [text for part in parts for text in part]
        self._on_top = on_top
        self._side = side or SidePath(base)
        self._reference: Reading = read(
            base, self._texts, on_top, side=self._side, progress=progress
        )

    def divergence(
        self, terms: Sequence[Term], strength: float = 1.0, *, progress: Progress | None = None
    ) -> Divergence:
        """The edit at a strength against the model without it, text by text."""
        mixture = [*self._on_top, (terms, strength)]
        reading = read(self._base, self._texts, mixture, side=self._side, progress=progress)
        return compare(self._base, self._reference, reading)

    def kl(self, terms: Sequence[Term], strength: float = 1.0) -> float:
        """The largest of the means of the parts, in nats a token.

        It is infinite for a model whose logits are not finite.
        """
        means = self.means(self.divergence(terms, strength))
        # An edit that breaks the model is infinitely far away: a search must turn back from it.
        return max(means) if all(map(math.isfinite, means)) else math.inf

    def means(self, found: Divergence) -> list[float]:
        """Mean KL of each of the `parts`."""
        return [mean_kl(found, part) for part in self.parts]


def mean_kl(found: Divergence, part: slice) -> float:
    """Mean over all positions of some of the texts."""
    return float(np.average(found.kl[part], weights=found.positions[part]))


def calibration_meter(
    base: BaseModel,
    *,
    on_top: Mixture = (),
    each: int | None = None,
    side: SidePath | None = None,
    progress: Progress | None = None,
) -> KlMeter:
    """The meter to tune an edit's strength with; its texts are never reported on.

    Args:
        each: so many plain texts and answers at most, to be quick.
    """
    return KlMeter(
        base,
        encode_neutral(base, "calibration", each=each).parts,
        on_top=on_top,
        side=side,
        progress=progress,
    )
