"""`heretic-llm` (directional ablation with a search) on refusals, in an environment of its own.

Its default prompts are data sets of a hub; here they are those of the preset `refusal`, and neutral
questions. It asks what to do with the result on a terminal, and ends where there is none: what it
has measured is read from what it prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.beside.rows import Cost
from models_store.presets import load_preset, neutral_texts
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.items import prompt_of
from models_store.settings import Settings
from workers.runtime.base_models import materialise

NAME = "heretic"
PROGRAM = Path(".venv-heretic/bin/heretic").absolute()
TRIALS = 3
DEFAULT_TRIALS = 200
LEARNED, JUDGED = 100, 100
"""Prompts of each kind that directions are computed from, and that trials are judged on; its own
defaults are 400 and 100."""
LIMIT_SECONDS = 210.0
_BEGINS = "Loading good prompts"
_LOGGED = re.compile(r"\* (KL divergence|Refusals|Initial refusals): ([\d.]+)(?:/(\d+))?")


class Moment(NamedTuple):
    """When a line came."""

    seconds: float
    core_seconds: float
    """That the program had worked by then."""


@dataclass(frozen=True)
class Printed:
    """What a run has printed."""

    before: int
    """Refusals of the base model."""
    prompts: int
    trials: Sequence[tuple[float, int]]
    """KL of the first token, and refusals, of each trial."""


def read_log(lines: Iterable[str]) -> Printed:
    """Figures of a run.

    Raises:
        ValueError: it did not come to a trial's end.
    """
    before, prompts, kls, refusals = 0, 0, [], []
    for line in lines:
        for what, value, of in _LOGGED.findall(line):
            if what == "Initial refusals":
                before, prompts = int(value), int(of)
            elif what == "Refusals":
                refusals.append(int(value))
            else:
                kls.append(float(value))
    if not refusals:
        raise ValueError("no trial came to its end")
    return Printed(before, prompts, list(zip(kls, refusals, strict=False)))


def reason(lines: Sequence[str], status: int) -> str:
    """Why a run failed, as its last line of text says it."""
    said = [line.strip(" │╭╰─╮╯\n") for line in lines]
    return next((line for line in reversed(said) if line), f"it ended with status {status}")[:160]


def make(folder: Path) -> Cost:
    """Run it for a few trials.

    Args:
        folder: of all rows.
    """
    label = f"heretic-llm on refusal, {TRIALS} of {DEFAULT_TRIALS} trials"
    if not PROGRAM.exists():
        return Cost(row=NAME, label=label, failed=f"{PROGRAM.parents[1].name} is not there")
    own = (folder / NAME).absolute()
    own.mkdir(parents=True, exist_ok=True)
    _prompts(own)
    command = [str(PROGRAM), "--model", str(materialise(SMOLLM2.source, Settings().cache))]
    command += ["--n-trials", str(TRIALS), "--n-startup-trials", str(TRIALS), "--seed", "0"]
    command += ["--batch-size", "32", "--device-map", "cpu", "--study-checkpoint-dir"]
    command += [str(own / f"study-{time.time_ns()}")]
    lines, at, peak, status = _run(command, own)
    (own / "log.txt").write_text("".join(lines), encoding="utf-8")
    try:
        printed = read_log(lines)
    except ValueError:
        return Cost(row=NAME, label=label, failed=reason(lines, status))
    begun = next(t for t, line in zip(at, lines, strict=True) if _BEGINS in line)
    trials = [t for t, line in zip(at, lines, strict=True) if "Running trial" in line]
    ended = [t for t, line in zip(at, lines, strict=True) if "* Refusals:" in line]
    kl, refusals = min(printed.trials, key=lambda trial: trial[1])
    return Cost(
        row=NAME,
        label=label,
        seconds=ended[-1].seconds - begun.seconds,
        core_seconds=ended[-1].core_seconds - begun.core_seconds,
        peak_bytes=peak,
        figures={
            "before": printed.before,
            "prompts": printed.prompts,
            "refusals": refusals,
            "kl": kl,
            "a_trial": (ended[-1].core_seconds - trials[0].core_seconds) / len(ended),
            "before_trials": trials[0].core_seconds - begun.core_seconds,
        },
    )


def _prompts(own: Path) -> None:
    """Its prompts as text files, and its settings."""
    refusal = load_preset("refusal")
    bad = list(dict.fromkeys(prompt_of(item) for item in refusal.undesired))[:LEARNED]
    tested = [prompt.text for prompt in refusal.prompts if prompt.split == "test"][:JUDGED]
    good = [item.prompt for item in neutral_texts()[1]]
    files = {
        "bad_prompts": bad,
        "bad_evaluation_prompts": tested,
        "good_prompts": good[:LEARNED],
        "good_evaluation_prompts": good[LEARNED:],
    }
    config = []
    for name, prompts in files.items():
        path = own / f"{name}.txt"
        path.write_text("\n".join(" ".join(text.split()) for text in prompts), encoding="utf-8")
        config.append(f'[{name}]\ndataset = "{path}"\n')
    (own / "config.toml").write_text("\n".join(config), encoding="utf-8")


def _run(command: Sequence[str], own: Path) -> tuple[list[str], list[Moment], int, int]:
    """Lines with when they came, the most bytes of memory, the exit status."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "PYTHONUNBUFFERED": "1",
    }
    lines: list[str] = []
    at: list[Moment] = []
    peak = 0
    begun = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=own,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        status = Path(f"/proc/{process.pid}/status")
        seen = psutil.Process(process.pid)
        for line in process.stdout:
            lines.append(line)
            times = seen.cpu_times()
            at.append(Moment(time.monotonic(), times.user + times.system))
            if "VmHWM:" in (text := status.read_text()):  # a process that has ended has none
                peak = int(text.split("VmHWM:")[1].split()[0]) * 1024
            if at[-1].seconds - begun > LIMIT_SECONDS:
                process.kill()
        code = process.wait()
    return lines, at, peak, code
