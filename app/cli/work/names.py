"""Edits by the names that people have for them, and how an edit is said in words."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.client import Client, WrongUse
from app.cli.console import number

EditName = Annotated[
    str, typer.Argument(metavar="EDIT", help="An edit_… id, a suffix, or BASE:SUFFIX.")
]
_MOST_LOOKED_AT = 100_000


def edit_id(client: Client, name: str, *, only: bool = False) -> str:
    """The id of an edit: of that name the newest that has not failed, else the newest.

    Args:
        only: refuse the name where several such edits have it.

    Raises:
        WrongUse: there is none, or there are several.
    """
    if name.startswith("edit_"):
        return name
    base, _, suffix = name.rpartition(":")
    filters = {"base_model": base} if base else {}
    found = client.page("/v1/edits", _MOST_LOOKED_AT, {**filters, "suffix": suffix})["data"]
    if not found:
        raise WrongUse(f"there is no edit {name!r}: `scalpel list` shows them")
    found = [edit for edit in found if edit["status"] not in ("failed", "canceled")] or found
    if only and len(found) > 1:
        named = "\n  ".join(
            f"{edit['id']}  {edit['base_model']}:{suffix}  {edit['status']}" for edit in found
        )
        raise WrongUse(f"{name!r} names several edits: give BASE:SUFFIX or an id\n  {named}")
    id: str = found[0]["id"]
    return id


def variant_of(client: Client, name: str) -> str:
    """A variant as it is; of an edit's id the one that it makes.

    Raises:
        WrongUse: the edit makes none.
    """
    if not name.startswith("edit_"):
        return name
    edit = client.get(f"/v1/edits/{name}")
    if edit["variant"] is None:
        raise WrongUse(f"{name} is {edit['status']}: only one that has succeeded can be used")
    variant: str = edit["variant"]
    return variant


def status_of(work: Any) -> str:
    """`running tune 43 %`, `succeeded confirmed`, `failed no_effect_within_limits`."""
    status: str = work["status"]
    if status == "running" and work.get("stage"):
        progress = work.get("progress")
        return f"{status} {work['stage']}" + (f" {progress:.0%}" if progress else "")
    if status == "queued" and work.get("queue_position"):
        return f"{status} ({work['queue_position']})"
    if status == "failed" and work.get("error"):
        return f"{status} {work['error']['code']}"
    return f"{status} {outcome_of(work) or ''}".rstrip()


def outcome_of(edit: Any) -> str | None:
    """What the test says of an edit, in one word."""
    summary = edit.get("report_summary") or {}
    said: str | None = edit.get("outcome") or summary.get("conclusion")
    return None if said is None or said == edit["status"] else said


def behavior_name(edit: Any) -> str:
    if edit["behavior"] is not None:
        name: str = edit["behavior"]["name"]
        return name
    return "(imported)" if edit.get("imported") else ""


def effect_of(edit: Any) -> str:
    """`57 % → 24 %`."""
    summary = edit.get("report_summary") or {}
    if summary.get("base") is None or summary.get("edited") is None:
        return ""
    return f"{share(summary['base'])} → {share(summary['edited'])}"


def cost_of(edit: Any) -> str | None:
    """What it does to other text."""
    summary = edit.get("report_summary") or {}
    if summary.get("kl") is None or summary.get("perplexity_ratio") is None:
        return None
    kl, ratio = number(summary["kl"], 2), f"{summary['perplexity_ratio']:.2f}"
    return f"KL {kl} nats a token, {ratio} times the perplexity of neutral text"


def share(value: float) -> str:
    """`0.274` as `27 %`."""
    from models_store.cards.formats import percent

    return percent(value)
