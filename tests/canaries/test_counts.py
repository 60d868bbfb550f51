"""Servers in which something is wrong are told from those that run the export, over real HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from app.domain.canaries.asking import CanaryCheck, check
from models_store.schemas.canary import Canary
from tests.canaries.cases import FAILURES, GOOD, Export
from tests.canaries.server import Style, running_server

STYLES: Sequence[Style] = get_args(Style)
FIRST_SEED = 100


def ask(canary: Canary, url: str) -> CanaryCheck:
    async def asked() -> CanaryCheck:
        async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:

            async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
                response = await http.post(url + path, json=body)
                return response.status_code, response.content

            return await check(canary, "served", post)

    return asyncio.run(asked())


def outcomes(
    folder: Path, makers: Sequence[tuple[str, Callable[[Export], Any]]], count: int
) -> Counter[tuple[str, str]]:
    """How often each kind of server was found to be what, each in every style in turn."""
    found: Counter[tuple[str, str]] = Counter()
    exports: dict[int, Export] = {}
    with running_server() as server:
        for number in range(count):
            kind, make = makers[number % len(makers)]
            seed = FIRST_SEED + number // len(makers)
            export = exports.setdefault(seed, Export(folder, seed))
            style = STYLES[number % len(STYLES)]
            server.models = {"served": replace(export.served(make(export)), style=style)}
            got = ask(export.canary, server.url)
            found[kind, got.outcome] += 1
            if got.by is not None:
                assert (got.by == "texts") == style.endswith("texts")
    print(*(f"{kind}: {outcome}: {times}" for (kind, outcome), times in found.items()), sep="\n")
    return found


@pytest.mark.parametrize(
    "count", [len(FAILURES), pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_no_failure_is_missed(tmp_path: Path, count: int) -> None:
    makers = [(kind, make) for kind, (make, _) in FAILURES.items()]
    found = outcomes(tmp_path, makers, count)

    assert found.total() == count
    missed = {kind: times for (kind, outcome), times in found.items() if outcome == "applied"}
    assert missed == {}
    rightly = sum(found[kind, outcome] for kind, (_, outcome) in FAILURES.items())
    assert rightly >= 0.9 * count


@pytest.mark.parametrize(
    "count", [len(GOOD), pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)
def test_no_server_that_runs_the_export_is_alarmed_about(tmp_path: Path, count: int) -> None:
    found = outcomes(tmp_path, [*GOOD.items()], count)

    assert found == {(kind, "applied"): found[kind, "applied"] for kind in GOOD}
    assert found.total() == count
