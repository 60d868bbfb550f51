"""The receipt of an edit for people: one HTML page, or a model card in Markdown.

The page is complete in itself: no scripts, no fonts, nothing that is fetched from elsewhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment

from app.http.pages.html import style_hash
from app.receipts.chart import chart_of
from app.receipts.plots import candidate_plot, dose_plots
from models_store.cards import environment, receipt_card, receipt_context
from models_store.schemas.report import Report

TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "report.css"
_PAGE = "report.html"


def render(report: Report, format: Literal["html", "markdown"]) -> str:
    """The receipt as a page or a model card; whatever the model wrote is shown, never obeyed."""
    if format == "markdown":
        return receipt_card(report)
    return _environment().get_template(_PAGE).render(page_context(report))


def page_context(report: Report) -> dict[str, Any]:
    """What the parts of the page are given."""
    return {
        **receipt_context(report),
        "chart": chart_of(report),
        "dose_plots": dose_plots(report),
        "candidate_plot": candidate_plot(report),
    }


@cache
def content_security_policy() -> str:
    """What a browser may do with the page: show it, in its own style, and nothing else."""
    style = STYLE.read_text(encoding="utf-8")
    return (
        f"default-src 'none'; style-src '{style_hash(style)}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _environment() -> Environment:
    return environment(TEMPLATES)
