"""The standard suites, a file each, on the operator's data: see `models_store.operator.suites`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from models_store.operator.suites import Suites, check_suites
from models_store.registry import function
from models_store.schemas.measurements import SuiteResult
from workers.evaluation.progress import Progress
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import RESAMPLES, Bootstrap
from workers.evaluation.suites.protocol import Pair, Suite, within
from workers.runtime.loading import BaseModel
from workers.runtime.side_path import SidePath
from workers.surgery.terms import Mixture, Term


def open_suites(names: Sequence[str], config: Suites) -> dict[str, Suite]:
    """Read and check all data of the named suites, which takes a second or two.

    An edit does so before it begins: a wrong line must not cost it its work.

    Raises:
        InvalidRequest: a suite is not configured here, or its data are missing or wrong.
    """
    check_suites(tuple(names), config.tables)
    tables = {name: config.tables[name] for name in names}
    return {name: function(table.opens)(table, config) for name, table in tables.items()}


def run_suites(
    names: Sequence[str],
    config: Suites,
    base: BaseModel,
    on_top: Mixture,
    terms: Sequence[Term],
    *,
    seed: int,
    side: SidePath,
    progress: Progress,
    resamples: int = RESAMPLES,
) -> tuple[SuiteResult, ...]:
    """Run suites on the model without and with an edit: same items, same random numbers.

    Args:
        on_top: edits that are on both models.
        terms: the edit at strength 1.

    Raises:
        InvalidRequest: a suite is not configured here, its data are missing or wrong, or its items
            do not fit the model.
    """
    pair = Pair(
        base=base,
        before=on_top,
        after=[*on_top, (terms, 1.0)],
        side=side,
        seed=seed,
        bootstrap=Bootstrap(derive(seed, "suites"), resamples),
    )
    results = []
    for number, (name, suite) in enumerate(open_suites(names, config).items()):
        started = time.monotonic()
        metrics = suite.run(pair, within(progress, number / len(names), (number + 1) / len(names)))
        results.append(
            SuiteResult(
                name=name,
                protocol=suite.protocol,
                data=suite.data,
                metrics=metrics,
                seconds=time.monotonic() - started,
            )
        )
    return tuple(results)


__all__ = ["Suite", "open_suites", "run_suites"]
