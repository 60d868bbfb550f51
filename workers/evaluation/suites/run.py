"""Open the suites that a request names, and run them on the model without and with an edit."""

from __future__ import annotations

import time
from collections.abc import Sequence

from models_store.operator.suites import Suites, check_suites
from models_store.registry import function
from models_store.schemas.measurements import SuiteResult
from workers import progress
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import RESAMPLES, Bootstrap
from workers.evaluation.suites.protocol import ModelPair, Suite
from workers.runtime.edits.edited_model import EditedModel
from workers.surgery.terms import Term


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
    model: EditedModel,
    terms: Sequence[Term],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[SuiteResult, ...]:
    """Run suites on the model without and with an edit: same items, same random numbers.

    Args:
        model: without the edit.
        terms: the edit at strength 1.

    Raises:
        InvalidRequest: a suite is not configured here, its data are missing or wrong, or its items
            do not fit the model.
    """
    pair = ModelPair(
        before=model,
        after=model.plus(terms),
        seed=seed,
        bootstrap=Bootstrap(derive(seed, "suites"), resamples),
    )
    results = []
    for name, suite in progress.track(list(open_suites(names, config).items())):
        started = time.monotonic()
        metrics = suite.run(pair)
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
