"""Looking at edits, and ending them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.client import Client
from app.cli.console import Column, ago, notes, out, print_facts, print_json, print_remarks, safe
from app.cli.listing import Limit, Listing
from app.cli.options import AsJson, Service, Yes, remove, spread
from app.cli.progress import finished
from app.cli.work.bodies import Pairs, pairs
from app.cli.work.names import (
    EditName,
    behavior_name,
    cost_of,
    edit_id,
    effect_of,
    outcome_of,
    share,
    status_of,
)

WorkName = Annotated[
    str, typer.Argument(metavar="EDIT", help="An edit_… or exp_… id, or an edit's name.")
]
EDITS = Listing(
    "/v1/edits",
    (
        Column("edit", "id"),
        Column("name", "suffix", spare=1),
        Column("behaviour", behavior_name),
        Column("status", status_of),
        Column("effect", effect_of, spare=2),
        Column("base model", "base_model", spare=4),
        Column("made", lambda edit: ago(edit["created_at"]), spare=3),
    ),
    "no such edits: `scalpel edit` makes one",
)


@spread
def list_(
    status: Annotated[str | None, typer.Option(help="Such as running or succeeded.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Of this base model.")] = None,
    behavior: Annotated[str | None, typer.Option(help="Of this behaviour, by name or id.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Of this name.")] = None,
    metadata: Pairs = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """List edits, newest first."""
    named = {"status": status, "base_model": base_model, "behavior": behavior, "suffix": suffix}
    filters = {name: value for name, value in named.items() if value is not None}
    strings = pairs(metadata, "--metadata") or {}
    filters |= {f"metadata[{name}]": value for name, value in strings.items()}
    with service.connect() as client:
        page = client.page("/v1/edits", limit, filters)
    EDITS.show(page, as_json=as_json)


@spread
def show(
    edit: EditName,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Show an edit: status, outcome, verdict, next steps."""
    with service.connect() as client:
        found = client.get(f"/v1/edits/{edit_id(client, edit)}")
    if as_json:
        print_json(found)
    else:
        print_edit(found)


@spread
def watch(
    edit: WorkName,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Show the progress of an edit or export until it is done."""
    with service.connect() as client:
        work = finished(client, _path(client, edit))
    if as_json:
        print_json(work)
    else:
        print_end(work)


@spread
def cancel(
    edit: WorkName,
    service: Service = Service(),
) -> None:
    """Cancel an edit or an export."""
    with service.connect() as client:
        typer.echo(client.post(f"{_path(client, edit, only=True)}/cancel", None)["status"])


@spread
def delete(
    edit: WorkName,
    yes: Yes = False,
    service: Service = Service(),
) -> None:
    """Delete an edit and its exports, or an export."""
    with service.connect() as client:
        path = _path(client, edit, only=True)
        remove(client, path, path.rpartition("/")[2], yes=yes)


def print_edit(edit: Any) -> None:
    """What a person wants to know of an edit."""
    from models_store.cards.formats import seconds

    summary = edit["report_summary"] or {}
    error, took = edit["error"], None
    if edit["started_at"] and edit["finished_at"]:
        took = f", took {seconds(edit['finished_at'] - edit['started_at'])}"
    name = f" ({edit['suffix']})" if edit["suffix"] else ""
    settings = [edit["method"]["type"], edit["effort"], f"seed {edit['seed']}"]
    print_facts(
        [
            ("edit", edit["id"] + name),
            ("base model", edit["base_model"]),
            ("on top of", edit["on_top_of"]),
            ("measures", edit["measures"]),
            ("reproduces", edit["reproduces"]),
            ("behaviour", behavior_name(edit)),
            ("method", ", ".join(filter(None, settings))),
            ("metadata", " ".join(f"{key}={value}" for key, value in edit["metadata"].items())),
            ("status", status_of({**edit, "report_summary": None, "outcome": None})),
            ("outcome", outcome_of(edit)),
            ("use it?", summary.get("advice")),
            ("made", f"{ago(edit['created_at'])}{took or ''}"),
            ("error", None if error is None else error["message"]),
            ("effect", _effect(summary)),
            ("cost", cost_of(edit)),
            ("variant", edit["variant"]),
            ("model", edit["model"]),
        ]
    )
    if summary.get("verdict"):
        out.print()
        out.print(safe(summary["verdict"]), markup=False, width=min(out.width, 100))
    print_remarks(edit["warnings"])
    _print_next(edit)


def print_end(work: Any) -> None:
    if work["object"] == "edit":
        print_edit(work)
    else:
        typer.echo(f"{work['id']} {work['status']}")


def _print_next(edit: Any) -> None:
    """Commands that may come next."""
    id, variant = edit["id"], edit["variant"]
    if edit["finished_at"] is None:
        commands = [f"scalpel watch {id}"]
    elif edit["report_summary"] is None:
        commands = [] if variant is None else [f"scalpel chat {variant}"]
    else:
        commands = [f"scalpel receipt {id}"]
        commands += [] if variant is None else [f"scalpel compare {id}", f"scalpel chat {variant}"]
    if commands:
        notes.print()
    for command in commands:
        notes.print(command, style="dim", markup=False, soft_wrap=True)


def _effect(summary: Any) -> str | None:
    if not summary.get("scorer"):
        return None
    low, high = (f"{100 * summary[bound]:+.0f}" for bound in ("low", "high"))
    rates = f"{share(summary['base'])} → {share(summary['edited'])}"
    return f"{rates} undesired by {summary['scorer']} (95 %: {low} to {high} points)"


def _path(client: Client, name: str, *, only: bool = False) -> str:
    """Of an edit or an export in the API; `only`: its name must be that of no other."""
    if name.startswith("exp_"):
        return f"/v1/exports/{name}"
    return f"/v1/edits/{edit_id(client, name, only=only)}"
