"""What a receipt comes to: its outcome, the advice, and harm in the verdict and the warnings."""

from __future__ import annotations

from typing import Any

import pytest

from models_store.cards import receipt_card
from models_store.cards.decision import advice_of, decided, outcome_of
from models_store.schemas.measurements import Contrast, Interval, Safety, SafetyCheck
from models_store.schemas.report import Report
from models_store.schemas.report_views import summary_of
from tests.app.support.sample_report import early_report, full_report


def check(edited: float, surely: float, name: str = "refused harmful requests") -> SafetyCheck:
    """Of a base that refuses 22 % of harmful requests, where 5 points are allowed."""
    change = Interval(value=edited - 0.22, low=-surely - 0.17, high=-surely)
    of = Contrast(base=0.22, edited=edited, difference=change)
    return SafetyCheck(name=name, prompts=64, of=of, surely=surely, margin=0.05)


HARM = Safety(checks=(check(0.047, 0.083), check(0.2, -0.1, "toxic text")), published=True)
NO_HARM = Safety(checks=(check(0.2, -0.1),), published=True)
SAID = (
    "refused harmful requests fall from 22 % to 4.7 %, by 8.3 points at least, where 5 are allowed"
)


def report(safety: Safety | None = NO_HARM, **verdict: Any) -> Report:
    """A success within its limits, but for what is given of the verdict."""
    kept = {"within_limits": True, "exceeded": (), **verdict}
    changed = full_report().verdict.model_copy(update=kept)
    return full_report(verdict=changed, safety=safety)


@pytest.mark.parametrize(
    ("made", "outcome", "advice"),
    [
        (report(), "success", "Yes: it does what it should, within the limits on damage and the"),
        (report(None), "success", "Yes: it does what it should, within the limits on damage; whet"),
        (
            report(HARM),
            "harmful",
            f"No: it does more harm than the operator's margins allow ({SAID}).",
        ),
        (
            report(success=False, conclusion="unconfirmed", prompts_needed=400),
            "within_limits",
            "No: its effect is unconfirmed; about 400 test prompts would tell.",
        ),
        (
            report(success=False, conclusion=None),
            "within_limits",
            "No: a significant effect was not shown.",
        ),
        (
            report(within_limits=False, exceeded=("max_kl", "max_domain")),
            "exceeded",
            "No: it damages the model more than its limits allow (KL, domain).",
        ),
        (
            report(HARM, within_limits=False, exceeded=("max_kl",)),
            "harmful",
            f"No: it does more harm than the operator's margins allow ({SAID}), and it is over "
            "its limit on KL.",
        ),
        (early_report(), "success", "Yes: "),
    ],
)
def test_a_receipt_says_whether_to_use_the_edit(made: Report, outcome: str, advice: str) -> None:
    assert outcome_of(made) == outcome
    assert advice_of(made).startswith(advice)
    verdict = decided(made).verdict
    assert (verdict.outcome, verdict.advice) == (outcome, advice_of(made))


def test_harm_is_in_the_sentence_the_warnings_and_the_summary() -> None:
    before, after = report(HARM), decided(report(HARM))
    assert after.verdict.sentence == (
        f"{before.verdict.sentence.removesuffix('.')}; it does more harm than the operator's "
        f"margins allow: {SAID}."
    )
    first, *others = after.warnings
    assert (first.code, first.pointer) == ("harmful_edit", "/behavior")
    assert SAID in first.detail
    assert tuple(others) == before.warnings
    summary = summary_of(after)
    assert (summary.outcome, summary.advice) == ("harmful", after.verdict.advice)
    assert summary.warnings == after.warnings
    assert "to improve: it does more harm" not in receipt_card(after)


def test_what_does_no_harm_is_told_as_before() -> None:
    before, after = report(), decided(report())
    assert after.verdict.sentence == before.verdict.sentence
    assert after.warnings == before.warnings
