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
from tests.canaries.cases import FAILURES, GOOD, Export, base_beside
from tests.canaries.server import Style, running_server

STYLES: Sequence[Style] = get_args(Style)
FIRST_SEED = 100


def ask(
    canary: Canary, url: str, base_model: str | None = None, *, model: str = "served"
) -> CanaryCheck:
    async def asked() -> CanaryCheck:
        async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:

            async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
                response = await http.post(url + path, json=body)
                return response.status_code, response.content

            return await check(canary, model, post, base_model)

    return asyncio.run(asked())


def outcomes(
    folder: Path,
    makers: Sequence[tuple[str, Callable[[Export], Any]]],
    count: int,
    *,
    beside: bool = False,
) -> Counter[tuple[str, str]]:
    """How often each kind of server was found to be what, each in every style in turn.

    Args:
        beside: the server's base model is named as well, and log-probabilities are given.
    """
    styles = [style for style in STYLES if not (beside and style.endswith("texts"))]
    found: Counter[tuple[str, str]] = Counter()
    exports: dict[int, Export] = {}
    with running_server() as server:
        for number in range(count):
            kind, make = makers[number % len(makers)]
            seed = FIRST_SEED + number // len(makers)
            export = exports.setdefault(seed, Export(folder, seed))
            style = styles[number % len(styles)]
            server.models = {"served": replace(export.served(make(export)), style=style)}
            if beside:
                base = export.served(base_beside(export, kind))
                server.models["base"] = replace(base, style=style)
            got = ask(export.canary, server.url, "base" if beside else None)
            found[kind, got.outcome] += 1
            if got.by is not None:
                assert (got.by == "texts") == style.endswith("texts")
    print(*(f"{kind}: {outcome}: {times}" for (kind, outcome), times in found.items()), sep="\n")
    return found


def counts(few: int) -> pytest.MarkDecorator:
    many = pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(1800)])
    return pytest.mark.parametrize("count", [few, many])


@counts(len(FAILURES))
@pytest.mark.parametrize("beside", [False, True])
def test_no_failure_is_missed(tmp_path: Path, count: int, beside: bool) -> None:
    makers = [(kind, make) for kind, (make, _) in FAILURES.items()]
    found = outcomes(tmp_path, makers, count, beside=beside)

    assert found.total() == count
    missed = {kind: times for (kind, outcome), times in found.items() if outcome == "applied"}
    assert missed == {}
    rightly = sum(found[kind, each] for kind, (_, may) in FAILURES.items() for each in may)
    assert rightly >= 0.9 * count


@counts(len(GOOD))
@pytest.mark.parametrize("beside", [False, True])
def test_no_server_that_runs_the_export_is_alarmed_about(
    tmp_path: Path, count: int, beside: bool
) -> None:
    found = outcomes(tmp_path, [*GOOD.items()], count, beside=beside)

    assert found.total() == count
    coarse = {outcome: times for (kind, outcome), times in found.items() if kind == "4 bits"}
    assert coarse.keys() <= {"applied", "undecided"}
    fine = {(kind, outcome) for kind, outcome in found if kind != "4 bits"}
    assert fine == {(kind, "applied") for kind in GOOD if kind != "4 bits"}
    if beside:
        assert coarse["applied"] >= 0.8 * sum(coarse.values())
