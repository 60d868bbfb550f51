"""What earlier edits like a new one took: an estimate is from them, where there are any."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from math import prod

from models_store.errors import CorruptArtifact, NewerRecord, NotFound
from models_store.objects.versions import parse_stored
from models_store.schemas.estimates import PastCost
from models_store.schemas.methods import Effort, Method
from models_store.schemas.records import EditSettings
from models_store.schemas.report import SECOND_LOOK, Report
from models_store.work.store import WorkStore

_LOOKED_AT = 20
_MOST = 3


def past_costs(
    work: WorkStore,
    tenant: str,
    base_fingerprint: str,
    method: Method,
    effort: Effort,
    *,
    makes_texts: bool = False,
) -> tuple[PastCost, ...]:
    """Of the tenant's newest edits with the same base model, type of method and effort.

    Args:
        makes_texts: whether the edit makes its texts, as these must have then.
    """
    costs = []
    for edit in islice(work.walk("edit", tenant), _LOOKED_AT):
        settings = edit.request.settings
        assert isinstance(settings, EditSettings)
        report = edit.result.artifact("report") if edit.result is not None else None
        alike = (
            edit.request.base_fingerprint,
            settings.method.type,
            settings.effort,
            edit.result is not None and edit.result.artifact("texts") is not None,
        ) == (base_fingerprint, method.type, effort, makes_texts)
        if report is None or not alike:
            continue
        with suppress(NotFound, CorruptArtifact):  # deleted meanwhile, or damaged
            costs.append(_cost(work.read_artifact(report.path, report.sha256)))
    return tuple(cost for cost in costs if cost is not None)[:_MOST]


def _cost(data: bytes) -> PastCost | None:
    """Of a receipt; None where nothing was tested."""
    try:
        report = parse_stored(Report, data, "a past receipt")
    except (CorruptArtifact, NewerRecord):
        return None
    cost, splits, decoding = report.cost, report.splits, report.provenance.decoding
    if "split" in decoding:
        return None
    stages = dict(cost.stages)
    for rare in ("suites", "second_look"):
        stages["evaluate"] = stages.get("evaluate", 0.0) - cost.evaluation.get(rare, 0.0)
    numbers = (decoding[name] for name in ("prompts", "samples", "max_new_tokens"))
    return PastCost(
        stages=stages,
        texts=sum(
            (
                splits.fit_undesired,
                splits.fit_desired,
                splits.heldout_undesired,
                splits.heldout_desired,
            )
        ),
        generated=prod(number for number in numbers if isinstance(number, int))
        // (SECOND_LOOK if report.verdict.looks == 2 else 1),
        device=cost.device,
        dtype=cost.dtype,
        cpu_capability=cost.cpu_capability,
    )
