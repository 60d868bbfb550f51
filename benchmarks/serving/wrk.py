"""Requests from `wrk` (https://github.com/wg/wrk), and what it says of the responses."""

from __future__ import annotations

import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "wrk"
_SCRIPT = """
local method, body, key
local paths = {}
local count = 0
function init(args)
    method, body, key = args[1], args[2], args[3]
    for index = 4, #args do paths[#paths + 1] = args[index] end
    if body ~= "" then wrk.headers["Content-Type"] = "application/json" end
end
function request()
    count = count + 1
    if key ~= "" then wrk.headers["Idempotency-Key"] = key .. count end
    return wrk.format(method, paths[count % #paths + 1], wrk.headers, body)
end
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\\n{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\\n',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Call:
    """A request that is sent again and again."""

    method: str
    paths: tuple[str, ...]
    """One after the other."""
    body: str = ""
    keyed: bool = False
    """Whether each has an `Idempotency-Key` of its own."""


@dataclass(frozen=True)
class Speed:
    """How fast requests were answered."""

    per_second: float
    p50: float
    """Milliseconds, like `p99`."""
    p99: float


def measure(url: str, call: Call, folder: Path, *, connections: int, seconds: int) -> Speed:
    """Send the call over so many connections for so many seconds.

    Raises:
        AssertionError: a response was an error, or did not come.
    """
    script = folder / "wrk.lua"
    script.write_text(_SCRIPT)
    key = secrets.token_hex(6) if call.keyed else ""
    done = subprocess.run(
        [
            *(PROGRAM, "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--timeout", "10s", "--script", str(script)),
            *(url, "--", call.method, call.body, key, *call.paths),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["errors"] == 0, f"{call.method} {call.paths[0]} had errors:\n{done.stdout}"
    return Speed(said["requests"] / said["seconds"], said["p50"], said["p99"])
