"""The `scalpel` command line. The workers' commands replace this process by theirs."""

from __future__ import annotations

# ruff: noqa: E402 - imports take a fifth longer while the collector looks through what they bring
import gc

gc.disable()

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from app.cli.audit import audit
from app.cli.canary import canary
from app.cli.client import DEFAULT_URL, ApiError, Client
from app.cli.importing import import_files
from app.cli.keys import keys
from app.cli.progress import expected, show
from app.cli.tenants import tenants
from models_store.errors import ScalpelError
from models_store.objects.store import open_store
from models_store.operator.policy import read_policy
from models_store.schemas.methods import Effort
from models_store.settings import Settings

gc.enable()

app = typer.Typer(
    help="Edit-as-a-service for large language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys, name="keys")
app.add_typer(audit, name="audit")
app.add_typer(tenants, name="tenants")
app.command()(canary)
console = Console(highlight=False)

Url = Annotated[
    str, typer.Option("--url", envvar="SCALPEL_URL", help="Address of the API.", show_default=False)
]
Key = Annotated[
    str,
    typer.Option("--key", envvar="SCALPEL_API_KEY", help="API key, where the API asks for one."),
]
Token = Annotated[
    str,
    typer.Option(envvar="HF_TOKEN", help="Of the hub; else the saved one.", show_default=False),
]
Endpoint = Annotated[
    str, typer.Option(envvar="HF_ENDPOINT", help="Address of the hub.", show_default=False)
]
_PASSWORD = re.compile(r"(://[^/@\s]*:)[^/@\s]+@")
"""Of an address."""


def main() -> None:
    """Run the command line; errors that Scalpel raises on purpose are shown as one message."""
    try:
        app()
    except ScalpelError as error:
        fail(error.message)
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"SCALPEL_{name}: {problem['msg']}" if name else problem["msg"], err=True)
        sys.exit(2)


def fail(message: str) -> None:
    typer.echo(f"scalpel: {message}", err=True)
    sys.exit(1)


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for the store and Redis.")] = None,
) -> None:
    """Start everything on this machine: API, editor, generator and Redis."""
    from app.cli.supervisor import Supervisor

    given: dict[str, Any] = {"host": host, "port": port, "data": data}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
    supervisor = Supervisor(settings, say=typer.echo)
    signal.signal(signal.SIGTERM, supervisor.request_stop)
    signal.signal(signal.SIGINT, supervisor.request_stop)
    with supervisor.running():
        typer.echo(f"Starting; data in {settings.data}, logs in {supervisor.logs}")
        supervisor.wait_until_ready()
        typer.echo(f"Scalpel is ready at {supervisor.url} (Ctrl-C stops it)")
        supervisor.run()
        typer.echo("Stopping…")


@app.command()
def api() -> None:
    """Run the HTTP API and the keeper alone."""
    gc.disable()
    from app.server.uvicorn import serve

    serve(Settings())


@app.command()
def editor() -> None:
    """Run an editor alone: it makes the edits of one pool."""
    _become("workers.editor")


@app.command()
def generator() -> None:
    """Run a generator alone: it serves the variants."""
    _become("workers.generator")


def _become(module: str) -> None:
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - our own module


@app.command()
def config() -> None:
    """Print the settings in force."""
    shown = Settings().model_dump(mode="json")
    shown["internal_token"] = "set" if shown["internal_token"] else "not set"
    for name, value in shown.items():
        shown_value = "" if value is None else _PASSWORD.sub(r"\1…@", str(value))
        typer.echo(f"SCALPEL_{name.upper()}={shown_value}")
    typer.echo(f"# policy: {read_policy(Settings()).summary()}")


@app.command()
def edit(
    base_model: Annotated[str, typer.Argument(help="A catalogued base model.")],
    behavior: Annotated[
        str | None,
        typer.Argument(help="A preset, a beh_… id, or @FILE with a behaviour as JSON."),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="In place of a behaviour: lessen what this scorer flags.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="With --scorer: a file of prompts, one a line.")
    ] = None,
    method: Annotated[str, typer.Option(help="A method's name, or its settings as JSON.")] = "auto",
    effort: Annotated[Effort, typer.Option(help="How much is tried and measured.")] = "standard",
    max_kl: Annotated[float | None, typer.Option(help="Limit of the KL divergence.")] = None,
    seed: int = 0,
    suffix: Annotated[str | None, typer.Option(help="A name for the edit.")] = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
    url: Url = "",
    key: Key = "",
) -> None:
    """Queue an edit, and watch it."""
    body: dict[str, Any] = {
        "base_model": base_model,
        "behavior": _behavior(behavior, scorer, prompts),
        "method": _method(method),
        "effort": effort,
        "seed": seed,
        "suffix": suffix,
    }
    if max_kl is not None:
        body["limits"] = {"max_kl": max_kl}
    with connect(url, key) as client:
        made = client.post("/v1/edits", body)
        typer.echo(made["id"])
        warn(made)
        if wait:
            estimate = expected(client, {**body, "suffix": None})
            _watch(client, made["id"], estimate)


