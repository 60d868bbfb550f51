"""`python -m tests.system.chaos`: a fault campaign of any length; 1 when a count is not 0."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.support.s3 import running_s3
from tests.system.chaos.campaign import Plan, run


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--seed", type=int, default=None, help="repeats a run; random if left out"
    )
    arguments.add_argument("--seconds", type=float, default=140, help="of faults, for each store")
    arguments.add_argument("--edits", type=int, default=100, help="for each store")
    arguments.add_argument("--gap", type=float, default=2.0, help="seconds between two faults")
    arguments.add_argument(
        "--patience", type=float, default=300, help="seconds to end all edits in"
    )
    arguments.add_argument("--store", choices=("file", "s3", "both"), default="both")
    given = arguments.parse_args()
    seed = random.randrange(10_000) if given.seed is None else given.seed
    stores = ("file", "s3") if given.store == "both" else (given.store,)
    holds = True
    for store in stores:
        plan = Plan(store, seed, given.seconds, given.edits, given.gap, given.patience)
        print(f"{store}://, seed {seed}: {plan.seconds:.0f} s of faults…", flush=True)
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            if store == "s3":
                with running_s3() as url:
                    outcome = run(plan, Path(folder), url)
            else:
                outcome = run(plan, Path(folder))
        print(outcome.table(), flush=True)
        if not outcome.holds:
            print(outcome.logs)
        holds = holds and outcome.holds
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
