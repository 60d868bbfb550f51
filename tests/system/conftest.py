"""One service with SmolLM2 for all tests here, and the README's commands run on it once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.service import Service, running_service

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, smollm2_folder: Path) -> Iterator[Service]:
    """`scalpel up` with SmolLM2; every part of it ends with the tests."""
    folder = tmp_path_factory.mktemp("service")
    policy = folder / "policy.toml"
    policy.write_text("margins.prompts = 8  # a minute less; harm has tests of its own\n")
    # The other core is for the tests that run beside these.
    settings = {"SCALPEL_THREADS": "1", "OMP_NUM_THREADS": "1", "SCALPEL_POLICY": str(policy)}
    # Where a CPU has half precision, a row that is one of many may break ties as it does not alone.
    settings["SCALPEL_DTYPE"] = "float32"
    with running_service(folder / "data", **settings) as running:
        yield running


@dataclass(frozen=True)
class ReadmeRun:
    """What the README's commands did."""

    code: str
    status: int
    output: str
    errors: str
    folder: Path
    edit: dict[str, Any]


@pytest.fixture(scope="session")
def readme_run(service: Service, tmp_path_factory: pytest.TempPathFactory) -> ReadmeRun:
    """The README's block of commands, word for word, in a folder of its own."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "curl" in block]
    folder = tmp_path_factory.mktemp("readme")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, "SCALPEL_URL": service.url},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    with service.client() as client:
        edits = client.get("/v1/edits").json()["data"]
        edit = client.get(f"/v1/edits/{edits[0]['id']}").json()
    return ReadmeRun(code, done.returncode, done.stdout, done.stderr, folder, edit)
