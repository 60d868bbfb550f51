"""How costs grow, as exponents of fitted power laws.

    python -m benchmarks.scaling.main [--parts texts edits] [--seconds 150] [--write]

measures every part, in points that are added to `.scaling/{part}.jsonl` as they are made; an
interrupted run is continued. Then the claims are made from all points that are there, and with
`--write` the section `scaling` of docs/performance.md with its pictures.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from benchmarks.claims import parser, report
from benchmarks.scaling.page import claims, measured, section, write_pictures
from benchmarks.scaling.parts import PARTS
from benchmarks.scaling.points import PointFile


def measure(names: Sequence[str], seconds: float) -> None:
    """Measure what is missing; begin no other point after so many seconds."""
    limit = time.monotonic() + seconds
    for name in names:
        file = PointFile(name)
        for point in PARTS[name].measure(file):
            file.append(point)
            print(f"{name}: {point.series}, {point.size:,.0f}: {point.seconds:.4g} s", flush=True)
            if time.monotonic() > limit:
                return


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    options.add_argument(
        "--seconds", type=float, default=float("inf"), help="begin no other point after these"
    )
    given = options.parse_args()
    measure(given.parts, given.seconds)
    parts = [measured(name) for name in PARTS]
    if given.write:
        write_pictures(parts)
    return report(claims(parts), given, "scaling", section(parts))


if __name__ == "__main__":
    sys.exit(main())
