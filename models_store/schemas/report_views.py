"""Short forms of a receipt, which the API shows with the edit."""

from __future__ import annotations

from models_store.schemas.measurements import PointDamage, ReceiptPart
from models_store.schemas.report import Conclusion, EditOutcome, Remark, Report


class PointEffect(ReceiptPart):
    scorer: str
    base: float
    edited: float
    low: float
    high: float


class Point(ReceiptPart):
    """One measured trial."""

    index: int
    method: str
    relative_alpha: float | None
    effect: PointEffect
    damage: PointDamage
    selected: bool


class ReportSummary(ReceiptPart):
    """The receipt's main figures, as the API shows them with the edit."""

    verdict: str
    outcome: EditOutcome | None = None
    """None in those of earlier versions, as the next."""
    advice: str | None = None
    """Whether to use the edit, and why, in a sentence that begins with Yes or No."""
    conclusion: Conclusion | None = None
    scorer: str
    base: float
    edited: float
    low: float
    high: float
    kl: float
    perplexity_ratio: float
    seconds: float
    warnings: tuple[Remark, ...] = ()
    """Those of the receipt."""


def point_of(report: Report, index: int = 0, *, selected: bool = True) -> Point:
    """The edit as a point, by the scorer that the verdict relies on."""
    rate = report.relied.rate
    return Point(
        index=index,
        method=report.method.type,
        relative_alpha=report.method.relative_alpha,
        effect=PointEffect(
            scorer=report.relied.scorer,
            base=rate.base,
            edited=rate.edited,
            low=rate.difference.low,
            high=rate.difference.high,
        ),
        damage=report.damage.point,
        selected=selected,
    )


def summary_of(report: Report) -> ReportSummary:
    """The main figures, by the scorer that the verdict relies on."""
    rate = report.relied.rate
    return ReportSummary(
        verdict=report.verdict.sentence,
        outcome=report.verdict.outcome,
        advice=report.verdict.advice,
        conclusion=report.verdict.conclusion,
        scorer=report.relied.scorer,
        base=rate.base,
        edited=rate.edited,
        low=rate.difference.low,
        high=rate.difference.high,
        kl=report.damage.kl,
        perplexity_ratio=report.damage.perplexity_ratio.value,
        seconds=report.cost.total_seconds,
        warnings=report.warnings,
    )
