"""The receipt of an edit in the terminal, and responses side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from app.cli.client import ApiError, WrongUse
from app.cli.console import all_safe, colored, notes, out, print_json, safe
from app.cli.options import AsJson, Force, Service, spread, writable
from app.cli.work.bodies import read_text
from app.cli.work.names import EditName, edit_id

if TYPE_CHECKING:
    from models_store.schemas.report import Report

_WIDEST = 100
_SAMPLES = 2
_USUAL_PROMPTS = ("How was your day?", "Tell me about the food at the new place.")


@spread
def receipt(
    edit: EditName,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the model card.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Print the page.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file.")
    ] = None,
    force: Force = False,
    service: Service = Service(),
) -> None:
    """Show what an edit does and what it costs, as measured."""
    if [as_json, markdown, html].count(True) > 1:
        raise WrongUse("give one of --json, --markdown and --html")
    if output is not None:
        writable(output, force=force)
    with service.connect() as client:
        path = f"/v1/edits/{edit_id(client, edit)}/report"
        if html or markdown:
            text = client.text(path, "text/html" if html else "text/markdown")
        else:
            report = client.get(path)
            text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if output is not None:
        output.write_text(text, encoding="utf-8")
        notes.print(str(output), markup=False, soft_wrap=True)
    elif as_json:
        print_json(report)
    elif html or markdown:
        text = safe(text) if out.is_terminal else text
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        out.print(receipt_view(report), width=min(out.width, _WIDEST))


@spread
def compare(
    edit: EditName,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(help="What to say; several are compared one after the other."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts, one a line.")] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option("--strength", "-s", help="Several times; 0 is the base.", show_default="0, 1"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Longest response, in tokens.")] = 64,
    temperature: Annotated[float, typer.Option(help="0: the likeliest words.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers, the same for all.")] = 0,
    chat: Annotated[
        bool | None, typer.Option(help="Whether prompts are questions, or texts to go on with.")
    ] = None,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Let base model and edit respond to the same prompts."""
    asked = list(prompt or ())
    if prompts is not None:
        asked += filter(str.strip, read_text(prompts).splitlines())
    body = {
        "prompts": asked or list(_USUAL_PROMPTS),
        "strengths": strength or [0, 1],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        **({} if chat is None else {"chat": chat}),
    }
    with service.connect() as client, notes.status("generating"):
        found = client.post(f"/v1/edits/{edit_id(client, edit)}/compare", body)
    if as_json:
        print_json(found)
    else:
        print_comparison(found)


def print_comparison(found: Any) -> None:
    """Each prompt, and what each strength made of it."""
    for result in found["results"]:
        out.print(safe(result["prompt"]), style="bold", markup=False)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for output in result["outputs"]:
            name = "base" if output["strength"] == 0 else f"at {output['strength']:g}"
            table.add_row(name, Text(safe(" ".join(output["text"].split())) or "(nothing)"))
        out.print(table)
        out.print()


def receipt_view(found: dict[str, Any]) -> RenderableType:
    """The receipt for a terminal: verdict, effect, controls, damage, samples, cost.

    Args:
        found: as the API sends it.

    Raises:
        ApiError: it is of a version that this program does not know.
    """
    from models_store.errors import ScalpelError
    from models_store.objects.versions import parse_stored
    from models_store.schemas.report import Report

    try:
        report = parse_stored(Report, json.dumps(all_safe(found)).encode(), "the receipt")
    except ScalpelError as error:
        raise ApiError(f"{error.message} (--markdown shows it as the service does)") from error
    verdict = report.verdict
    word = verdict.outcome or verdict.conclusion or "not tested"
    parts: list[RenderableType] = [
        Text.assemble(colored(word), f"  {report.provenance.edit_id}"),
        *([Text.assemble(("Use it? ", "bold"), verdict.advice)] if verdict.advice else []),
        Text(safe(verdict.sentence)),
        *_section("Effect: share of undesired generations", _effects(report)),
        *_section("Beside controls, at the same KL", _controls(report)),
        *_section("Damage", _damage(report)),
        *_section("Samples, drawn at random", _samples(report)),
        *_section("Cost", _cost(report)),
    ]
    remarks = [Text(f"note: {remark.detail}", "yellow") for remark in report.warnings]
    return Group(*parts, *([Text(), *remarks] if remarks else []))


def _section(title: str, table: Table) -> Iterable[RenderableType]:
    return [Text(), Text(title, "bold"), Padding(table, (0, 0, 0, 2))] if table.row_count else []


def _table(*headings: str) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        show_header=any(headings),
    )
    for heading in headings:
        table.add_column(heading)
    return table


def _effects(report: Report) -> Table:
    from models_store.cards.formats import percent, points

    table = _table("scorer", "base", "edited", "change, 95 % interval")
    for effect in report.effects:
        rate = effect.rate
        table.add_row(
            effect.scorer, percent(rate.base), percent(rate.edited), points(rate.difference)
        )
    return table


def _controls(report: Report) -> Table:
    from models_store.cards.formats import control_name, percent, points

    table = _table("instead of the edit", "base", "then", "the edit against it")
    for control in report.controls:
        for effect in control.effects[:1]:
            against = "" if control.versus_edit is None else points(control.versus_edit)
            table.add_row(
                control_name(control),
                percent(effect.rate.base),
                percent(effect.rate.edited),
                against,
            )
    return table


def _damage(report: Report) -> Table:
    from models_store.cards.limits import limits_of

    table = _table("", "measured", "95 % interval", "limit", "of")
    for limit in limits_of(report):
        table.add_row(
            Text(limit.name, "red" if limit.exceeded else ""),
            limit.value or "-",
            limit.range,
            (limit.limit or "-") + (" exceeded" if limit.exceeded else ""),
            limit.unit,
        )
    return table


def _samples(report: Report) -> Table:
    table = _table("", "")
    table.columns[0].no_wrap, table.columns[0].style = True, "dim"
    for sample in report.samples[:_SAMPLES]:
        for name, text in (("prompt", sample.prompt), ("base", sample.base)):
            table.add_row(name, Text(safe(" ".join(text.split()))))
        table.add_row("edited", Text(safe(" ".join(sample.edited.split()))))
    return table


def _cost(report: Report) -> Table:
    from models_store.cards.formats import seconds, size

    table = _table("", "")
    cost = report.cost
    tried = "" if report.search is None else f", {len(report.search.candidates)} candidates tried"
    table.add_row("time", f"{seconds(cost.total_seconds)} on {cost.device}, {cost.dtype}{tried}")
    table.add_row("memory", f"{size(cost.peak_memory_bytes)} at most")
    table.add_row("edit", f"{report.method.type}, {size(report.provenance.delta_bytes)}")
    return table
