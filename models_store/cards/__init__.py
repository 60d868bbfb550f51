"""Model cards in Markdown: of a receipt, and of an export.

Whatever a model, a user or an operator wrote is shown, never obeyed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from pydantic import JsonValue

from models_store.cards import formats
from models_store.cards.decision import advice_of, harm_of, outcome_of
from models_store.cards.limits import exceeded_of, limit_name, limits_of
from models_store.cards.sums import SUMS_NAME
from models_store.schemas.catalogue import BaseModelSpec, HubSource, hub_repo
from models_store.schemas.records import DeltaRef, Variant
from models_store.schemas.report import Report

CARD_NAME = "README.md"
_TEMPLATES = Path(__file__).parent / "templates"
_HUB_LICENCES = re.compile(
    r"apache-2\.0|mit|isc|openrail|unlicense|bsd-[23]-clause|cc0-1\.0|cc-by(-nc|-sa|-nc-sa)?-4\.0|"
    r"a?gpl-3\.0|gpl-2\.0|lgpl-3\.0|mpl-2\.0|gemma|llama2|llama3(\.[123])?|llama4"
)
"""Names that the Hugging Face hub has for licences, as far as base models have them."""


@dataclass(frozen=True)
class Use:
    """What an export is to those who load it."""

    library: str
    """Hugging Face's name of the library that loads it."""
    relation: Literal["adapter", "finetune"]
    """To the base model."""
    tags: tuple[str, ...]
    load: str
    """How it is loaded, in Markdown."""


@dataclass(frozen=True)
class ExportFacts:
    """What a card says of an export."""

    id: str
    created_at: int
    format: str
    variant: Variant
    base: BaseModelSpec
    use: Use
    proof: Mapping[str, JsonValue]
    """As the API shows it."""
    receipts: Mapping[str, Report]
    """By edit; those that cannot be read are missing."""
    imported: Collection[str] = ()
    """Edits that were made elsewhere, which have no receipt."""


def receipt_card(report: Report) -> str:
    """All of a receipt."""
    return _markdown().get_template("receipt.md").render(receipt_context(report))


def export_card(facts: ExportFacts) -> str:
    """An export: where it comes from, how it is loaded, and what the receipts of its edits say.

    Receipts are there without prompts, samples and texts: an export may be published.
    """
    repo = hub_repo(facts.base)
    source = facts.base.source
    return (
        _markdown()
        .get_template("export.md")
        .render(
            one=facts,
            base_model=json.dumps(repo or facts.base.id, ensure_ascii=False),
            revision=source.revision if isinstance(source, HubSource) else None,
            repo=repo,
            licence=_licence(facts.base.licence),
            methods=sorted(
                {
                    report.method.type
                    for report in facts.receipts.values()
                    if report.provenance.measures is None
                }
            ),
            edits=[(term, _context_of(term, facts)) for term in facts.variant.terms],
            sums=SUMS_NAME,
        )
    )


def receipt_context(report: Report) -> dict[str, Any]:
    """What the templates of a receipt are given, here and as a page."""
    return {
        "report": report,
        "verdict": report.verdict,
        "made": report.provenance,
        "damage": report.damage,
        "limits": limits_of(report),
        "outcome": outcome_of(report),
        "advice": advice_of(report),
        "harm": harm_of(report),
        "exceeded": [limit_name(field) for field in exceeded_of(report)],
    }


def environment(*templates: Path) -> Environment:
    """For the templates of folders: figures and texts are written as receipts have them, and what
    is HTML is escaped; in Markdown only a filter does it."""
    found = Environment(
        loader=FileSystemLoader(templates),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(formats.FILTERS, limit_name=limit_name)
    return found


@cache
def _markdown() -> Environment:
    return environment(_TEMPLATES)


def _context_of(term: DeltaRef, facts: ExportFacts) -> dict[str, Any] | None:
    report = facts.receipts.get(term.edit_id)
    if report is None:
        return None
    # A wording may show a few of the texts that the edit was made from.
    controls = tuple(one.model_copy(update={"wording": None}) for one in report.controls)
    return receipt_context(report.model_copy(update={"controls": controls}))


def _licence(given: str) -> list[str]:
    """The lines of the front matter that say it; the hub knows some, and others by a name."""
    known = given.strip().lower()
    if not known:
        return []
    if _HUB_LICENCES.fullmatch(known):
        return [f"license: {known}"]
    name = re.sub(r"[^a-z0-9.]+", "-", known).strip("-.")[:60] or "other"
    link = re.search(r"https?://[^\s()<>\"']+", given)
    return [
        "license: other",
        f"license_name: {json.dumps(name)}",
        *([f"license_link: {json.dumps(link[0], ensure_ascii=False)}"] if link else []),
    ]
