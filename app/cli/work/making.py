"""Making edits, and waiting for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import Client, WrongUse
from app.cli.console import notes, print_facts, print_json, print_remarks
from app.cli.options import AsJson, Service, Wait, Yes, spread
from app.cli.progress import finished
from app.cli.work.behaviors import drafted
from app.cli.work.bodies import BehaviorArgument, Pairs, Request, Suffix, behavior_of, pairs
from app.cli.work.files import import_files
from app.cli.work.names import EditName, edit_id, share, variant_of
from app.cli.work.reading import print_end
from models_store.schemas.methods import Effort

BaseModel = Annotated[
    str | None,
    typer.Argument(help="A registered base model; `scalpel models base` lists them."),
]


@spread
def edit(
    base_model: BaseModel = None,
    behavior: BehaviorArgument = None,
    request: Request = Request(),
    describe: Annotated[
        str | None, typer.Option(help="In place of a behaviour: one sentence, to draft texts from.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=16, max=120, help="With --describe: how many pairs are drafted.")
    ] = 60,
    yes: Yes = False,
    wait: Wait = True,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Make an edit, and watch it."""
    with service.connect() as client:
        given: Any = behavior
        if describe is not None:
            if behavior is not None or request.scorer is not None:
                raise WrongUse("--describe stands in place of a behaviour: give one of the two")
            base = request.body(base_model, {})["base_model"]
            given = drafted(client, base, describe, count, ask=not yes)
        body = request.body(base_model, given)
        made = client.create("/v1/edits", body)
        follow(client, made, {**body, "suffix": None}, wait=wait, as_json=as_json)


@spread
def estimate(
    base_model: BaseModel = None,
    behavior: BehaviorArgument = None,
    request: Request = Request(),
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Say what an edit would take; nothing is made."""
    from models_store.cards.formats import seconds, size

    with service.connect() as client, notes.status("reading the texts"):
        found = client.post("/v1/edits/estimate", request.body(base_model, behavior))
    if as_json:
        print_json(found)
        return
    time, splits, apart = found["seconds"], found["splits"], found["separability"]
    parts = ", ".join(f"{part} {seconds(time[part])}" for part in ("fit", "search", "test"))
    auc = None if apart is None else apart["probe_auc"] or apart["words_auc"]
    tested = f"{splits['test_prompts']} test prompts"
    print_facts(
        [
            ("time", f"about {seconds(time['total'])} ({parts})"),
            ("memory", size(found["memory_bytes"])),
            ("edit", f"{found['method']['type']}, {size(found['delta_bytes'])}"),
            (
                "texts",
                f"{splits['fit_undesired']} undesired, {splits['fit_desired']} desired to fit on",
            ),
            ("separable", None if auc is None else f"AUC {auc:.2f} (0.5 is chance)"),
            ("shows", f"changes of {share(found['smallest_effect'])} or more, on {tested}"),
        ]
    )
    print_remarks(found["warnings"])


@spread
def import_(
    base_model: Annotated[str, typer.Argument(help="The base model that it was made for.")],
    path: Annotated[
        Path, typer.Argument(help="An adapter's folder or zip file, or a delta of Scalpel's.")
    ],
    suffix: Suffix = None,
    metadata: Pairs = None,
    wait: Wait = True,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Make an edit of what was made elsewhere."""
    fields = {"base_model": base_model, **({} if suffix is None else {"suffix": suffix})}
    strings = pairs(metadata, "--metadata")
    if strings is not None:
        fields["metadata"] = json.dumps(strings)
    with service.connect() as client:
        made = client.send_files("/v1/imports", fields, import_files(path))
        follow(client, made, wait=wait, as_json=as_json)


@spread
def measure(
    variant: Annotated[str, typer.Argument(help="Such as smollm2-135m-instruct:kinder@1+calmer")],
    behavior: Annotated[
        str | None,
        typer.Argument(help="As of `edit`; by default that of the variant's last edit."),
    ] = None,
    effort: Annotated[Effort, typer.Option(help="How much is measured.")] = "standard",
    seed: Annotated[
        int | None, typer.Option(help="Seed of the random numbers; by default the last edit's.")
    ] = None,
    suffix: Suffix = None,
    wait: Wait = True,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Get a receipt of a variant, such as of several edits together."""
    body = {
        "behavior": None if behavior is None else behavior_of(behavior),
        "effort": effort,
        "seed": seed,
        "suffix": suffix,
    }
    with service.connect() as client:
        made = client.create("/v1/receipts", {**body, "variant": variant_of(client, variant)})
        follow(client, made, wait=wait, as_json=as_json)


@spread
def reproduce(
    edit: EditName,
    wait: Wait = True,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Make an edit again from its record, and compare the two."""
    with service.connect() as client:
        made = client.create(f"/v1/edits/{edit_id(client, edit)}/reproduce", None)
        follow(client, made, wait=wait, as_json=as_json)


def follow(
    client: Client,
    made: Any,
    request: dict[str, Any] | None = None,
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Say what was made, and wait until it has ended if that is wanted."""
    if not as_json:
        typer.echo(made["id"])
        print_remarks(made["warnings"])
    work = finished(client, f"/v1/edits/{made['id']}", request=request) if wait else made
    if as_json:
        print_json(work)
    elif wait:
        print_end(work)
