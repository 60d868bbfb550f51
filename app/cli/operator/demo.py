"""`scalpel demo`: the main job on this machine, over the HTTP calls that anybody would make."""

from __future__ import annotations

import json
import shlex
import signal
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.cli.client import Client
from app.cli.progress import expected, show
from app.cli.supervisor import Supervisor
from models_store.settings import Settings

FOLDER = Path(".demo")
BODY: dict[str, Any] = {
    "base_model": "smollm2-135m-instruct",
    "behavior": "negativity",
    "effort": "quick",
    "seed": 0,
}
PROMPTS = (
    "The food at the new place was",
    "We went back to the hotel and",
    "My first week with this phone",
    "The second half of the film",
)
_MAX_TOKENS = 28


def run_demo(console: Console) -> int:
    """Edit SmolLM2 to be kinder; 0 when the measured effect is distinguishable from zero."""
    started = time.monotonic()
    settings = Settings(data=FOLDER.absolute(), port=0)
    supervisor = Supervisor(settings, say=console.print)
    signal.signal(signal.SIGTERM, supervisor.request_stop)
    with supervisor.running():
        console.print("Starting Redis, the API, an editor and a generator…")
        console.print("[dim]The first time, the weights of SmolLM2 are converted (10 to 60 s).[/]")
        supervisor.wait_until_ready()
        console.print(f"Ready at {supervisor.url} after {time.monotonic() - started:.0f} s.\n")
        with Client(supervisor.url) as client:
            return _edit_and_show(console, client, settings)


def _edit_and_show(console: Console, client: Client, settings: Settings) -> int:
    console.print("[bold]POST /v1/edits/estimate[/]", json.dumps(BODY))
    estimate = expected(client, BODY)
    if estimate is not None:
        console.print(f"It will take about {sum(estimate.values()) / 60:.0f} minutes.\n")
    console.print("[bold]POST /v1/edits[/]", json.dumps(BODY))
    edit = client.post("/v1/edits", BODY)
    console.print(f"{edit['id']} is {edit['status']}.")
    edit = show(client, f"/v1/edits/{edit['id']}", console, estimate=estimate)
    if edit["status"] != "succeeded":
        console.print(f"[red]It {edit['status']}:[/] {edit['error']}")
        return 1
    _side_by_side(console, client, edit)
    report = client.get(f"/v1/edits/{edit['id']}/report")
    _receipt(console, report)
    delta = FOLDER / f"{edit['id']}.safetensors"
    delta.write_bytes(client.download(f"/v1/edits/{edit['id']}/delta"))
    (FOLDER / f"{edit['id']}.html").write_text(
        client.text(f"/v1/edits/{edit['id']}/report", "text/html"), encoding="utf-8"
    )
    console.print(f"\nThe edit is a file of {delta.stat().st_size / 1000:.0f} kB: {delta}")
    console.print(f"Its receipt, as a page: {delta.with_suffix('.html')}")
    _how_to_repeat(console, edit)
    if not report["verdict"]["distinguishable"]:
        console.print("\n[red]The effect is not significant: the demonstration failed.[/]")
        return 1
    return 0


def _side_by_side(console: Console, client: Client, edit: dict[str, Any]) -> None:
    body = {
        "prompts": list(PROMPTS),
        "strengths": [0, 1],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0.8,
        "seed": 1,
        "chat": False,
    }
    comparison = client.post(f"/v1/edits/{edit['id']}/compare", body)
    table = Table(title="Same prompt, same random numbers", show_lines=True, title_justify="left")
    for heading in ("prompt", "base", "edited"):
        table.add_column(heading, ratio=2 if heading == "prompt" else 5)
    for result in comparison["results"]:
        outputs = [" ".join(output["text"].split()) for output in result["outputs"]]
        table.add_row(result["prompt"], *outputs)
    console.print()
    console.print(table)


def _receipt(console: Console, report: dict[str, Any]) -> None:
    table = Table(title="The receipt", title_justify="left", show_header=True)
    for heading in ("measured on texts that no choice had seen", "base", "edited", "change, 95 %"):
        table.add_column(heading)
    for effect in report["effects"]:
        table.add_row(f"undesired by {effect['scorer']}", *_contrast(effect["rate"]))
    for control in report["controls"]:
        name = control["kind"].replace("_", " ")
        for effect in control["effects"]:
            label = f"{name} instead, by {effect['scorer']}, on some prompts"
            table.add_row(label, *_contrast(effect["rate"]))
        against = _interval(control["versus_edit"])
        table.add_row(f"the edit against the {name}, same prompts", "", "", against)
    for check in (report["safety"] or {"checks": ()})["checks"]:
        table.add_row(check["name"], *_contrast(check["of"]))
    console.print()
    console.print(table)
    damage = report["damage"]
    console.print(
        f"Tried: {len(report['search']['candidates'])} edits on other prompts. "
        f"Chosen: {report['method']['details']['label']}."
    )
    console.print(
        f"Damage: KL to the base {damage['kl']:.3f} nats a token, perplexity "
        f"× {damage['perplexity_ratio']['value']:.3f} on neutral text; what the model says is "
        f"{damage['fluency']['value']:+.2f} nats a token less likely to it."
    )
    console.print(
        f"Cost: {report['cost']['total_seconds']:.0f} s, "
        f"{report['cost']['peak_memory_bytes'] / 1e9:.1f} GB at most."
    )
    console.print(f"Verdict: {report['verdict']['sentence']}")
    color = "green" if report["verdict"]["outcome"] == "success" else "red"
    console.print(f"[bold]Use it?[/] [{color}]{report['verdict']['advice']}[/]")


def _contrast(rate: dict[str, Any]) -> tuple[str, str, str]:
    return f"{rate['base']:.1%}", f"{rate['edited']:.1%}", _interval(rate["difference"])


def _interval(change: dict[str, float]) -> str:
    return f"{change['value']:+.1%}  [{change['low']:+.1%}, {change['high']:+.1%}]"


def _how_to_repeat(console: Console, edit: dict[str, Any]) -> None:
    """The same calls by hand, against an installation that stays."""
    url = "http://127.0.0.1:8080"
    chat = {
        "model": f"{edit['base_model']}:EDIT_ID@0.6",
        "messages": [{"role": "user", "content": "How was your day?"}],
    }
    as_json = "-H 'Content-Type: application/json' -d"
    console.print("\nTo repeat it by hand, start `make up` in another terminal, then:\n")
    for line in (
        f"curl -s {url}/v1/edits {as_json} {shlex.quote(json.dumps(BODY))}",
        f"curl -s '{url}/v1/edits/EDIT_ID?wait=60'",
        f"curl -s {url}/v1/edits/EDIT_ID/delta -o kinder.safetensors",
        f"curl -s {url}/v1/chat/completions {as_json} {shlex.quote(json.dumps(chat))}",
    ):
        console.print(f"  {line}", soft_wrap=True, markup=False)
