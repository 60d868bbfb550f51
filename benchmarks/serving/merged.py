"""The cost of merging edits into a model's files, on a made-up file of 2 GB of which they touch
four tensors: ratios, each measured in one run.

- speed to that of `cp` of the same file;
- growth of memory at its peak to 200 MB, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.claims import RatioClaim, parser, report, seconds
from benchmarks.memory import peak_resident
from models_store.weights.architectures import DOWN, GATE, MatrixKey, architecture_for
from workers.runtime.merging import merge
from workers.surgery.terms import Mixture, make_term

HIDDEN, INTERMEDIATE, VOCABULARY = 2048, 8192, 32000
LAYERS = 16
CONFIG = {"model_type": "llama", "num_hidden_layers": LAYERS}
MEMORY_BYTES = 200 * 10**6


def shapes() -> dict[str, tuple[int, int]]:
    """Those of a Llama of a billion parameters."""
    made = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("gate_proj", "up_proj"):
            made[f"{prefix}.mlp.{name}.weight"] = (INTERMEDIATE, HIDDEN)
        made[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        for name in ("q_proj", "o_proj"):
            made[f"{prefix}.self_attn.{name}.weight"] = (HIDDEN, HIDDEN)
    return made


def make_model(folder: Path) -> None:
    """Write the file a tensor at a time."""
    header, offset = {}, 0
    for name, (rows, columns) in shapes().items():
        size = 2 * rows * columns
        header[name] = {
            "dtype": "BF16",
            "shape": [rows, columns],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    generator = torch.Generator().manual_seed(0)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        for rows, columns in shapes().values():
            values = torch.randn(rows, columns, generator=generator).bfloat16()
            stream.write(values.view(torch.int16).numpy().tobytes())
    (folder / "config.json").write_text(json.dumps(CONFIG))


def mixture() -> Mixture:
    """Two edits that touch every row of two gates and of two down projections."""
    edits = []
    for layer in (1, 2):
        gate = make_term(
            MatrixKey(layer, GATE),
            torch.randn(HIDDEN),
            torch.arange(INTERMEDIATE),
            torch.randn(INTERMEDIATE),
        )
        down = make_term(
            MatrixKey(layer, DOWN),
            torch.randn(INTERMEDIATE),
            torch.arange(HIDDEN),
            torch.randn(HIDDEN),
        )
        edits.append(([gate, down], 0.5 * layer))
    return edits


def merge_seconds(folder: Path, edits: Mixture) -> float:
    with emptied(folder.parent / "merged") as target:
        return seconds(lambda: merge(folder, architecture_for(CONFIG), edits, target))


def copy_seconds(folder: Path) -> float:
    with emptied(folder.parent / "copy") as target:
        return seconds(lambda: subprocess.run(["cp", "-r", folder, target], check=True))


@contextmanager
def emptied(target: Path) -> Iterator[Path]:
    """A place where nothing is, before and after; what others wrote is on the disk by then."""
    os.sync()
    try:
        yield target
    finally:
        shutil.rmtree(target)


def growth(folder: Path) -> int:
    """Bytes by which memory grows while edits are merged; in a process that did nothing before."""
    edits = mixture()
    before = peak_resident()
    merge_seconds(folder, edits)
    return peak_resident() - before


def measured_growth(folder: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.serving.merged", "--growth", str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--growth", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.growth is not None:
        print(growth(given.growth))
        return 0
    torch.set_num_threads(1)  # as in an editor on a CPU
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "base"
        folder.mkdir()
        make_model(folder)
        pairs = [
            (merge_seconds(folder, mixture()), copy_seconds(folder)) for _ in range(given.repeats)
        ]
        ours, cp = (statistics.median(times) for times in zip(*pairs, strict=True))
        memory = measured_growth(folder)
    claims = [
        RatioClaim("speed of merging to that of cp", cp / ours, 0.7, "higher"),
        RatioClaim("growth of memory to 200 MB", memory / MEMORY_BYTES, 1.0, "lower"),
    ]
    return report(claims, given, "serving.merged")


if __name__ == "__main__":
    sys.exit(main())
