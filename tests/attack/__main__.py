"""`python -m tests.attack`: every flood for a minute; 1 where another tenant suffers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.attack.floods import ATTACKS
from tests.attack.scene import scene
from tests.attack.victim import run


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60, help="of each flood")
    arguments.add_argument("--only", help="the name of one flood")
    given = arguments.parse_args()
    holds = True
    for attack in ATTACKS:
        if given.only not in (None, attack.name):
            continue
        with (
            tempfile.TemporaryDirectory(prefix="attack-") as folder,
            scene(Path(folder), attack) as there,
        ):
            outcome = run(attack, there, given.seconds)
        print(f"{'holds' if outcome.holds else 'FAILS'}  {outcome}", flush=True)
        holds = holds and outcome.holds
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
