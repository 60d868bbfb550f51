"""The limits of a receipt: what was allowed, what was measured, and what is over."""

from __future__ import annotations

from dataclasses import dataclass

from models_store.cards import formats
from models_store.schemas.measurements import Interval, interval_of
from models_store.schemas.report import Report

GAUGE = 200.0
"""Width of a gauge; the limit is in its middle."""

_NAMES = {
    "max_kl": "KL",
    "max_perplexity_ratio": "perplexity",
    "max_domain": "domain",
    "max_fluency": "fluency",
    "max_kl_p95": "KL, 95th percentile",
    "max_changed_choices": "first choices",
    "max_loops": "loops",
    "max_repetition": "repetition",
    "max_harmless_refusals": "harmless requests",
}


@dataclass(frozen=True)
class Gauge:
    """A bar from nothing to the measured value, with its interval; the limit is half way."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Limit:
    """One limit, as a reader is to see it."""

    name: str
    of: str
    """What is measured, in words."""
    unit: str
    value: str | None
    """None where it was not measured."""
    range: str
    """95 % interval."""
    limit: str | None
    """None in receipts of the time when there was none."""
    exceeded: bool
    gauge: Gauge | None


def limit_name(field: str) -> str:
    """What people call a limit: `KL` for `max_kl`."""
    return _NAMES.get(field, formats.words(field))


def exceeded_of(report: Report) -> tuple[str, ...]:
    """Fields of the limits that the edit is over."""
    verdict = report.verdict
    if verdict.exceeded or verdict.within_limits:
        return verdict.exceeded
    # Early receipts had a limit on KL alone, and did not name it.
    return ("max_kl",)


def limits_of(report: Report) -> tuple[Limit, ...]:
    """In the order of `Limits`, without those that a receipt of earlier versions has nothing of."""
    damage = report.damage
    parts = [part for part in (damage.kl_plain, damage.kl_chat) if part is not None]
    kl = next((part for part in parts if part.value == damage.kl), None)
    where = {
        "samples": "the base's own desired text",
        "heldout": "held-out desired text",
        None: "held-out desired text",
    }[damage.domain_source]
    reader = damage.fluency_reader or "the base model"
    texts = f"{damage.long_texts} long texts"
    limits = (
        _limit(
            report,
            "max_kl",
            "distance from the base on neutral text",
            "nats a token",
            kl or interval_of(damage.kl),
            formats.plain,
        ),
        _limit(
            report,
            "max_perplexity_ratio",
            "perplexity of neutral text, edited over base",
            "times",
            damage.perplexity_ratio,
            formats.plain,
            nothing=1.0,
        ),
        _limit(
            report,
            "max_domain",
            f"how much less likely {where} has become",
            "nats a token",
            damage.domain,
            formats.signed,
        ),
        _limit(
            report,
            "max_fluency",
            f"how much less likely {reader} finds what the model writes",
            "nats a token",
            damage.fluency,
            formats.signed,
        ),
        _limit(
            report,
            "max_kl_p95",
            "what 19 of 20 tokens of neutral text do not exceed",
            "nats",
            damage.kl_p95,
            formats.plain,
        ),
        _limit(
            report,
            "max_changed_choices",
            "tokens of neutral text where another one is the most likely",
            "of tokens",
            damage.changed_choices,
            formats.plain,
        ),
        _limit(
            report,
            "max_loops",
            f"more of {texts} that say the same over and over",
            "of texts",
            interval_of(damage.loops),
            formats.signed,
        ),
        _limit(
            report,
            "max_repetition",
            f"more pairs of words that repeat earlier ones, in {texts}",
            "of pairs",
            interval_of(damage.repetition),
            formats.signed,
        ),
        _limit(
            report,
            "max_harmless_refusals",
            f"more of {damage.harmless_requests} harmless requests that are refused",
            "of requests",
            interval_of(damage.harmless_refusals),
            formats.signed,
        ),
    )
    return tuple(one for one in limits if one.value or one.limit)


def _limit(
    report: Report,
    field: str,
    of: str,
    unit: str,
    measured: Interval | None,
    write: formats.Writer,
    *,
    nothing: float = 0.0,
) -> Limit:
    """Args:
    nothing: the value of an edit that does no harm.
    """
    limit = report.limits.get(field)
    gauge = None
    if measured is not None and limit is not None:
        places = (measured.value, measured.low, measured.high)
        gauge = Gauge(*(_place((at - nothing) / (limit - nothing)) for at in places))
    return Limit(
        name=limit_name(field),
        of=of,
        unit=unit,
        value=None if measured is None else write(measured.value, 3),
        range="" if measured is None else f"{write(measured.low, 3)} to {write(measured.high, 3)}",
        limit=None if limit is None else f"{limit:g}",
        exceeded=field in exceeded_of(report),
        gauge=gauge,
    )


def _place(share: float) -> float:
    """Where a share of the limit lies on a gauge that ends at twice the limit."""
    return round(GAUGE * min(max(share / 2, 0.0), 1.0), 1)
