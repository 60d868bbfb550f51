"""Perplexity of a plain text, read in windows that follow one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models_store.schemas.measurements import Contrast, SuiteMetric
from workers import progress
from workers.evaluation.statistics import Bootstrap, Floats, interval
from workers.evaluation.suites.protocol import ModelPair
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import negative_log_likelihood
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded

_CHARACTERS_A_TOKEN = 16
"""More than any text has on average: so much of a long text is tokenised, and no more."""


def perplexity(pair: ModelPair, text: str, *, windows: int, window_tokens: int) -> SuiteMetric:
    """exp of the mean negative log-likelihood over all tokens of the windows.

    The unit of the interval is the window.

    Raises:
        InvalidRequest: the text has fewer than two tokens.
    """
    cut = cut_windows(pair.loaded, text, windows, window_tokens)
    before, after = (_sums(model, cut) for model in progress.track(pair.models))
    counts = np.array([len(window) - 1 for window in cut], dtype=np.float64)
    return SuiteMetric(
        name="perplexity",
        higher_is_better=False,
        of=_contrast(before, after, counts, pair.bootstrap),
        items=len(cut),
    )


def cut_windows(base: LoadedModel, text: str, windows: int, window_tokens: int) -> list[Encoded]:
    """Windows of at most `window_tokens` tokens that count, in order.

    Each begins with a token that does not count: the one that begins every text, for a tokenizer
    that has one, else the last of the window before.
    """
    size = min(window_tokens, base.context_length - 1)
    some = text[: _CHARACTERS_A_TOKEN * (windows * size + 1)]
    ids: list[int] = base.tokenizer(some, verbose=False)["input_ids"]
    begins = bool(ids) and ids[0] == base.tokenizer.bos_token_id
    lead, tokens = ids[:1], ids[1:]
    encoded = []
    for start in range(0, min(len(tokens), windows * size), size):
        window = (*lead, *tokens[start : start + size])
        encoded.append(Encoded(window, (True,) * len(window), 0))
        lead = lead if begins else list(window[-1:])
    return encoded


def _sums(model: EditedModel, windows: Sequence[Encoded]) -> Floats:
    """Nats of each window, `[windows]`."""
    reading = model.reading(windows)
    nats: Floats = negative_log_likelihood(model.loaded, reading) * reading.counts
    return nats


def _contrast(before: Floats, after: Floats, counts: Floats, bootstrap: Bootstrap) -> Contrast:
    base, edited = (float(np.exp(nats.sum() / counts.sum())) for nats in (before, after))
    draws = bootstrap.sums(np.stack([before, after, counts], axis=1))
    drawn = np.exp(draws[:, 1] / draws[:, 2]) - np.exp(draws[:, 0] / draws[:, 2])
    return Contrast(
        base=base, edited=edited, difference=interval(edited - base, drawn, len(counts))
    )
