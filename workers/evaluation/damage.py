"""What an edit changes that it should not: neutral text, desired text, fluency, variety."""

from __future__ import annotations

import numpy as np

from models_store.errors import EditFailed
from models_store.report import Damage, Interval, TextQuality
from workers.evaluation.generations import Arm
from workers.evaluation.neutral import KlMeter
from workers.evaluation.quality import text_quality
from workers.evaluation.statistics import Bootstrap, Floats, interval
from workers.runtime.likelihood import Divergence, negative_log_likelihood, read
from workers.runtime.loading import BaseModel


def check_finite(found: Divergence) -> Divergence:
    """Refuse to report on a model that no longer computes.

    Raises:
        EditFailed: the edited model gives infinite or undefined probabilities.
    """
    if not all(np.isfinite(a).all() for a in (found.kl, found.base_nll, found.edited_nll)):
        raise EditFailed(
            "the edited model gives logits that are not finite: the edit is far too strong for "
            "the dtype; choose a smaller scale"
        )
    return found


def kl_intervals(
    meter: KlMeter, found: Divergence, bootstrap: Bootstrap
) -> tuple[Interval, Interval | None]:
    """Mean KL on plain texts and on answers, over all their positions; texts are resampled."""

    def of(part: slice) -> Interval:
        counts = found.positions[part].astype(np.float64)
        return bootstrap.ratio(found.kl[part] * counts, counts)

    plain, chat = meter.parts
    return of(plain), None if chat is None else of(chat)


def nll_rise(found: Divergence, bootstrap: Bootstrap) -> Interval:
    """Rise of the negative log-likelihood, nats a token; texts are resampled."""
    counts = found.positions.astype(np.float64)
    return bootstrap.ratio((found.edited_nll - found.base_nll) * counts, counts)


def exponential(of: Interval) -> Interval:
    """The interval of `exp` of a value: a rise of nats as a ratio of perplexities."""
    value, low, high = np.exp([of.value, of.low, of.high])
    return Interval(value=float(value), low=float(low), high=float(high))


def fluency(base: BaseModel, arm: Arm, edited: Arm, bootstrap: Bootstrap) -> Interval:
    """How much less likely the base finds the edited model's text than its own, nats a token.

    Of each prompt the first continuation is read. Prompts are resampled.
    """
    columns = np.concatenate([_nll_of_first(base, own) for own in (arm, edited)], axis=1)
    draws = bootstrap.sums(columns)
    value = _difference(columns.sum(axis=0, keepdims=True))[0]
    return interval(float(value), _difference(draws))


def _difference(sums: Floats) -> Floats:
    """`[…, 4]` sums of nats and tokens, base then edited; an arm without tokens counts as 0."""
    means = sums[:, 0::2] / sums[:, 1::2].clip(min=1.0)
    difference: Floats = means[:, 1] - means[:, 0]
    return difference


def _nll_of_first(base: BaseModel, arm: Arm) -> Floats:
    """Nats and tokens of each prompt's first continuation, `[prompts, 2]`."""
    counts = np.array([len(own[0].ids) for own in arm.made], dtype=np.float64)
    nll = np.zeros_like(counts)
    if counts.any():
        nll = negative_log_likelihood(base, read(base, arm.encoded_first())) * counts
    return np.stack([nll, counts], axis=1)


def quality_of(arm: Arm) -> TextQuality:
    made = arm.flat_made()
    return text_quality(
        arm.flat_texts(),
        [len(one.ids) for one in made],
        [one.finish_reason == "stop" for one in made],
    )


def gather(
    meter: KlMeter,
    neutral: Divergence,
    domain: Interval | None,
    fluency: Interval,
    arms: tuple[Arm, Arm],
    bootstrap: Bootstrap,
) -> Damage:
    """Put all figures together.

    Args:
        neutral: the edit on the reporting half of the neutral texts, which `meter` holds.
        domain, fluency: as in `Damage`.
        arms: the base's and the edited model's.
    """
    plain, chat = kl_intervals(meter, neutral, bootstrap)
    base_quality, edited_quality = (quality_of(arm) for arm in arms)
    return Damage(
        kl=max(plain.value, plain.value if chat is None else chat.value),
        kl_plain=plain,
        kl_chat=chat,
        neutral_texts=len(neutral.positions),
        neutral_positions=int(neutral.positions.sum()),
        perplexity_ratio=exponential(nll_rise(neutral, bootstrap)),
        domain=domain,
        fluency=fluency,
        base=base_quality,
        edited=edited_quality,
        distinct2_ratio=(
            edited_quality.distinct2 / base_quality.distinct2 if base_quality.distinct2 else 1.0
        ),
    )
