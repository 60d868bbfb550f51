"""The comparison in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.beside.heretic import DEFAULT_TRIALS, NAME
from benchmarks.beside.measuring import EQUAL
from benchmarks.beside.rows import Cost
from benchmarks.quality.rows import BASE, ArmRow
from models_store.schemas.measurements import Interval
from models_store.schemas.methods import Limits
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.statistics import Bootstrap, Groups

UNIT = "bare"
_LIMITS = {
    "max_kl": "KL",
    "max_perplexity_ratio": "perplexity",
    "max_domain": "domain",
    "max_fluency": "fluency",
}


def costs_table(costs: Mapping[str, Cost], order: Sequence[str]) -> str:
    """Time, memory and size by row; a bare pass is the unit of time.

    Args:
        order: names of rows; those without costs are left out.
    """
    unit = costs[UNIT].core_seconds
    assert unit is not None
    heads = ["processes", "seconds", "core-seconds", "× bare", "peak memory, MB", "stored, kB"]
    cells = [["", *heads]]
    cells.append(["---"] * len(cells[0]))
    for name in order:
        if name not in costs:
            continue
        cost = costs[name]
        if cost.core_seconds is None:
            cells.append([cost.label, f"not run: {cost.failed}", *[""] * 5])
            continue
        cells.append(
            [
                cost.label,
                str(cost.processes),
                f"{cost.seconds:.0f}",
                f"{cost.core_seconds:.0f}",
                f"{cost.core_seconds / unit:.1f}",
                "" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:,.0f}",
                "" if cost.stored_bytes is None else f"{cost.stored_bytes / 1e3:,.0f}",
            ]
        )
    return _rendered(cells)


def effects_table(
    rows: Sequence[ArmRow],
    costs: Mapping[str, Cost],
    order: Sequence[str],
    groups: Groups,
    *,
    equal: bool,
) -> str:
    """Change of the rate by every scorer, and damage, of arms as they are or at the common KL.

    Args:
        order: names of rows.
        groups: of the prompts, those of one template together.
    """
    arms = {row.arm: row for row in rows}
    base = arms[BASE]
    (sheet,) = base.sheets
    scorers = list(base.sheets[sheet].scorers)
    cells = [["", *(f"`{name}`, points" for name in scorers), "KL", "perplexity ×", "domain"]]
    cells[0] += ["fluency", "beyond the default limit of"]
    cells.append(["---"] * len(cells[0]))
    for name in order:
        row = arms.get(name + EQUAL if equal else name)
        if row is None:
            continue
        if row.failed is not None:
            cells.append([costs[name].label, f"not measured: {row.failed}", *[""] * 6])
            continue
        harm = row.harm
        point = harm.point()
        cells.append(
            [
                costs[name].label,
                *(points(fall(base, row, sheet, scorer, groups)) for scorer in scorers),
                f"{point.kl:.3g}",
                f"{harm.perplexity_ratio:.3f}",
                _signed(harm.domain),
                _signed(harm.fluency),
                ", ".join(_LIMITS[limit] for limit in exceeded(Limits(), point)),
            ]
        )
    return _rendered(cells)


def fall(base: ArmRow, row: ArmRow, sheet: str, scorer: str, groups: Groups) -> Interval:
    """Change of the rate of undesired text, paired by prompt.

    Raises:
        ValueError: they are not of the same prompts.
    """
    if base.sheets[sheet].prompts != row.sheets[sheet].prompts:
        raise ValueError(f"{row.arm} was measured on other prompts than the base")
    before, after = (
        np.array(arm.sheets[sheet].scorers[scorer].rate, dtype=np.float64) for arm in (base, row)
    )
    return Bootstrap(0).mean(after - before, groups)


def points(change: Interval) -> str:
    value, low, high = (100 * x for x in (change.value, change.low, change.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def base_line(rows: Sequence[ArmRow]) -> str:
    """Rates of the base model, in words."""
    base = next(row for row in rows if row.arm == BASE)
    (sheet,) = base.sheets.values()
    shares = [f"{100 * np.mean(v.rate):.1f} % by `{n}`" for n, v in sheet.scorers.items()]
    return f"{len(sheet.prompts)} prompts, undesired without an edit: {', '.join(shares)}."


def missing_line(
    names: Sequence[str], costs: Mapping[str, Cost], arms: Sequence[str], measured: Sequence[str]
) -> str:
    """What the run that was written did not come to."""
    costless = [f"`{name}`" for name in names if name not in costs]
    effectless = [f"`{arm}`" for arm in arms if arm not in measured]
    parts = [
        f"{what} of {', '.join(which)}"
        for what, which in (("the cost", costless), ("effect and damage", effectless))
        if which
    ]
    return f"Not measured in this run: {'; '.join(parts)}." if parts else ""


def fitting_line(costs: Mapping[str, Cost]) -> str:
    """How much of the time of fitted and scaled edits is fitting."""
    parts = [
        f"{cost.figures['fitting']:.0f} of {cost.core_seconds:.0f} core-seconds of `{name}`"
        for name, cost in costs.items()
        if "fitting" in cost.figures
    ]
    if not parts:
        return ""
    return (
        f"Fitting takes {', '.join(parts)}; the rest is scaling to a KL, which the official "
        "procedure and LoRA, timed without it, would need as well."
    )


def heretic_line(costs: Mapping[str, Cost]) -> str:
    """What heretic said of its own result, and what its default number of trials would take."""
    cost = costs.get(NAME)
    if cost is None or cost.seconds is None:
        return ""
    figures = cost.figures
    whole = figures["before_trials"] + DEFAULT_TRIALS * figures["a_trial"]
    return (
        f"`heretic-llm` takes {figures['a_trial']:.0f} core-seconds a trial, so about "
        f"{whole / 60:,.0f} core-minutes for its {DEFAULT_TRIALS}. By its own count the base "
        f"refuses {figures['before']:.0f} of {figures['prompts']:.0f} prompts and the best trial "
        f"{figures['refusals']:.0f}, at a KL of {figures['kl']:.3f} of the first token; it is "
        "another behaviour, so it has no row among the effects."
    )


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _rendered(cells: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
