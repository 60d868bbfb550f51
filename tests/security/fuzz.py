"""`make fuzz`: campaigns with one seed after the other, until there were enough cases."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.security.fuzzing import run_campaign
from tests.security.target import running_target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first campaign")
    parser.add_argument("--examples", type=int, default=100, help="an operation and campaign")
    asked = parser.parse_args()
    cases, seed, began = 0, asked.seed, time.monotonic()
    while cases < asked.cases:
        auth = "keys" if seed % 2 else "none"
        with tempfile.TemporaryDirectory() as name, running_target(Path(name), auth) as target:
            done = run_campaign(
                target, Path(name), examples=asked.examples, seed=seed, timeout=3600
            )
            log = target.said()
        cases += done.cases
        print(
            f"seed {seed}, auth {auth}: {done.cases} cases, {cases} in all, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        if not done.passed or "Traceback" in log:
            print(done.output, log[-20_000:], sep="\n")
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
