"""Fail if the pinned dependencies have known vulnerabilities.

Where the index has no list of vulnerabilities, such as behind a mirror, nothing is checked and the
reason is printed; `OSV_URL` names another list, such as https://api.osv.dev/v1/query. What cannot
be fixed yet is in `audit-ignore.txt`, one per line: the id, then the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

_FOLDER = Path(__file__).parent
_PROBE = "https://pypi.org/pypi/pip/20.0/json"
"""A version with known vulnerabilities."""
_SECONDS = 10


def main() -> int:
    osv = os.environ.get("OSV_URL") or None
    missing = why_not() if osv is None else None
    if missing is not None:
        print(f"pip-audit: SKIPPED, {missing}: dependencies were not checked on this machine")
        return 0
    ignored = read_ignored(_FOLDER / "audit-ignore.txt")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"),
            *("--disable-pip", "--no-deps", "--timeout", str(_SECONDS)),
            *(("--vulnerability-service", "osv", "--osv-url", osv) if osv is not None else ()),
            *("-r", str(_FOLDER.parent / "constraints.txt")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        why = done.stderr.strip().splitlines()[-1:]
        print(f"pip-audit: {'SKIPPED' if osv is None else 'FAILED'}, it broke off: {why}")
        return 0 if osv is None else 1
    vulnerable = [
        f"{pin['name']} {pin['version']}: {flaw['id']}, fixed in {flaw['fix_versions'] or 'none'}"
        for pin in report["dependencies"]
        for flaw in pin.get("vulns", ())
        if not ignored.keys() & {flaw["id"], *flaw["aliases"]}
    ]
    for line in vulnerable:
        print(f"pip-audit: {line}")
    print(f"pip-audit: {len(report['dependencies'])} pins, {len(vulnerable)} known vulnerabilities")
    return 1 if vulnerable else 0


def why_not() -> str | None:
    """Why vulnerabilities cannot be looked up; None if they can."""
    try:
        with urllib.request.urlopen(_PROBE, timeout=_SECONDS) as response:
            vulnerabilities = json.load(response).get("vulnerabilities")
    except (OSError, ValueError) as error:
        return f"{_PROBE} cannot be read ({error})"
    return None if vulnerabilities else f"{_PROBE} has no vulnerabilities"


def read_ignored(path: Path) -> dict[str, str]:
    """The reason by ignored id.

    Raises:
        ValueError: an id has no reason.
    """
    ignored = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            id, _, reason = line.partition(" ")
            if not reason.strip():
                raise ValueError(f"{path.name}: {id} has no reason")
            ignored[id] = reason.strip()
    return ignored


if __name__ == "__main__":
    sys.exit(main())