@app.command("import")
def import_(
    base_model: Annotated[str, typer.Argument(help="The base model that it was made for.")],
    path: Annotated[
        Path, typer.Argument(help="An adapter's folder or zip file, or a delta of Scalpel's.")
    ],
    suffix: Annotated[str | None, typer.Option(help="A name for the edit.")] = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
    url: Url = "",
    key: Key = "",
) -> None:
    """Make an edit of what was made elsewhere."""
    fields = {"base_model": base_model, **({} if suffix is None else {"suffix": suffix})}
    with connect(url, key) as client:
        made = client.send_files("/v1/imports", fields, import_files(path))
        typer.echo(made["id"])
        if wait:
            _watch(client, made["id"])


@app.command()
def measure(
    variant: Annotated[str, typer.Argument(help="Such as smollm2-135m-instruct:kinder@1+calmer")],
    behavior: Annotated[
        str | None,
        typer.Argument(help="As of `edit`; by default that of the variant's last edit."),
    ] = None,
    effort: Annotated[Effort, typer.Option(help="How much is measured.")] = "standard",
    seed: Annotated[int | None, typer.Option(help="By default that of the last edit.")] = None,
    suffix: Annotated[str | None, typer.Option(help="A name for what is measured.")] = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
    url: Url = "",
    key: Key = "",
) -> None:
    """Get the receipt of a variant as it is, such as of several edits together."""
    body = {
        "variant": variant,
        "behavior": None if behavior is None else _behavior(behavior, None, None),
        "effort": effort,
        "seed": seed,
        "suffix": suffix,
    }
    with connect(url, key) as client:
        made = client.post("/v1/receipts", body)
        typer.echo(made["id"])
        warn(made)
        if wait:
            _watch(client, made["id"])


@app.command()
def watch(edit_id: str, url: Url = "", key: Key = "") -> None:
    """Show the progress of an edit until it is done."""
    with connect(url, key) as client:
        _watch(client, edit_id)


@app.command()
def cancel(edit_id: str, url: Url = "", key: Key = "") -> None:
    """Cancel an edit."""
    with connect(url, key) as client:
        typer.echo(client.post(f"/v1/edits/{edit_id}/cancel", None)["status"])


@app.command()
def chat(
    variant: Annotated[str, typer.Argument(help="Such as smollm2-135m-instruct:edit_…@0.6")],
    message: Annotated[str | None, typer.Argument(help="Say one thing and leave.")] = None,
    max_tokens: int = 256,
    temperature: float = 0.7,
    url: Url = "",
    key: Key = "",
) -> None:
    """Talk to a variant."""
    messages: list[dict[str, str]] = []
    with connect(url, key) as client:
        while (text := message or _prompt()) is not None:
            messages.append({"role": "user", "content": text})
            reply = ""
            for piece in client.stream_chat(
                {
                    "model": variant,
                    "messages": messages,
                    "max_tokens": max_tokens,
                    "temperature": temperature,
                }
            ):
                reply += piece
                typer.echo(piece, nl=False)
            typer.echo()
            messages.append({"role": "assistant", "content": reply})
            if message is not None:
                return


@app.command()
def push(
    export: Annotated[str, typer.Argument(help="An exp_… id.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Nobody else may see it.")] = False,
    token: Token = "",
    endpoint: Endpoint = "",
    url: Url = "",
    key: Key = "",
) -> None:
    """Upload an export to the Hugging Face hub, with its card and checksums."""
    from app.cli import hub

    with connect(url, key) as client:
        pushed = hub.push(client, export, repo, token=token, endpoint=endpoint, private=private)
    typer.echo(pushed)


@app.command()
def pull(
    repo: Annotated[str, typer.Argument(help="OWNER/NAME")],
    folder: Annotated[Path | None, typer.Argument(help="By default NAME.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, a tag or a commit.")] = None,
    token: Token = "",
    endpoint: Endpoint = "",
) -> None:
    """Download an export from the Hugging Face hub; 1 unless it matches its checksums."""
    from app.cli import hub

    target = folder or Path(repo.rpartition("/")[2])
    names, problems = hub.pull(repo, target, revision=revision, token=token, endpoint=endpoint)
    for name, problem in problems:
        typer.echo(f"{problem} {name}", err=True)
    if problems:
        fail(f"{len(problems)} of {len(names)} files are not what was pushed")
    typer.echo(f"{len(names)} files in {target}, all as they were pushed")


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.cli.openapi import openapi_document

    typer.echo(openapi_document(), nl=False)


