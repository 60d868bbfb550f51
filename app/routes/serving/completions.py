"""Completions by any variant, as OpenAI's API has them."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.completions.openai_requests import MAX_CHOICES, ChatBody, CompletionBody
from app.completions.openai_responses import CompletionResponse, Kind
from app.completions.requests import generation_request
from app.http.sse import EVENT_STREAM, sse_response
from app.request.auth import Caller, Principal, while_allowed
from app.request.strict_input.json_body import JsonRoute
from app.services import Services, ServicesDep
from models_store.errors import InvalidRequest, NoChatTemplate
from models_store.schemas.generation import GenerationRequest

VARIANT_HEADER = "Scalpel-Variant"
"""Names what answered: an alias may be switched or split."""

router = APIRouter(prefix="/v1", tags=["completions"], route_class=JsonRoute, responses={502: {}})

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "As in OpenAI's API; a stream with `stream: true`",
        "content": {"application/json": {"schema": {"type": "object"}}, EVENT_STREAM: {}},
    }
}


@router.post(
    "/chat/completions",
    summary="Complete a conversation",
    response_class=Response,
    responses=_RESPONSES,
)
async def create_chat_completion(
    body: ChatBody, request: Request, services: ServicesDep, who: Caller
) -> Response:
    """As OpenAI's, by any variant. `stream` sends server-sent events."""
    return await _complete("chat", body, request, services, who)


@router.post(
    "/completions", summary="Complete a text", response_class=Response, responses=_RESPONSES
)
async def create_completion(
    body: CompletionBody, request: Request, services: ServicesDep, who: Caller
) -> Response:
    """As OpenAI's, by any variant; the prompt is continued as it is."""
    return await _complete("text", body, request, services, who)


async def _complete(
    kind: Kind,
    body: ChatBody | CompletionBody,
    request: Request,
    services: Services,
    who: Principal,
) -> Response:
    generation = await run_in_threadpool(_prepare, body, services, who)
    headers = {VARIANT_HEADER: generation.variants[0].name}
    response = CompletionResponse(
        kind, body.model, body.choices, generation.sampling.logprobs is not None
    )
    if not body.stream:
        choices = await services.generators.collect(generation, request)
        if generation.sampling.logprobs is None:
            whole = response.whole(choices)
        else:
            whole = await run_in_threadpool(response.whole, choices)
        return Response(whole, headers=headers, media_type="application/json")
    # Errors before the first token still get a status of their own.
    lines = while_allowed(request, await services.generators.begun(generation))
    return sse_response(response.stream(lines, include_usage=body.include_usage), **headers)


def _prepare(
    body: ChatBody | CompletionBody, services: Services, who: Principal
) -> GenerationRequest:
    """The request to a generator: with paths and digests in place of names."""
    store = services.store
    variant = store.variants.resolve(
        who.tenant,
        body.model,
        actor=who.actor,
        without_parents=body.without_parents,
        place=partial(_place, who.tenant, body.user or body.safety_identifier or None),
    )
    base = store.bases.ready(variant.base_model)
    prompts = body.prompts()
    if isinstance(body, ChatBody) and not base.facts.chat_template:
        raise NoChatTemplate(base.id, "/messages")
    if len(prompts) * body.choices > MAX_CHOICES:
        raise InvalidRequest.at("/n", f"at most {MAX_CHOICES} choices for all prompts together")
    return generation_request(who.tenant, base, [variant], prompts, body.drawn(), n=body.choices)


def _place(tenant: str, user: str | None, alias: str) -> float:
    """Where a request lies in an alias that is split: the same each time for the same user."""
    if user is None:
        return random.random()  # noqa: S311
    digest = hashlib.sha256("\0".join([tenant, alias, user]).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
