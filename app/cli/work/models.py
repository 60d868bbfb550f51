"""What can be talked to: models and their aliases, and the base models that they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import WrongUse
from app.cli.console import Column, ago, number, print_facts, print_json
from app.cli.listing import Listing
from app.cli.options import AsJson, Service, Wait, Yes, remove, spread
from app.cli.progress import finished
from app.cli.work.names import status_of, variant_of

models = typer.Typer(help="Models to talk to, and base models.", no_args_is_help=True)
alias = typer.Typer(help="Names of your own for variants.", no_args_is_help=True)
AliasName = Annotated[str, typer.Argument(help="Its name, such as support-bot.")]


def _made_of(model: Any) -> str:
    made = model["provenance"] or {"edits": (), "variant": ""}
    edits = (f"{one['behavior'] or one['id']}@{one['strength']:g}" for one in made["edits"])
    return ", ".join(edits) or "the base model"


def _millions(parameters: int | None) -> str | None:
    return None if parameters is None else f"{number(parameters / 1e6)} M"


def _shares(found: Any) -> str | None:
    shares = (f"{one['weight']:.0%} {one['variant']}" for one in found.get("shares") or ())
    return ", ".join([found["variant"], *shares]) if found["variant"] else None


_MODELS = Listing(
    "/v1/models",
    (
        Column("model", "id"),
        Column("kind", lambda one: (one["provenance"] or {}).get("type", "").replace("_", " ")),
        Column("edits", _made_of, spare=2),
        Column("made", lambda one: ago(one["created"]), spare=1),
    ),
    "no model is ready yet: `scalpel models base` shows how far base models are",
)
_BASES = Listing(
    "/v1/base_models",
    (
        Column("base model", "id"),
        Column("status", status_of),
        Column("parameters", lambda one: _millions(one["parameters"]), spare=1),
        Column("layers", "layers", spare=3),
        Column("context", "context_length", spare=4),
        Column("architecture", "architecture", spare=2),
        Column("licence", "licence", spare=5),
    ),
    "no base model is registered: `scalpel models add` registers one",
)
_ALIASES = Listing(
    "/v1/aliases",
    (
        Column("alias", "name"),
        Column("variant", _shares),
        Column("version", "version", spare=2),
        Column("switched", lambda one: ago(one["updated_at"]), spare=1),
    ),
    "no aliases yet: `scalpel alias set NAME VARIANT` makes one",
)
_HISTORY = Listing(
    "",
    (
        Column("version", "version"),
        Column("variant", lambda one: _shares(one) or "(deleted)"),
        Column("at", lambda one: ago(one["at"]), spare=1),
    ),
    "",
)
models.command("base")(_BASES.command("List the registered base models."))
alias.command("list")(_ALIASES.command("List the aliases."))


@models.command("list")
@spread
def list_models(as_json: AsJson = False, service: Service = Service()) -> None:
    """List what can be talked to: base models, aliases and edits."""
    with service.connect() as client:
        _MODELS.show(client.get("/v1/models"), as_json=as_json)


@models.command("show")
@spread
def show_model(
    model: Annotated[str, typer.Argument(help="A base model, an alias or any variant.")],
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Show what a model is made of."""
    with service.connect() as client:
        found = client.get(f"/v1/models/{variant_of(client, model)}")
    if as_json:
        print_json(found)
        return
    made = found["provenance"] or {}
    print_facts(
        [
            ("model", found["id"]),
            ("kind", made.get("type", "").replace("_", " ")),
            ("variant", made.get("variant")),
            ("base model", made.get("base_model")),
            ("fingerprint", made.get("base_fingerprint")),
            *(
                ("edit", f"{one['id']} at {one['strength']:g}, {one['behavior'] or 'imported'}")
                for one in made.get("edits", ())
            ),
        ]
    )


