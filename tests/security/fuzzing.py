"""schemathesis as a command: what it is told, and what it found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.security.target import Target

_NAMES_IN_PATHS = {
    "aliases": ["/v1/aliases/{name}", "/v1/aliases/{name}/rollback"],
    "files": ["/v1/exports/{export_id}/files/{name}"],
}
_KNOWN_SHARE = 0.7
"""Of the names that are generated, so many are of things that are there."""
# What a schema cannot say is answered 422: texts too few, names of what is not there. A body over
# the limit is 413, whatever it holds. The grammar of variants, the length of a context and JSON in
# a field of a form are no schema's either, and are 400. `/readyz` is there to answer 503.
_EXPECTED = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429"]

[[operations]]
include-path = [
  "/v1/chat/completions", "/v1/completions", "/v1/models/{model}", "/v1/aliases/{name}",
  "/v1/exports", "/v1/edits", "/v1/edits/estimate", "/v1/compare", "/v1/edits/{edit_id}/compare",
  "/v1/behaviors/draft", "/v1/receipts", "/v1/imports",
  "/v1/files", "/v1/fine_tuning/jobs",
]
checks.positive_data_acceptance.expected-statuses = [
  "2xx", "3xx", "400", "401", "403", "404", "409", "422", "429",
]

[[operations]]
include-path = "/readyz"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "503"]
"""


@dataclass(frozen=True)
class Campaign:
    """What a run of schemathesis found."""

    cases: int
    passed: bool
    output: str


def run_campaign(
    target: Target,
    folder: Path,
    *,
    examples: int,
    seed: int,
    phases: tuple[str, ...] = ("examples", "coverage", "fuzzing", "stateful"),
    timeout: float = 600,
) -> Campaign:
    """Fuzz every operation of the target's own description.

    Args:
        examples: random cases an operation and kind (valid, invalid) at most.
    """
    config = folder / "schemathesis.toml"
    config.write_text(_config(target), encoding="utf-8")
    report = folder / "report.json"
    # It is made once, which takes a busy machine longer than schemathesis waits.
    httpx.get(f"{target.url}/openapi.json", timeout=120).raise_for_status()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
            f"{target.url}/openapi.json",
            *("--phases", ",".join(phases), "--max-examples", str(examples), "--seed", str(seed)),
            *("--report", "json", "--report-json-path", str(report)),
            *("--no-color", "--continue-on-failure", "--no-shrink", "--request-timeout", "60"),
        ],
        cwd=folder,  # schemathesis remembers what it found in the folder that it runs in
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    counted = re.search(r"([\d,]+) generated", output)
    cases = int(counted.group(1).replace(",", "")) if counted else 0
    return Campaign(cases, done.returncode == 0, output)


def _config(target: Target) -> str:
    names = target.names
    lists = {
        "bases": names.base_models,
        "edits": names.edits,
        "exports": names.exports,
        "behaviors": names.behaviors,
        "aliases": names.aliases,
        "variants": names.variants,
        "files": names.files,
    }
    bound = {
        "path.edit_id": "edits",
        "path.export_id": "exports",
        "path.behavior_id": "behaviors",
        "path.base_model_id": "bases",
        "path.model": "variants",
        "body.base_model": "bases",
        "body.behavior": "behaviors",
        "body.model": "variants",
        "body.variant": "variants",
        "body.on_top_of": "variants",
    }
    lines = [f"[parameters]\n{_bindings(bound)}"]
    for number, (path, values) in enumerate(names.spare.items()):
        lists[f"spare-{number}"] = values
        parameter = path.partition("{")[2].rstrip("}")
        binding = _bindings({f"path.{parameter}": f"spare-{number}"})
        lines.append(
            f'[[operations]]\ninclude-path = "{path}"\ninclude-method = "DELETE"\n'
            f"[operations.parameters]\n{binding}"
        )
    for name, paths in _NAMES_IN_PATHS.items():
        lines.append(
            f'[[operations]]\ninclude-path = {json.dumps(paths)}\nexclude-method = "DELETE"\n'
            f"[operations.parameters]\n{_bindings({'path.name': name})}"
        )
    for name, values in lists.items():
        lines.append(f"[dictionaries.{name}]\nvalues = {json.dumps(values)}")
    lines.append(_EXPECTED)
    if target.key:
        lines.append(f'[auth.openapi.HTTPBearer]\nbearer = "{target.key}"')
    return "\n".join(lines) + "\n"


def _bindings(bound: dict[str, str]) -> str:
    return "\n".join(
        f'"{where}" = {{ dictionary = "{name}", probability = {_KNOWN_SHARE} }}'
        for where, name in bound.items()
    )
