"""What an edit would take, without making it."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from app.domain.edits.past import past_costs
from app.domain.edits.requests import EditBody
from app.request.auth import Principal, Writer
from app.request.strict_input.json_body import JsonRoute, bounded
from app.services import Services, ServicesDep
from models_store.schemas.estimates import Estimate, EstimateRequest
from models_store.schemas.report import Remark

router = APIRouter(prefix="/v1/edits", tags=["edits"], route_class=JsonRoute)


@router.post("/estimate", summary="Estimate an edit")
@bounded("estimates")
async def estimate_edit(body: EditBody, services: ServicesDep, who: Writer) -> Estimate:
    """Time and memory of the edit, and how separable its texts are. The body is that of `POST
    /v1/edits`; nothing is queued. A generator reads up to 200 texts of each side, which takes some
    seconds."""
    request, warnings = await run_in_threadpool(_prepare, body, services, who)
    estimate = await services.generators.call(
        "/internal/estimate", request.base_model, request, Estimate
    )
    return estimate.model_copy(update={"warnings": (*warnings, *estimate.warnings)})


def _prepare(
    body: EditBody, services: Services, who: Principal
) -> tuple[EstimateRequest, tuple[Remark, ...]]:
    """What the generator is asked, and what can be said of harm without it."""
    examined = services.store.submission.examine(who.tenant, who.actor, body)
    base, resolved = examined.base, examined.resolved
    fingerprint = base.facts.fingerprint
    request = EstimateRequest(
        base_model=base.id,
        base_fingerprint=fingerprint,
        source=base.spec.source,
        on_top_of=examined.on_top_of,
        behavior=resolved.behavior,
        ref=resolved.ref,
        in_place=not isinstance(body.behavior, str),
        preserve=body.preserve,
        method=body.method,
        effort=body.effort,
        seed=body.seed,
        past=past_costs(
            services.store.work,
            who.tenant,
            fingerprint,
            body.method,
            body.effort,
            makes_texts=resolved.behavior.lacks_texts,
        ),
    )
    return request, examined.warnings