@models.command("add")
@spread
def add_model(
    id: Annotated[str, typer.Argument(help="What to call it.")],
    folder: Annotated[
        Path | None, typer.Option(help="A Hugging Face folder, the same on every worker machine.")
    ] = None,
    hub: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME@COMMIT", help="On the Hugging Face hub.")
    ] = None,
    package: Annotated[str | None, typer.Option(help="An installed package of weights.")] = None,
    description: Annotated[str, typer.Option(help="A sentence that is shown beside it.")] = "",
    licence: Annotated[str, typer.Option(help="Such as Apache-2.0.")] = "",
    pool: Annotated[str | None, typer.Option(help="Name of the editors that work on it.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Register a base model: an editor fetches, checks and pins its weights."""
    body = {"id": id, "source": _source(folder, hub, package)}
    body |= {"description": description, "licence": licence}
    body |= {} if pool is None else {"pool": pool}
    with service.connect() as client:
        made = client.create("/v1/base_models", body)
        if wait:
            made = finished(client, f"/v1/base_models/{made['id']}")
    if as_json:
        print_json(made)
    else:
        typer.echo(f"{made['id']} {made['status']}")


@models.command("remove")
@spread
def remove_model(
    id: Annotated[str, typer.Argument(help="A base model.")],
    yes: Yes = False,
    service: Service = Service(),
) -> None:
    """Remove a base model; its edits stay, and cannot be served."""
    with service.connect() as client:
        path = f"/v1/base_models/{id}"
        remove(client, path, f"the base model {id}", yes=yes, verb="remove")


@alias.command("set")
@spread
def set_alias(
    name: AliasName,
    variant: Annotated[str, typer.Argument(help="What it stands for.")],
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT=WEIGHT",
            help="Send that part of the requests elsewhere; several times.",
        ),
    ] = None,
    without_parents: Annotated[
        bool, typer.Option("--without-parents", help="Leave out parent edits that are not named.")
    ] = False,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Make an alias, or switch it; requests from then on get the new variant."""
    with service.connect() as client:
        body: dict[str, Any] = {"variant": variant_of(client, variant)}
        parts = [each.rpartition("=") for each in share or ()]
        body["shares"] = [
            {"variant": variant_of(client, other), "weight": _weight(weight)}
            for other, _, weight in parts
        ]
        if without_parents:
            body["without_parents"] = True
        made = client.put(f"/v1/aliases/{name}", body)
    _print_alias(made, as_json=as_json)


@alias.command("show")
@spread
def show_alias(
    name: AliasName,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Show an alias and its newest versions."""
    with service.connect() as client:
        found = client.get(f"/v1/aliases/{name}")
    if as_json:
        print_json(found)
    else:
        _HISTORY.show({"data": found["history"]}, as_json=False)


@alias.command("rollback")
@spread
def rollback_alias(
    name: AliasName,
    version: Annotated[
        int | None, typer.Option(help="By default the newest one that differs.")
    ] = None,
    as_json: AsJson = False,
    service: Service = Service(),
) -> None:
    """Switch an alias back to an earlier version."""
    with service.connect() as client:
        body = {} if version is None else {"version": version}
        made = client.post(f"/v1/aliases/{name}/rollback", body)
    _print_alias(made, as_json=as_json)


@alias.command("delete")
@spread
def delete_alias(name: AliasName, yes: Yes = False, service: Service = Service()) -> None:
    """Delete an alias."""
    with service.connect() as client:
        remove(client, f"/v1/aliases/{name}", f"the alias {name}", yes=yes)


def _print_alias(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['name']} is {_shares(found)} (version {found['version']})")


def _source(folder: Path | None, hub: str | None, package: str | None) -> dict[str, str]:
    if [folder, hub, package].count(None) != 2:
        raise WrongUse("give one of --folder, --hub and --package")
    if folder is not None:
        return {"type": "folder", "path": str(folder.absolute())}
    if package is not None:
        return {"type": "package", "name": package}
    repo, _, revision = (hub or "").partition("@")
    if not revision:
        raise WrongUse(f"--hub {hub}: name the commit too, as OWNER/NAME@COMMIT")
    return {"type": "hub", "repo": repo, "revision": revision}


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongUse(
            f"{text!r} is no weight: write VARIANT=WEIGHT, such as base:kinder=0.1"
        ) from None
