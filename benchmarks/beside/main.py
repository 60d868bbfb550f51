"""Scalpel beside the official procedure of Model Surgery, LoRA fine-tuning and heretic-llm.

    make beside
    python -m benchmarks.beside.main --step make --rows bare,lora_1

Every row is made in a process of its own, timed without loading and after a first small pass; then
all edits are measured by the same meters on the same prompts with the same random numbers, as they
are and scaled to one KL. What was made and measured is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.beside import heretic
from benchmarks.beside.making import (
    BEHAVIOR,
    KL,
    OPTIONS,
    ROWS,
    behavior,
    load_fp32,
    make,
    splits_of,
)
from benchmarks.beside.measuring import Measuring, arms_of
from benchmarks.beside.rows import CostFile
from benchmarks.beside.table import (
    base_line,
    costs_table,
    effects_table,
    fitting_line,
    heretic_line,
    missing_line,
)
from benchmarks.page import write_section
from benchmarks.paper.edits import log
from benchmarks.quality.rows import RowFile
from workers.evaluation.statistics import groups_of

NAMES = (*ROWS, heretic.NAME)
STEPS = ("make", "measure", "table")
SECTION = "beside"


def make_rows(names: Sequence[str], folder: Path) -> None:
    """Make rows that are not there, each in a process of its own."""
    there = CostFile(folder / "costs.jsonl").rows
    for name in names:
        if name not in there:
            log(f"making {name}")
            command = [sys.executable, "-m", "benchmarks.beside.main", "--alone", name]
            subprocess.run([*command, "--out", str(folder)], check=True)


def make_alone(name: str, folder: Path) -> None:
    """Make a row in this process."""
    cost = heretic.make(folder) if name == heretic.NAME else make(name, folder)
    CostFile(folder / "costs.jsonl").append(cost)


def page(folder: Path) -> str:
    """The section of docs/performance.md."""
    costs = CostFile(folder / "costs.jsonl").rows
    rows = RowFile(folder / "rows.jsonl").rows
    splits = splits_of(behavior())
    groups = groups_of(splits.test[: OPTIONS.prompts])
    fit = splits.fit
    parts = [
        f"`make beside`: SmolLM2-135M-Instruct in fp32, preset `{BEHAVIOR}`, fitted on {len(fit)} "
        f"texts (LoRA on the {len(fit.desired)} desired ones). Each row is one run in a process of "
        "its own, timed without loading. Training goes batch by batch, so it has one process of "
        "one thread; core-seconds are comparable all the same. Memory is resident, of all "
        "processes.",
        costs_table(costs, NAMES),
        missing_line(NAMES, costs, arms_of(NAMES), [row.arm for row in rows]),
        fitting_line(costs),
        heretic_line(costs),
    ]
    if len(rows) > 1:
        parts += [
            f"Effect and damage: {base_line(rows)} {OPTIONS.samples} sample of each; changes in "
            "points with 95 % intervals, damage in nats a token beside perplexity. As they are:",
            effects_table(rows, costs, NAMES, groups, equal=False),
            f"Scaled to a KL of {KL} on neutral text, LoRA by its scaling factor:",
            effects_table(rows, costs, NAMES, groups, equal=True),
        ]
    return "\n\n".join(part for part in parts if part)


def _words(value: str) -> list[str]:
    return [word for word in value.replace(",", " ").split() if word]


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rows", type=_words, default=list(NAMES), help=f"of {', '.join(NAMES)}")
    options.add_argument("--step", choices=STEPS, help="only this one of the steps")
    options.add_argument("--out", type=Path, default=Path(".beside"), help="folder of the rows")
    options.add_argument("--write", action="store_true", help="also write docs/performance.md")
    options.add_argument("--alone", choices=NAMES, help="used by the script itself")
    given = options.parse_args(arguments)
    if given.alone:
        make_alone(given.alone, given.out)
        return 0
    wrong = [name for name in given.rows if name not in NAMES]
    if wrong:
        options.error(f"no row {wrong[0]!r}; there are {', '.join(NAMES)}")
    if given.step in (None, "make"):
        make_rows(given.rows, given.out)
    if given.step in (None, "measure"):
        file = RowFile(given.out / "rows.jsonl")
        file.require(OPTIONS)
        costs = CostFile(given.out / "costs.jsonl").rows
        edits = [name for name in given.rows if name in costs]
        Measuring(load_fp32(shared=True), given.out).add(arms_of(edits), file)
    if given.step in (None, "table"):
        text = page(given.out)
        print(text)
        if given.write:
            write_section(SECTION, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
