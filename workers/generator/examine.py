"""Look at texts with a resident base model: before an edit is made of them, or to sift drafts.

The model passes are done in the engine's thread, in pieces of a fraction of a second between the
steps of what is decoded; all the rest is done in the request's own thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

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
from workers.evaluation.estimate.estimate import Features, checks, probe_margins
from workers.evaluation.estimate.forecast import (
    Speed,
    delta_bytes,
    memory_bytes,
    seconds,
    tries_conditional,
)
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats
from workers.generator.engine.engine import Engine
from workers.generator.shelf import Shelf
from workers.runtime.decoding.decode import Decoding
from workers.runtime.decoding.requests import Request
from workers.runtime.decoding.sampling import SamplingParams
from workers.runtime.reading.extract import features
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import Encoded, batches, encode, encode_prompt
from workers.surgery.terms import Mixture

Ints = NDArray[np.int64]

MOST_TEXTS = 200
"""Of each side that are read, in the shares of the splits."""
READ_SECONDS = 20.0
"""Of the model's own time; what has been read by then is enough, down to `FEWEST_TEXTS`."""
FEWEST_TEXTS = 80
WAIT_SECONDS = 90.0
"""Until a request is given up because others keep the model busy."""
FOLDS = 5

_PIECE_TOKENS = {"cpu": 256}
"""Padded tokens that are read without a pause: 0.2 s for SmolLM2 on two cores."""
_LARGE_PIECE_TOKENS = 8192
_MOST_TOKENS = 256
"""Texts are cut there, so that a single one is no long piece."""
_CHUNK = 40
"""Texts that are sorted by length and read together; after each, reading may stop."""
_TIMED_ROWS = 32
_TIMED_TOKENS = 16
"""Of each prompt, the last ones: how long the prompt is makes a step hardly slower."""
_TIMED_STEPS = 4


def estimate(shelf: Shelf, engine: Engine, request: EstimateRequest) -> Estimate:
    """What an edit would take, and whether its texts can carry it.

    The speeds come from the very texts and prompts of the behaviour: tokens that were read over
    the seconds of their forward passes, and tokens of a few steps of a batch of prompts over
    theirs. Other requests' steps are not in these seconds.

    Raises:
        InvalidRequest: the behaviour cannot be split, or a text cannot be read by this model.
        Unavailable: others kept the model busy.
        BaseModelUnavailable, NotFound, CorruptArtifact: as `Shelf` says.
    """
    side = shelf.base(request.base_model, request.base_fingerprint, request.source)
    base, behavior = side.base, request.behavior
    below = shelf.mixture(request.on_top_of) if request.on_top_of is not None else []
    splits = split_behavior(behavior, request.seed)
    sample = _Sample(splits, derive(request.seed, "estimate"))
    cut = min(request.method.max_tokens, _MOST_TOKENS)
    texts = encode(base, sample.items, max_tokens=cut, chat=behavior.chat)
    reading = _Reading(side, texts, below, enough=FEWEST_TEXTS)
    engine.run(reading.pieces(), timeout=WAIT_SECONDS)
    prompts = [
        encode_prompt(base, prompt.text, chat=behavior.chat) for prompt in splits.test[:_TIMED_ROWS]
    ]
    timing = _Timing(side, prompts, below)
    engine.run(timing.pieces(), timeout=WAIT_SECONDS)
    read = sample.first(reading.done, reading.features)
    plan = plan_for(request.effort)
    found = checks(behavior, splits, read, seed=request.seed, plan=plan)
    prompt_seconds = float(np.mean([len(prompt) for prompt in prompts])) / reading.speed
    speed = Speed(reading.speed, timing.speed(behavior.max_new_tokens, prompt_seconds))
    context = EvaluationContext(
        base=base,
        behavior=behavior,
        splits=splits,
        method=request.method.type,
        limits=Limits(),
        seed=request.seed,
        plan=plan,
        preserve=request.preserve,
    )
    return Estimate(
        base_model=request.base_model,
        behavior=request.ref,
        method=request.method,
        effort=request.effort,
        splits=splits.counts(),
        separability=found.separability,
        duplicates=found.duplicates,
        warnings=found.warnings if request.in_place else tuple(map(_named, found.warnings)),
        seconds=seconds(
            context,
            request.method,
            request.effort,
            speed,
            tokens_per_text=reading.tokens / reading.done,
        ),
        memory_bytes=memory_bytes(base, request.method, conditional=tries_conditional(context)),
        delta_bytes=delta_bytes(base, request.method),
        texts_read=reading.done,
    )


def probe_scores(shelf: Shelf, engine: Engine, request: ProbeRequest) -> ProbeScores:
    """How undesired a probe says that each text is, fitted on the texts of other pairs.

    Raises:
        InvalidRequest: a text cannot be read by this model, or there are too few pairs.
        Unavailable: others kept the model busy.
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
    """The same about a behaviour that the request only names."""
    return remark.model_copy(update={"pointer": "/behavior"})


def _cross_validated(read: Tensor, labels: Ints, folds: Ints) -> Floats:
    margins = np.empty(len(read))
    for fold in range(FOLDS):
        rest, own = folds != fold, folds == fold
        margins[own] = probe_margins(read[rest], labels[rest].tolist(), read[own])
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
    """Texts to read, at most so many of a side, in an order of which any beginning is balanced."""

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
        placed.sort(key=lambda one: one[0])
        self._marks = [(part, undesired) for _, part, undesired, _ in placed]
        self.items = [item for *_, item in placed]

    def first(self, count: int, read: Tensor) -> Features:
        """The features of the first so many texts, by part and side."""

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
    """Features of texts, piece by piece, until there are enough or the time is over."""

    def __init__(
        self, side: SidePath, texts: Sequence[Encoded], below: Mixture, *, enough: int
    ) -> None:
        self._side = side
        self._texts = texts
        self._below = below
        self._enough = enough
        self._seconds = 0.0
        self._speeds: list[float] = []
        self._features: list[Tensor] = []
        self.done = 0
        """Texts that were read, the first ones."""
        self.tokens = 0

    @property
    def features(self) -> Tensor:
        """fp32 `[done, hidden]`."""
        return torch.cat(self._features)

    @property
    def speed(self) -> float:
        """Tokens a second: the upper quartile of the pieces, of which others on this machine slow
        some down."""
        return float(np.quantile(self._speeds, 0.75))

    def pieces(self) -> Iterator[None]:
        base = self._side.base
        tokens = _PIECE_TOKENS.get(base.device.type, _LARGE_PIECE_TOKENS)
        for start in range(0, len(self._texts), _CHUNK):
            if start >= self._enough and self._seconds >= READ_SECONDS:
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
    """How long a step of a full batch takes."""

    def __init__(self, side: SidePath, prompts: Sequence[Sequence[int]], below: Mixture) -> None:
        self._side = side
        # Few prompts are repeated: a batch is as full as one that is measured.
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
        """Tokens a second while each row gets so many, after its prompt was read."""
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