@app.command()
def demo() -> None:
    """Edit a real model over HTTP on this machine, and show what the edit did."""
    from app.cli.demo import run_demo

    sys.exit(run_demo(console))


@app.command()
def doctor() -> None:
    """Check what this machine has and what it lacks."""
    from app.cli.doctor import checks

    results = list(checks(Settings()))
    for name, problem, note in results:
        mark = "[green]ok  [/]" if problem is None else "[red]fail[/]"
        console.print(f"{mark} {name:<12} {problem or note}")
    sys.exit(any(problem is not None for _, problem, _ in results))


@app.command()
def recover() -> None:
    """Look once at all open work: end dead attempts, complete results, enqueue what is due."""
    from app.loops.keeper import recover_once

    typer.echo(recover_once(Settings()))


@app.command()
def repair(
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Move them to the store's folder `quarantine`.")
    ] = False,
) -> None:
    """List records of the store that cannot be read; 1 if any are left."""
    from app.domain.repair import find_damaged
    from app.domain.repair import quarantine as put_aside

    objects = open_store(Settings())
    damaged = list(find_damaged(objects))
    for each in damaged:
        console.print(f"[red]damaged[/] {each.path}\n        {each.problem}", highlight=False)
        for path in put_aside(objects, each) if quarantine else ():
            console.print(f"        moved to quarantine/{path}", highlight=False)
    if not damaged:
        console.print("every record can be read")
    elif not quarantine:
        console.print(f"{len(damaged)} damaged; `scalpel repair --quarantine` moves them away")
    sys.exit(bool(damaged) and not quarantine)


def connect(url: str, key: str) -> Client:
    return Client(url or DEFAULT_URL, key or None)


def _watch(client: Client, edit_id: str, estimate: dict[str, float] | None = None) -> None:
    """Show an edit until it has ended; Ctrl-C ends the showing alone."""
    try:
        finish(show(client, edit_id, console, estimate=estimate))
    except KeyboardInterrupt:
        typer.echo(
            f"{edit_id} goes on; `scalpel watch {edit_id}` shows it again, `scalpel cancel "
            f"{edit_id}` ends it",
            err=True,
        )
        sys.exit(130)


def finish(edit: dict[str, Any]) -> None:
    """Print how an edit ended; a failure ends the command with an error."""
    if edit["status"] == "succeeded":
        shown = dict(edit["report_summary"] or {})
        shown.pop("warnings", None)
        if (advice := shown.pop("advice", None)) is not None:
            typer.echo(f"use it? {advice}")
        for name, value in shown.items():
            typer.echo(f"{name}: {value}")
        typer.echo(f"variant: {edit['variant']}")
        typer.echo(f"model: {edit['model']}")
        warn(edit)
        return
    error = edit["error"] or {"code": edit["status"], "message": "it was canceled"}
    raise ApiError(f"{edit['id']} {edit['status']}: {error['message']} ({error['code']})")


def warn(edit: dict[str, Any]) -> None:
    """Print what an edit is warned of, apart from what it prints."""
    for warning in edit["warnings"]:
        typer.echo(f"warning: {warning['detail']}", err=True)


def _prompt() -> str | None:
    try:
        return input("> ").strip() or None
    except (EOFError, KeyboardInterrupt):
        return None


def _method(given: str) -> Any:
    """A request's `method`: given as JSON, or as its type alone."""
    if not given.lstrip().startswith("{"):
        return {"type": given}
    try:
        return json.loads(given)
    except ValueError as error:
        raise ApiError(
            f"--method cannot be read as JSON ({error}): give a method's name, such as bias, or "
            'its settings, such as \'{"type": "bias", "layers": [14]}\''
        ) from error


def _behavior(behavior: str | None, scorer: str | None, prompts: Path | None) -> Any:
    """What a request says of the behaviour: a name, or a behaviour in place."""
    if behavior is not None and scorer is None and prompts is None:
        return _json_file(behavior[1:]) if behavior.startswith("@") else behavior
    if behavior is not None or scorer is None or prompts is None:
        raise ApiError("give a behaviour, or --scorer and --prompts")
    try:
        lines = prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ApiError(f"{prompts} cannot be read: {error}") from error
    return {"name": f"less {scorer}", "scorer": scorer, "prompts": [*filter(str.strip, lines)]}


def _json_file(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ApiError(f"{path} cannot be read as JSON: {error}") from error


if __name__ == "__main__":
    main()
