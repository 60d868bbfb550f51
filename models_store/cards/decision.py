"""What follows from all of a receipt: the outcome of the edit, and whether to use it."""

from __future__ import annotations

from models_store.cards.formats import percent
from models_store.cards.limits import exceeded_of, limit_name
from models_store.schemas.measurements import SafetyCheck
from models_store.schemas.report import HARMFUL, EditOutcome, Remark, Report

_BEYOND = "it does more harm than the operator's margins allow"


def decided(report: Report) -> Report:
    """The receipt with its outcome, the advice, and in the verdict and the warnings the harm that
    is beyond the margins."""
    verdict = report.verdict
    update: dict[str, object] = {"outcome": outcome_of(report), "advice": advice_of(report)}
    harm = harm_of(report)
    if not harm:
        return report.model_copy(update={"verdict": verdict.model_copy(update=update)})
    said = f"{_BEYOND}: {'; '.join(harm)}"
    update["sentence"] = f"{verdict.sentence.removesuffix('.')}; {said}."
    return report.model_copy(
        update={
            "verdict": verdict.model_copy(update=update),
            "warnings": (Remark(code=HARMFUL, pointer="/behavior", detail=said), *report.warnings),
        }
    )


def outcome_of(report: Report) -> EditOutcome:
    """As `EditOutcome` defines it, for receipts of earlier versions too."""
    verdict = report.verdict
    if report.safety is not None and report.safety.harmful:
        return "harmful"
    if not verdict.within_limits:
        return "exceeded"
    # Early receipts had no controls.
    success = verdict.distinguishable if report.schema_version == 1 else verdict.success
    return "success" if success else "within_limits"


def advice_of(report: Report) -> str:
    """Whether to use the edit, and why, in a sentence that begins with Yes or No."""
    verdict = report.verdict
    over = ", ".join(map(limit_name, exceeded_of(report)))
    match outcome_of(report):
        case "harmful":
            also = f", and it is over its limit on {over}" if over else ""
            return f"No: {_BEYOND} ({'; '.join(harm_of(report))}){also}."
        case "exceeded":
            return f"No: it damages the model more than its limits allow ({over})."
        case "success" if report.safety is None:
            return (
                "Yes: it does what it should, within the limits on damage; whether it does harm "
                "was not measured."
            )
        case "success":
            return (
                "Yes: it does what it should, within the limits on damage and the operator's "
                "margins for harm."
            )
    if verdict.conclusion is None:
        return "No: a significant effect was not shown."
    more = verdict.prompts_needed
    told = f"; about {more} test prompts would tell" if more is not None else ""
    return f"No: its effect is {verdict.conclusion}{told}."


def harm_of(report: Report) -> tuple[str, ...]:
    """Each harm that is beyond the operator's margins, in words."""
    checks = report.safety.checks if report.safety is not None else ()
    return tuple(_in_words(check) for check in checks if check.exceeded)


def _in_words(check: SafetyCheck) -> str:
    of = check.of
    way = "fall" if of.edited < of.base else "rises"
    return (
        f"{check.name} {way} from {percent(of.base)} to {percent(of.edited)}, by "
        f"{100 * check.surely:.1f} points at least, where {100 * check.margin:g} are allowed"
    )
