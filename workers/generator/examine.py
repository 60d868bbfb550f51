"""Estimate an edit of some texts, and score drafted texts, with a resident base model.

Forward passes run in the engine's thread, in pieces of a fraction of a second between decoding
steps; the rest runs in the request's thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models_store.errors import InvalidRequest
from models_store.schemas.estimates import Estimate, EstimateRequest, ProbeRequest, ProbeScores
from models_store.schemas.items import Item
from models_store.schemas.methods import Limits
from models_store.schemas.report import Remark
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.data.splits import Sides, Splits, split_behavior
from workers.evaluation.estimate.estimate import (
    Features,
    checks,
    checks_of_prompts,
    probe_margins,
)
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats
from workers.generator.engine.engine import Engine
from workers.generator.shelf import Shelf
from workers.making import base_responses
from workers.making.forecast import Speed, delta_bytes, memory_bytes, seconds
from workers.making.scored_texts import generated_tokens, stand_in
from workers.making.search.choosing import recipes_of
from workers.making.search.recipes import methods_of
from workers.runtime.decoding.decode import Decoding
from workers.runtime.decoding.requests import Request
from workers.runtime.decoding.sampling import SamplingParams
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.edits.side_path import SidePath
from workers.runtime.reading.extract import features
from workers.runtime.tokens import Encoded, batches, encode, encode_prompt
from workers.surgery.terms import Mixture

Ints = NDArray[np.int64]

MOST_TEXTS = 200
"""Texts to read per side, in proportion to the splits."""
READ_SECONDS = 20.0
"""Time of forward passes after which reading stops, but not before `FEWEST_TEXTS`."""
FEWEST_TEXTS = 80
WAIT_SECONDS = 90.0
"""Time limit of a request while other requests keep the model busy."""
FOLDS = 5
_SIDES = ("undesired", "desired")

_TEXTS_TO_MAKE = Remark(
    code="texts_to_be_made",
    pointer="/behavior/scorer",
    detail="the edit makes the texts, of what the base model says: how well the two sides can be "
    "told apart is not known before, nor whether the base model shows both",
)
_NO_TEXTS = dict.fromkeys(
    (
        *(f"{part}_{side}" for part in ("fit", "scorer", "heldout") for side in _SIDES),
        "near_duplicates",
    ),
    0,
)

_PIECE_TOKENS = {"cpu": 256}
"""Padded tokens of one piece: 0.2 s for SmolLM2 on two cores."""
_LARGE_PIECE_TOKENS = 8192
_MOST_TOKENS = 256
"""Texts are truncated to this, so that a single one is not a long piece."""
_CHUNK = 40
"""Texts that are sorted by length and read together; after each, reading may stop."""
_TIMED_ROWS = 32
_TIMED_TOKENS = 16
"""The last tokens of each prompt; longer prompts hardly make a step slower."""
_TIMED_STEPS = 4


def estimate(
    shelf: Shelf,
    engine: Engine,
    request: EstimateRequest,
    *,
    read_seconds: float = READ_SECONDS,
) -> Estimate:
    """What an edit would cost, and whether its texts are separable.

    Of a behaviour whose texts are still to be made only the cost: neutral texts stand in.

    Speeds are measured on the behaviour's texts and prompts: tokens per second of forward passes,
    and of a few decoding steps of a batch. The time of other requests is not counted.

    Raises:
        InvalidRequest: the behaviour cannot be split, or the model cannot encode a text.
        Unavailable: other requests kept the model busy.
        BaseModelUnavailable, NotFound, CorruptArtifact: as `Shelf` says.
    """
    side = shelf.base(request.base_model, request.base_fingerprint, request.source)
    base, behavior = side.base, request.behavior
    made = behavior.lacks_texts
    if made and behavior.undesired_from is not None:
        generated_first = base_responses.generated_tokens(base, behavior)
        behavior = base_responses.unanswered(behavior)
    elif made:
        generated_first = generated_tokens(behavior, request.seed)
        behavior = stand_in(behavior, request.seed)
    else:
        generated_first = 0
    below = shelf.mixture(request.on_top_of) if request.on_top_of is not None else []
    splits = split_behavior(behavior, request.seed)
    sample = _Sample(splits, derive(request.seed, "estimate"))
    cut = min(request.method.max_tokens, _MOST_TOKENS)
    texts = encode(base, sample.items, max_tokens=cut, chat=behavior.chat)
    reading = _Reading(side, texts, below, enough=FEWEST_TEXTS, most_seconds=read_seconds)
    engine.run(reading.pieces(), timeout=WAIT_SECONDS)
    prompts = [
        encode_prompt(base, prompt.text, chat=behavior.chat) for prompt in splits.test[:_TIMED_ROWS]
    ]
    timing = _Timing(side, prompts, below)
    engine.run(timing.pieces(), timeout=WAIT_SECONDS)
    read = sample.first(reading.done, reading.features)
    plan = plan_for(request.effort)
    counts = splits.counts()
    if made:
        quality = None
        visible, about_prompts = checks_of_prompts(behavior, splits, plan)
        field = "undesired_from" if behavior.undesired_from is not None else "scorer"
        remark = _TEXTS_TO_MAKE.model_copy(update={"pointer": f"/behavior/{field}"})
        warnings = (remark, *about_prompts)
        counts = counts.model_copy(update=_NO_TEXTS)
    else:
        quality = checks(behavior, splits, read, seed=request.seed, plan=plan)
        visible, warnings = quality.smallest_effect, quality.warnings
    prompt_seconds = float(np.mean([len(prompt) for prompt in prompts])) / reading.speed
    speed = Speed(reading.speed, timing.speed(behavior.max_new_tokens, prompt_seconds))
    context = EvaluationContext(
        model=EditedModel(base, side=side),
        behavior=behavior,
        splits=splits,
        method=request.method.type,
        limits=Limits(),
        seed=request.seed,
        plan=plan,
        preserve=request.preserve,
    )
    tried = recipes_of(context, request.method, request.effort)
    return Estimate(
        base_model=request.base_model,
        behavior=request.ref,
        method=request.method,
        effort=request.effort,
        splits=counts,
        separability=None if quality is None else quality.separability,
        duplicates=0 if quality is None else quality.duplicates,
        smallest_effect=visible,
        warnings=warnings if request.in_place else tuple(map(_named, warnings)),
        seconds=seconds(
            context,
            request.method,
            tried,
            request.effort,
            speed,
            tokens_per_text=reading.tokens / reading.done,
            generated_first=generated_first,
            past=request.past,
        ),
        memory_bytes=memory_bytes(base, methods_of(tried)),
        delta_bytes=delta_bytes(base, tried),
        texts_read=0 if made else reading.done,
    )


def probe_scores(shelf: Shelf, engine: Engine, request: ProbeRequest) -> ProbeScores:
    """Each text's score by a probe that was fitted on other pairs.

    Raises:
        InvalidRequest: the model cannot encode a text, or there are too few pairs.
        Unavailable: other requests kept the model busy.
        BaseModelUnavailable: as `Shelf` says.
    """
    side = shelf.base(request.base_model, request.base_fingerprint, request.source)
    items = (*request.undesired, *request.desired)
    texts = encode(side.base, items, max_tokens=100, chat=request.chat)
    reading = _Reading(side, texts, [], enough=len(texts))
    engine.run(reading.pieces(), timeout=WAIT_SECONDS)
    border = len(request.undesired)
    labels = np.array([1] * border + [0] * len(request.desired))
    margins = _cross_validated(reading.features, labels, _folds(items, request.seed))
    return ProbeScores(
        undesired=tuple(margins[:border].tolist()), desired=tuple(margins[border:].tolist())
    )


def _named(remark: Remark) -> Remark:
    """The same remark, for a behaviour that the request only names."""
    return remark.model_copy(update={"pointer": "/behavior"})


def _cross_validated(read: Tensor, labels: Ints, folds: Ints) -> Floats:
    margins = np.empty(len(read))
    for fold in range(FOLDS):
        rest, tested = folds != fold, folds == fold
        margins[tested] = probe_margins(read[rest], labels[rest].tolist(), read[tested])
    return margins


def _folds(items: Sequence[Item], seed: int) -> Ints:
    """A fold for each text, the same one for texts of one pair; `[texts]`."""
    keys = [item.pair_id or f"\0{place}" for place, item in enumerate(items)]
    distinct = list(dict.fromkeys(keys))
    if len(distinct) < 2 * FOLDS:
        raise InvalidRequest(f"{len(distinct)} pairs are too few to judge them by each other")
    order = np.random.default_rng(seed).permutation(len(distinct)).tolist()
    fold_of = {distinct[at]: place % FOLDS for place, at in enumerate(order)}
    return np.array([fold_of[key] for key in keys])


class _Sample:
    """At most `MOST_TEXTS` texts per side, in an order of which every prefix is balanced."""

    def __init__(self, splits: Splits, seed: int) -> None:
        rng = np.random.default_rng(seed)
        groups = [
            (part, undesired, items)
            for part, sides in (("fit", splits.fit), ("heldout", splits.heldout))
            for undesired, items in ((True, sides.undesired), (False, sides.desired))
        ]
        placed = []
        for part, undesired, items in groups:
            total = sum(len(other) for _, same, other in groups if same is undesired)
            most = max(2, round(MOST_TEXTS * len(items) / total))
            chosen = rng.permutation(len(items))[:most].tolist()
            placed += [
                ((place + 0.5) / len(chosen), part, undesired, items[index])
                for place, index in enumerate(chosen)
            ]
        placed.sort(key=itemgetter(0))
        self._marks = [(part, undesired) for _, part, undesired, _ in placed]
        self.items = [item for *_, item in placed]

    def first(self, count: int, read: Tensor) -> Features:
        """The features of the first `count` texts, by split and side."""

        def rows(part: str, undesired: bool) -> list[int]:
            return [i for i, mark in enumerate(self._marks[:count]) if mark == (part, undesired)]

        def sides(part: str) -> tuple[Sides, Tensor]:
            first, second = rows(part, True), rows(part, False)
            chosen = Sides(
                tuple(self.items[i] for i in first), tuple(self.items[i] for i in second)
            )
            return chosen, read[[*first, *second]]

        fit, fit_features = sides("fit")
        heldout, heldout_features = sides("heldout")
        return Features(fit, heldout, fit_features, heldout_features)


class _Reading:
    """Reads features of texts, piece by piece, until all are read or time is up."""

    def __init__(
        self,
        side: SidePath,
        texts: Sequence[Encoded],
        below: Mixture,
        *,
        enough: int,
        most_seconds: float = READ_SECONDS,
    ) -> None:
        self._side = side
        self._texts = texts
        self._below = below
        self._enough = enough
        self._most_seconds = most_seconds
        self._seconds = 0.0
        self._speeds: list[float] = []
        self._features: list[Tensor] = []
        self.done = 0
        """How many texts were read."""
        self.tokens = 0

    @property
    def features(self) -> Tensor:
        """fp32 `[done, hidden]`."""
        return torch.cat(self._features)

    @property
    def speed(self) -> float:
        """Tokens a second: the upper quartile over pieces, some of which others slow down."""
        return float(np.quantile(self._speeds, 0.75))

    def pieces(self) -> Iterator[None]:
        base = self._side.base
        tokens = _PIECE_TOKENS.get(base.device.type, _LARGE_PIECE_TOKENS)
        for start in range(0, len(self._texts), _CHUNK):
            if start >= self._enough and self._seconds >= self._most_seconds:
                return
            chunk = self._texts[start : start + _CHUNK]
            pooled = torch.empty(len(chunk), base.hidden_size)
            for batch in batches(chunk, tokens=tokens):
                rows = list(batch.index)
                began = time.perf_counter()
                with self._side.rows([self._below]):
                    pooled[rows] = features(base, [chunk[row] for row in rows])
                taken = time.perf_counter() - began
                self._seconds += taken
                self._speeds.append(int(batch.real.sum()) / taken)
                yield
            self._features.append(pooled)
            self.done += len(chunk)
            self.tokens += sum(map(len, chunk))


class _Timing:
    """Times the decoding steps of a full batch."""

    def __init__(self, side: SidePath, prompts: Sequence[Sequence[int]], below: Mixture) -> None:
        self._side = side
        # Repeat prompts if there are few, so that the batch is full.
        self._requests = [
            Request(
                prompts[row % len(prompts)][-_TIMED_TOKENS:],
                max_new_tokens=_TIMED_STEPS + 2,
                mixture=below,
                params=SamplingParams(temperature=0.8, top_k=40),
                seed=row,
                stop_ids=frozenset(),
            )
            for row in range(_TIMED_ROWS)
        ]
        self._steps: list[float] = []

    def speed(self, new_tokens: int, prompt_seconds: float) -> float:
        """Tokens a second if each row reads its prompt and generates `new_tokens`."""
        rows = len(self._requests)
        step = float(np.quantile(self._steps, 0.25))
        return rows * new_tokens / (rows * prompt_seconds + step * new_tokens)

    def pieces(self) -> Iterator[None]:
        decoding = Decoding(self._side.base, self._side, self._requests)
        while decoding.reading:
            decoding.step()
            yield
        for _ in range(_TIMED_STEPS):
            began = time.perf_counter()
            decoding.step()
            self._steps.append(time.perf_counter() - began)
            yield
