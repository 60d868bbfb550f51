"""KL to the base on neutral text: some to fit edits on, some to scale them on, some to report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal, TypeVar

import numpy as np

from models_store.presets import (
    NeutralText,
    calibration_texts,
    neutral_texts,
    reporting_texts,
)
from models_store.schemas.items import ChatItem, CompletionItem, TextItem, text_of
from workers.evaluation.seeds import derive
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import Divergence, TextReading, compare
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Term

T = TypeVar("T")
Use = Literal["curvature", "fitting", "calibration", "reporting"]
NeutralItems = tuple[Sequence[TextItem], Sequence[CompletionItem | ChatItem]]
"""Plain texts and conversations."""
MAX_TOKENS = 48
"""A neutral text is cut after so many tokens: many short texts say more than few long ones."""


@dataclass(frozen=True)
class NeutralTexts:
    """Encoded neutral texts; the plain ones come first."""

    texts: Sequence[Encoded]
    plain: int
    """How many are plain; the others are answers in conversations."""
    kinds: Sequence[str] = ()
    """Of the plain ones; empty where they have none."""

    @property
    def parts(self) -> tuple[Sequence[Encoded], Sequence[Encoded]]:
        """Plain ones and answers."""
        return self.texts[: self.plain], self.texts[self.plain :]

    def by_kind(self, each: int) -> dict[str, list[Encoded]]:
        """So many texts at most of each kind, answers among them as `chat`."""
        places = {**places_of(self.kinds), "chat": list(range(self.plain, len(self.texts)))}
        return {kind: [self.texts[i] for i in some[:each]] for kind, some in places.items()}


def encode_neutral(
    base: LoadedModel,
    texts: Use | NeutralItems,
    *,
    each: int | None = None,
    max_tokens: int = MAX_TOKENS,
) -> NeutralTexts:
    """Neutral texts as the model reads them.

    Args:
        texts: Scalpel's own for one use, or others. For a model without a chat template an empty
            line stands between a message and the answer to it.
        each: so many plain texts and so many answers at most.
        max_tokens: a text is cut after so many tokens.
    """
    if isinstance(texts, str):
        texts = _TEXTS[texts]()
    plain, chat = texts[0][:each], texts[1][:each]
    if not base.has_chat_template:
        chat = [_spelled_out(item) for item in chat]
    read_plain = encode(base, plain, max_tokens=max_tokens, chat=False)
    read_chat = encode(base, chat, max_tokens=max_tokens, chat=True, end_of_turn=True)
    kinds = [item.kind for item in plain if isinstance(item, NeutralText)]
    return NeutralTexts([*read_plain, *read_chat], len(read_plain), kinds)


@cache
def curvature_texts() -> NeutralItems:
    """The neutral texts that the curvature of a model is read on."""
    plain, chat = neutral_texts()
    return _halves(plain)[0], _halves(chat)[0]


@cache
def fitting_texts() -> NeutralItems:
    """The neutral texts that methods are fitted on."""
    plain, chat = neutral_texts()
    return _halves(plain)[1], _halves(chat)[1]


def _halves(texts: Sequence[T]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """In an order of their own: what stands side by side in a file is of a kind."""
    order = np.random.default_rng(derive(0, "neutral")).permutation(len(texts))
    mixed = [texts[index] for index in order]
    border = len(texts) // 2
    return tuple(mixed[:border]), tuple(mixed[border:])


_TEXTS: Mapping[Use, Callable[[], NeutralItems]] = {
    "curvature": curvature_texts,
    "fitting": fitting_texts,
    "calibration": calibration_texts,
    "reporting": reporting_texts,
}


def _spelled_out(item: CompletionItem | ChatItem) -> CompletionItem:
    """A conversation with an empty line after each message but the last."""
    before = (
        [message.content for message in item.messages[:-1]]
        if isinstance(item, ChatItem)
        else [item.prompt]
    )
    prompt = "".join(f"{message}\n\n" for message in before)
    return CompletionItem(prompt=prompt, completion=text_of(item))


def places_of(kinds: Sequence[str]) -> dict[str, list[int]]:
    """Indices of the texts of each kind, from the kind of each text."""
    places: dict[str, list[int]] = {kind: [] for kind in kinds}
    for place, kind in enumerate(kinds):
        places[kind].append(place)
    return places


@dataclass(frozen=True, eq=False)
class KlMeter:
    """Measures edits against one model, which was read once, on the same texts.

    They come in parts, each with a mean of its own.
    """

    model: EditedModel
    """What edits go on top of."""
    texts: Sequence[Encoded]
    parts: Sequence[slice]
    """Indices of the texts of each part."""
    reference: TextReading
    """Of the model without the edits that are measured."""

    @classmethod
    def read(cls, model: EditedModel, parts: Sequence[Sequence[Encoded]]) -> KlMeter:
        """Read the texts; of their parts the ones that are not empty are measured."""
        ends = list(accumulate(map(len, parts)))
        slices = [
            slice(end - len(part), end) for part, end in zip(parts, ends, strict=True) if part
        ]
        texts = [text for part in parts for text in part]
        return cls(model, texts, slices, model.reading(texts))

    def of(self, parts: Sequence[Sequence[int]]) -> KlMeter:
        """The same on some of the texts of each part, by their indices within the part."""
        texts = [
            part.start + place
            for part, places in zip(self.parts, parts, strict=True)
            for place in places
        ]
        ends = list(accumulate(map(len, parts)))
        slices = [slice(end - len(part), end) for part, end in zip(parts, ends, strict=True)]
        return KlMeter(
            self.model, [self.texts[text] for text in texts], slices, self.reference.of(texts)
        )

    def divergence(self, terms: Sequence[Term], strength: float = 1.0) -> Divergence:
        """The edit at a strength against the model without it, text by text."""
        reading = self.model.plus(terms, strength).reading(self.texts)
        return compare(self.model.loaded, self.reference, reading)

    def kl(self, terms: Sequence[Term], strength: float = 1.0) -> float:
        """The largest of the means of the parts, in nats a token.

        It is infinite for a model whose logits are not finite.
        """
        reading = self.model.plus(terms, strength).reading(self.texts)
        means = self.means(compare(self.model.loaded, self.reference, reading))
        # An edit that breaks the model is infinitely far away: a search must turn back from it.
        return max(means) if all(map(math.isfinite, means)) else math.inf

    def means(self, measured: Divergence) -> list[float]:
        """Mean KL of each of the `parts`."""
        return [mean_kl(measured, part) for part in self.parts]


def mean_kl(measured: Divergence, part: slice) -> float:
    """Mean over all positions of some of the texts."""
    return float(np.average(measured.kl[part], weights=measured.positions[part]))


def calibration_meter(model: EditedModel, *, each: int | None = None) -> KlMeter:
    """The meter to tune an edit's strength with; its texts are never reported on.

    Args:
        each: so many plain texts and answers at most, to be quick.
    """
    return KlMeter.read(model, encode_neutral(model.loaded, "calibration", each=each).parts)
