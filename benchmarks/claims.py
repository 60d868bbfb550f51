"""Claims with measured ratios: printed as text or JSON lines, or written to docs/performance.md."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from benchmarks.page import write_section


@dataclass(frozen=True)
class RatioClaim:
    """`ratio` should be at most (`lower`), or at least (`higher`), `goal`."""

    claim: str
    ratio: float
    goal: float
    better: Literal["lower", "higher"]

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.better == "lower" else self.ratio >= self.goal


def parser(description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="print one JSON object a line")
    made.add_argument("--write", action="store_true", help="also write docs/performance.md")
    return made


def report(
    claims: Sequence[RatioClaim], given: argparse.Namespace, section: str, notes: str = ""
) -> int:
    """Print the claims, and with `--write` put them into a section of docs/performance.md.

    Args:
        given: the options of `parser`.
        section: its name.
        notes: Markdown to follow the table.

    Returns:
        The exit status, 0 if all claims are met.
    """
    if given.write:
        write_section(section, f"{_table(claims)}\n\n{notes}")
    as_json = given.json
    for claim in claims:
        if as_json:
            print(json.dumps({**asdict(claim), "met": claim.met}))
        else:
            limit = "at most" if claim.better == "lower" else "at least"
            mark = "met" if claim.met else "NOT MET"
            print(f"{claim.claim}: {claim.ratio:.2f} ({limit} {claim.goal:g}: {mark})")
    return 0 if all(claim.met for claim in claims) else 1


def _table(claims: Sequence[RatioClaim]) -> str:
    rows = ["| claim | ratio | goal |", "|---|---|---|"]
    for claim in claims:
        limit = "at most" if claim.better == "lower" else "at least"
        missed = "" if claim.met else ": missed"
        rows.append(f"| {claim.claim} | {claim.ratio:.2f} | {limit} {claim.goal:g}{missed} |")
    return "\n".join(rows)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of both, run alternately, so that noise affects both alike."""
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    first_seconds, second_seconds = zip(*pairs, strict=True)
    return statistics.median(first_seconds), statistics.median(second_seconds)
