"""One prompt answered by several variants at the same time, as they speak."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from app.completions.openai_answers import usage
from app.completions.openai_requests import OpenAIMessage
from app.domain.edits.requests import VariantField
from app.domain.variants.names import at_strength
from app.request.auth import Caller, Principal
from app.request.strict_input.json_body import JsonRoute
from app.routes.serving.compare import MAX_STRENGTHS, Strength
from app.services import Services, ServicesDep
from models_store.errors import InvalidRequest, NoChatTemplate, ScalpelError
from models_store.schemas.generation import (
    Finished,
    GenerationPrompt,
    GenerationRequest,
    Sampling,
    TextPiece,
)
from models_store.schemas.items import Text
from models_store.schemas.records import Variant

router = APIRouter(
    prefix="/v1/compare", tags=["completions"], route_class=JsonRoute, responses={502: {}}
)

MAX_VARIANTS = 16
_EITHER = {
    "variants": ("model", "name either model, with strengths, or variants"),
    "messages": ("prompt", "give either a prompt or messages"),
}
"""By field: the one that it stands in place of."""


class LiveCompareBody(BaseModel):
    """A prompt, and the variants that respond."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: VariantField | None = None
    """A variant, used at each of `strengths`; or give `variants`."""
    strengths: Annotated[tuple[Strength, ...], Field(min_length=1, max_length=MAX_STRENGTHS)] = (
        0.0,
        1.0,
    )
    """Factors of the strengths of the variant's edits; 0 is the base model."""
    variants: (
        Annotated[tuple[VariantField, ...], Field(min_length=1, max_length=MAX_VARIANTS)] | None
    ) = None
    """Of one base model."""
    prompt: Text | None = None
    messages: Annotated[list[OpenAIMessage], Field(min_length=1, max_length=1000)] | None = None
    """A conversation in place of a prompt."""
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """All responses use the same random numbers."""
    stop: Annotated[list[str], Field(max_length=4)] = []

    @field_validator("variants", "messages")
    @classmethod
    def _one_way(cls, value: object, info: ValidationInfo) -> object:
        other, message = _EITHER[info.field_name or ""]
        if value is not None and info.data.get(other) is not None:
            raise ValueError(message)
        return value


@router.post(
    "",
    summary="Stream the responses of several variants to a prompt",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, each with the index of its output",
            "content": {"text/event-stream": {}},
        }
    },
)
async def compare_live(
    body: LiveCompareBody, services: ServicesDep, who: Caller
) -> StreamingResponse:
    """All responses are rows of one batch; a new strength costs nothing."""
    asked = await run_in_threadpool(_prepare, body, services, who)
    lines = services.generators.lines(asked)
    first = await anext(lines)  # errors before it still get a status of their own

    async def events() -> AsyncIterator[bytes]:
        async with aclosing(lines):
            outputs = [
                {"index": index, "variant": variant.name}
                for index, variant in enumerate(asked.variants)
            ]
            yield _event("comparison.created", {"outputs": outputs})
            ends: dict[int, Finished] = {}
            try:
                for event in _told(first, ends):
                    yield event
                async for line in lines:
                    for event in _told(line, ends):
                        yield event
            except ScalpelError as error:
                yield _event("error", {"code": error.code, "message": error.message})
                return
            counted = usage([ends[index] for index in sorted(ends)], 1)
            yield _event("comparison.completed", {"usage": counted})

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _told(line: TextPiece | Finished, ends: dict[int, Finished]) -> list[bytes]:
    if isinstance(line, TextPiece):
        return [_event("comparison.delta", {"index": line.index, "text": line.text})]
    ends[line.index] = line
    said = {"index": line.index, "finish_reason": line.finish_reason}
    return [_event("comparison.finished", said)]


def _event(type: str, data: dict[str, Any]) -> bytes:
    return f"event: {type}\ndata: {json.dumps(data)}\n\n".encode()


def _prepare(body: LiveCompareBody, services: Services, who: Principal) -> GenerationRequest:
    variants = _variants(body, services, who)
    base = services.store.bases.ready(variants[0].base_model)
    if body.messages is not None:
        if not base.facts.chat_template:
            raise NoChatTemplate(base.id, "/messages")
        said = GenerationPrompt(messages=tuple(message.plain() for message in body.messages))
    elif body.prompt is not None:
        said = GenerationPrompt(text=body.prompt)
    else:
        raise InvalidRequest.at("/prompt", "give a prompt or messages", "missing")
    return GenerationRequest(
        base_model=base.id,
        base_fingerprint=base.facts.fingerprint,
        source=base.spec.source,
        variants=variants,
        prompts=tuple(said.model_copy(update={"variant": index}) for index in range(len(variants))),
        sampling=Sampling(
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            seed=body.seed,
            stop=tuple(text for text in body.stop if text),
        ),
        tenant=who.tenant,
        context_length=base.facts.context_length,
    )


def _variants(body: LiveCompareBody, services: Services, who: Principal) -> tuple[Variant, ...]:
    known = services.store.variants
    if body.model is not None:
        whole = known.named(who.tenant, body.model, "/model", actor=None)
        multiplied = tuple(
            at_strength(whole, strength, f"/strengths/{place}")
            for place, strength in enumerate(body.strengths)
        )
        for variant in multiplied:
            known.require_covered(who.tenant, variant, who.actor)
        return multiplied
    if body.variants is None:
        raise InvalidRequest.at("/model", "name a model, or variants", "missing")
    named = partial(known.named, who.tenant, actor=who.actor)
    found = [named(name, f"/variants/{place}") for place, name in enumerate(body.variants)]
    for place, one in enumerate(found):
        if one.base_model != found[0].base_model:
            raise InvalidRequest.at(
                f"/variants/{place}", f"{one.name} is of another base model than {found[0].name}"
            )
    return tuple(found)
