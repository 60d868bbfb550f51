"""Behaviours: one's own, presets, and drafts from one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import SLOW_SECONDS, ApiError, Client, WrongUse
from app.cli.console import Column, ago, notes, print_facts, print_json, print_table, safe
from app.cli.listing import Listing
from app.cli.options import AsJson, Force, Service, Yes, remove, spread, writable
from app.cli.work.bodies import complete_behaviors, items_of, read_object, read_text

behaviors = typer.Typer(help="Behaviours: what edits change.", no_args_is_help=True)
_SHOWN_TEXTS = 2
_SIDES = ("undesired", "desired")

behaviors.command("list")(
    Listing(
        "/v1/behaviors",
        (
            Column("behaviour", "id"),
            Column("name", "name"),
            Column("texts", lambda one: _counts(one["counts"])),
            Column("scorers", lambda one: " ".join(one["scorers"]) or one["scorer"], spare=2),
            Column("made", lambda one: ago(one["created_at"]), spare=1),
        ),
        "no behaviours of your own yet: `scalpel behaviors create` makes one; presets are always "
        "there",
        {"preset": "false"},
    ).command("List your own behaviours.")
)


@behaviors.command("presets")
def presets() -> None:
    """List the built-in behaviours."""
    from models_store.presets import load_preset, preset_names

    print_table(
        (Column("preset", "name"), Column("", "description")),
        [load_preset(name).model_dump(include={"name", "description"}) for name in preset_names()],
    )


@behaviors.command("show")
@spread
def show(
    behavior: Annotated[
        str,
        typer.Argument(help="A beh_… id or a preset.", autocompletion=complete_behaviors),
    ],
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Show a behaviour and some of its texts; --json has them all."""
    with service.connect() as client:
        found = client.get(f"/v1/behaviors/{behavior}")
    if as_json:
        print_json(found)
        return
    print_facts(
        [
            ("behaviour", found["id"] or found["name"]),
            ("name", found["name"]),
            ("", found["description"]),
            ("texts", _counts(found["counts"])),
            ("scorers", " ".join(found["scorers"]) or found["scorer"]),
            ("chat", "yes" if found["chat"] else "no"),
            ("made", ago(found["created_at"])),
            *((side, said(text)) for side in _SIDES for text in found[side][:_SHOWN_TEXTS]),
            *(("prompt", said(prompt)) for prompt in found["prompts"][:_SHOWN_TEXTS]),
        ]
    )


@behaviors.command("create")
@spread
def create(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="JSON lines with labels, or a behaviour as JSON (.json)."),
    ] = None,
    undesired: Annotated[
        Path | None, typer.Option(help="A file of texts that show it, one a line.")
    ] = None,
    desired: Annotated[
        Path | None, typer.Option(help="A file of texts that do not, one a line.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts that elicit it, one a line.")
    ] = None,
    scorer: Annotated[
        list[str] | None, typer.Option(help="A scorer that measures it; several times.")
    ] = None,
    chat: Annotated[
        bool | None, typer.Option(help="Whether prompts go through the chat template.")
    ] = None,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Upload a behaviour, from one file or from a file a side."""
    sides = {"undesired": undesired, "desired": desired, "prompts": prompts}
    given: dict[str, Any] = {k: items_of(v) for k, v in sides.items() if v is not None}
    given |= {} if scorer is None else {"scorers": scorer}
    given |= {} if chat is None else {"chat": chat}
    if file is None and "undesired" not in given:
        raise WrongUse("give a file of JSON lines, or --undesired and --desired")
    with service.connect() as client:
        if file is not None and file.suffix != ".json":
            if given:
                raise WrongUse(f"{file} is a whole behaviour: give it alone")
            lines = read_text(file).encode()
            made = client.send_lines("/v1/behaviors", lines, name=name)
        else:
            whole = {} if file is None else dict(read_object(file))
            made = client.create("/v1/behaviors", {**whole, **given, "name": name})
    if as_json:
        print_json(made)
    else:
        typer.echo(made["id"])
        notes.print(_counts(made["counts"]), style="dim")


@behaviors.command("draft")
@spread
def draft(
    base_model: Annotated[str, typer.Argument(help="The base model, which writes the texts.")],
    sentence: Annotated[str, typer.Argument(help="What the edited model should do.")],
    count: Annotated[int, typer.Option(min=16, max=120, help="How many pairs.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the behaviour to this file.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Draft texts from one sentence, to look at; nothing is stored by the service."""
    if output is not None:
        writable(output, force=force)
    with service.connect() as client:
        made = draft_of(client, base_model, sentence, count, seed)
    if as_json:
        print_json(made)
    else:
        print_draft(made)
    if made["behavior"] is None:
        raise ApiError(_useless(made))
    if output is not None:
        text = json.dumps(made["behavior"], indent=2, ensure_ascii=False)
        output.write_text(text + "\n", encoding="utf-8")
        notes.print(f"scalpel edit {base_model} @{output}", style="dim", markup=False)


@behaviors.command("delete")
@spread
def delete(
    behavior: Annotated[str, typer.Argument(help="A beh_… id.")],
    yes: Yes = False,
    service: Service = Service(),
) -> None:
    """Delete a behaviour; edits made from it keep their texts."""
    with service.connect() as client:
        remove(client, f"/v1/behaviors/{behavior}", behavior, yes=yes)


def drafted(client: Client, base: str, sentence: str, count: int, *, ask: bool) -> Any:
    """A behaviour from one sentence, which somebody has looked at."""
    draft = draft_of(client, base, sentence, count)
    print_draft(draft)
    if draft["behavior"] is None:
        raise ApiError(_useless(draft))
    if ask:
        typer.confirm("Make the edit from these texts?", abort=True, err=True)
    return draft["behavior"]


def draft_of(client: Client, base: str, sentence: str, count: int, seed: int = 0) -> Any:
    body = {"sentence": sentence, "base_model": base, "count": count, "seed": seed}
    with notes.status(f"drafting {count} pairs of texts; this can take minutes"):
        return client.post("/v1/behaviors/draft", body, timeout=SLOW_SECONDS)


def print_draft(draft: Any) -> None:
    """Some of its texts side by side, and what they are worth. On the standard error output, so
    that the result stays alone."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for heading in ("undesired", "desired"):
        table.add_column(heading, ratio=1)
    samples = draft["samples"]
    sides = (samples["undesired"][:_SHOWN_TEXTS], samples["desired"][:_SHOWN_TEXTS])
    for texts in zip(*sides, strict=False):
        table.add_row(*(Text(safe(" ".join(text["completion"].split()))) for text in texts))
    notes.print(table)
    apart = draft["separability"]
    separable = "" if apart is None else f", separable with an AUC of {apart['words_auc']:.2f}"
    by = f"{draft['kept']} of {draft['asked']} pairs kept, written by {draft['written_by']}"
    notes.print(safe(f"{by}{separable}"), markup=False)
    if draft["note"]:
        notes.print(safe(f"note: {draft['note']}"), style="yellow", markup=False)


def said(item: Any) -> str:
    """A text, a pair or a conversation on one line."""
    if isinstance(item, str):
        return " ".join(item.split())
    if "messages" in item:
        return " / ".join(said(message["content"]) for message in item["messages"])
    pair = [item.get("prompt"), item.get("completion"), item.get("text")]
    return " → ".join(said(part) for part in pair if part)


def _counts(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _useless(draft: Any) -> str:
    return f"the draft is of no use: {draft['note'] or 'too few pairs are left'}"
