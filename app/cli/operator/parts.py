"""The processes of a service, and everything on this machine."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Annotated

import typer

from app.cli.console import out
from app.cli.options import Local, spread


@spread
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.")] = None,
    local: Local = Local(),
) -> None:
    """Start everything on this machine."""
    from app.cli.supervisor import Supervisor

    settings = local.settings(host=host, port=port)
    supervisor = Supervisor(settings, say=typer.echo)
    signal.signal(signal.SIGTERM, supervisor.request_stop)
    signal.signal(signal.SIGINT, supervisor.request_stop)
    with supervisor.running():
        typer.echo(f"Starting; data in {settings.data}, logs in {supervisor.logs}")
        supervisor.wait_until_ready()
        typer.echo(f"Scalpel is ready at {supervisor.url} (Ctrl-C stops it)")
        supervisor.run()
        typer.echo("Stopping…")


@spread
def api(local: Local = Local()) -> None:
    """Run the HTTP API and the keeper alone."""
    gc.disable()
    from app.server.uvicorn import serve

    serve(local.settings())


@spread
def editor(local: Local = Local()) -> None:
    """Run an editor alone: it makes the edits of one pool."""
    _become("workers.editor", local)


@spread
def generator(local: Local = Local()) -> None:
    """Run a generator alone: it serves the variants."""
    _become("workers.generator", local)


def demo() -> None:
    """Edit a real model on this machine, and show what it did."""
    from app.cli.operator.demo import run_demo

    sys.exit(run_demo(out))


@spread
def doctor(local: Local = Local()) -> None:
    """Check what this machine has and what it lacks."""
    from app.cli.operator.doctor import checks

    results = list(checks(local.settings()))
    for name, problem, note in results:
        mark = "[green]ok  [/]" if problem is None else "[red]fail[/]"
        out.print(f"{mark} {name:<12} {problem or note}")
    sys.exit(any(problem is not None for _, problem, _ in results))


def _become(module: str, local: Local) -> None:
    if local.data is not None:
        os.environ["SCALPEL_DATA"] = str(local.settings().data)
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - our own module
