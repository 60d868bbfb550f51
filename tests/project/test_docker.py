"""The images run the same commands as `scalpel up`: held against the code, not against Docker."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from app.cli.main import app as command_line
from models_store.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OTHERS = ("redis", "vllm")
PARTS = {name: part for name, part in COMPOSE["services"].items() if name not in OTHERS}


def test_every_part_runs_a_command_that_exists() -> None:
    commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]

    assert {part["command"][0] for part in PARTS.values()} == {"api", "editor", "generator"}
    assert all(part["command"][0] in commands for part in PARTS.values())


@pytest.mark.parametrize("name", PARTS)
def test_every_variable_of_a_part_is_a_setting_that_takes_its_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = PARTS[name]["environment"]
    for variable, value in environment.items():
        assert variable.removeprefix("SCALPEL_").lower() in Settings.model_fields, variable
        monkeypatch.setenv(variable, str(value))

    settings = Settings()

    assert settings.redis_url.endswith("@redis:6379/0")
    assert settings.auth == "keys"


def test_the_gpu_parts_ask_for_a_gpu_and_use_it() -> None:
    for name in ("editor-gpu", "generator-gpu"):
        devices = PARTS[name]["deploy"]["resources"]["reservations"]["devices"]
        assert devices[0]["capabilities"] == ["gpu"]
        assert PARTS[name]["environment"]["SCALPEL_DEVICE"] == "cuda"


def test_vllm_reads_what_its_generator_writes_and_takes_adapters() -> None:
    server, speaker = COMPOSE["services"]["vllm"], PARTS["generator-vllm"]
    assert "data:/data" in server["volumes"]
    assert "data:/data" in speaker["volumes"]
    assert server["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    options = server["command"]
    held = options[options.index("--max-loras") + 1]
    assert "--enable-lora" in options
    assert speaker["environment"]["SCALPEL_VLLM_MAX_LORAS"] == held
    assert server["profiles"] == speaker["profiles"] == ["vllm"]


def test_the_image_is_built_from_files_that_exist() -> None:
    for part in PARTS.values():
        dockerfile = ROOT / part["build"]["context"] / part["build"]["dockerfile"]
        for sources in re.findall(r"^COPY (.+) \S+$", dockerfile.read_text(), re.MULTILINE):
            assert all((ROOT / source).exists() for source in sources.split())


def test_the_editor_is_given_more_time_to_stop_than_it_takes() -> None:
    grace = int(PARTS["editor"]["stop_grace_period"].removesuffix("s"))

    assert grace > Settings().drain_seconds


def test_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        pytest.skip("docker compose is not on this machine; the other tests read the file")
    for profile in ("", "gpu"):
        done = subprocess.run(
            [docker, "compose", "--profile", profile, "config", "--quiet"],
            cwd=ROOT,
            env={"SCALPEL_INTERNAL_TOKEN": "t", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
