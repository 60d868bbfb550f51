"""The built-in engine against a vLLM server for CPUs, on SmolLM2: one thread and dtype for both.

    SCALPEL_VLLM_PYTHON=.venv-vllm/bin/python python -m benchmarks.serving.vllm

Tokens a second of 8 and 32 requests at a time, of the base model and of four mixes of edits, each
pair alternately. vLLM is used over HTTP, as by a generator.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import torch

from benchmarks.claims import RatioClaim, interleaved, parser, report
from benchmarks.edit_cost import load
from benchmarks.serving.engine import decode, edits_of, prompt_of
from benchmarks.serving.vllm_server import MAX_LORAS, PYTHON, vllm_server
from workers.generator.vllm.adapters import Adapters
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

TOKENS = 32
REPEATS = 3


async def register(
    url: str, folder: Path, base: LoadedModel, mixes: Sequence[Mixture]
) -> list[str]:
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
        adapters = Adapters(http, folder, MAX_LORAS)
        return [await adapters.acquire(base, mix) for mix in mixes]


async def complete(url: str, models: Sequence[str], prompts: Sequence[list[int]]) -> None:
    """Complete all prompts at the same time, with `TOKENS` tokens each."""

    async def post(http: httpx.AsyncClient, model: str, prompt: list[int]) -> None:
        body = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
        response = await http.post("/v1/completions", json={**body, "ignore_eos": True})
        response.raise_for_status()

    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as http:
        pairs = zip(models, prompts, strict=True)
        await asyncio.gather(*(post(http, model, prompt) for model, prompt in pairs))


def measure(url: str, folder: Path, base: LoadedModel) -> list[RatioClaim]:
    dice, side, edits = random.Random(0), SidePath(base), edits_of(base, 8)
    mixes: list[Mixture] = [
        [(edit, dice.uniform(-1, 1)) for edit in dice.sample(edits, 2)] for _ in range(MAX_LORAS)
    ]
    names = asyncio.run(register(url, folder, base, mixes))
    claims = []
    for rows in (8, 32):
        for what, models, mixtures in (
            ("the base model", ["base"] * rows, [()] * rows),
            (
                "four mixes of edits",
                [names[row % MAX_LORAS] for row in range(rows)],
                [mixes[row % MAX_LORAS] for row in range(rows)],
            ),
        ):
            # New prompts each time, since vLLM caches prefixes.
            def ours(mixtures: Sequence[Mixture] = mixtures, rows: int = rows) -> None:
                decode(base, side, [prompt_of(base, dice) for _ in range(rows)], mixtures, TOKENS)

            def theirs(models: Sequence[str] = models, rows: int = rows) -> None:
                prompts = [prompt_of(base, dice) for _ in range(rows)]
                asyncio.run(complete(url, models, prompts))

            ours()
            theirs()
            mine, other = interleaved(ours, theirs, REPEATS)
            claim = f"engine against vLLM, {rows} requests of {what}"
            claims.append(RatioClaim(claim, other / mine, 1.0, "higher"))
    return claims


def main() -> int:
    given = parser(__doc__ or "").parse_args()
    python = os.environ.get(PYTHON)
    if not python:
        print(f"serving.vllm: skipped, {PYTHON} names no interpreter with vLLM", file=sys.stderr)
        return 0
    base = load()
    torch.set_num_threads(1)
    dtype = str(base.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "vllm.log"
        with vllm_server(python, base.folder, dtype, log) as url:
            claims = measure(url, Path(folder), base)
    return report(claims, given, "serving.vllm")


if __name__ == "__main__":
    sys.exit(main())
