"""A behaviour from one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from app.completions.draft_writers import writer_for
from app.domain.behaviors import drafts
from app.domain.behaviors.drafts import Draft, DraftBody, Judged, Reason, ResponsePair
from app.request.auth import Caller
from app.request.strict_input.json_body import JsonRoute, bounded
from app.services import Services, ServicesDep
from models_store.errors import Unavailable
from models_store.schemas.estimates import Distinction, ProbeRequest, ProbeScores
from models_store.work.base_models import ReadyBase

router = APIRouter(
    prefix="/v1/behaviors", tags=["behaviors"], route_class=JsonRoute, responses={502: {}}
)


@router.post("/draft", summary="Draft a behaviour from one sentence")
@bounded("drafts")
async def draft_behavior(
    body: DraftBody, request: Request, services: ServicesDep, who: Caller
) -> Draft:
    """The base model answers neutral questions as the sentence says, and the opposite way. Nothing
    is stored: review the texts, then send `behavior` to `POST /v1/behaviors` or in an edit. It
    takes seconds to minutes."""
    base = await run_in_threadpool(lambda: services.store.bases.ready(body.base_model))
    writer = writer_for(services.settings, services.generators, base, request, who.tenant)
    questions = drafts.questions(body)
    responses = await writer.responses(drafts.instructions(body, questions), body.seed)
    kept, dropped = drafts.usable(body.sentence, drafts.pairs_of(questions, responses))
    separability = None
    if len(kept) >= 2 * drafts.FOLDS:
        kept, separability = await _sifted(services, base, body, kept, dropped)
    return drafts.draft(
        body,
        written_by=writer.name,
        chat=base.takes_chat,
        kept=kept,
        dropped=dropped,
        separability=separability,
    )


async def _sifted(
    services: Services,
    base: ReadyBase,
    body: DraftBody,
    pairs: Sequence[ResponsePair],
    dropped: Counter[Reason],
) -> tuple[list[ResponsePair], Distinction]:
    """The pairs without those that no classifier takes the right way around."""
    words = await run_in_threadpool(drafts.judged_by_words, pairs, body.seed)
    probe = await _judged_by_probe(services, base, body, pairs)
    separability = drafts.distinction(words, drafts.judged_by_length(pairs), probe)
    judges = [words] if probe is None else [words, probe]
    wrong = [all(votes) for votes in zip(*(judge.wrong for judge in judges), strict=True)]
    dropped["wrong_way"] += sum(wrong)
    return [pair for pair, out in zip(pairs, wrong, strict=True) if not out], separability


async def _judged_by_probe(
    services: Services, base: ReadyBase, body: DraftBody, pairs: Sequence[ResponsePair]
) -> Judged | None:
    """By hidden states of the base model; None where no generator can read them."""
    undesired, desired = drafts.items_of(pairs)
    question = ProbeRequest(
        base_model=base.id,
        base_fingerprint=base.facts.fingerprint,
        source=base.spec.source,
        chat=base.takes_chat,
        undesired=tuple(undesired),
        desired=tuple(desired),
        seed=body.seed,
    )
    try:
        scores = await services.generators.call("/internal/probe", base.id, question, ProbeScores)
    except Unavailable as error:
        if error.code != "no_generator":
            raise
        return None
    return Judged(scores.undesired, scores.desired)
