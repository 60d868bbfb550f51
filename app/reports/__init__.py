"""The receipt of an edit for people: one HTML page, or a model card in Markdown.

The page is complete in itself: no scripts, no fonts, nothing that is fetched from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from app.reports import formats
from app.reports.chart import chart_of
from models_store.report import Report

_TEMPLATES = Path(__file__).parent / "templates"
_FILES = {"html": "report.html", "markdown": "report.md"}
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def render(report: Report, format: Literal["html", "markdown"]) -> str:
    """The receipt as a page or a model card; whatever the model wrote is shown, never obeyed."""
    template = _environment().get_template(_FILES[format])
    return template.render(report=report, chart=chart_of(report))


@cache
def content_security_policy() -> str:
    """What a browser may do with the page: show it, in its own style, and nothing else."""
    source = (_TEMPLATES / _FILES["html"]).read_text(encoding="utf-8")
    found = _STYLE.search(source)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(formats.FILTERS)
    return environment
