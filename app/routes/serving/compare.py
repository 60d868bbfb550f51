"""Outputs of several variants side by side: of an edit at several strengths, all at once, or of any
variants as they come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field, ValidationInfo, field_validator

from app.completions.generators import CompletedChoice
from app.completions.openai_requests import OpenAIMessage, StopString
from app.completions.openai_responses import usage
from app.completions.requests import comparison_request, user_prompt
from app.domain.bodies import RequestBody, View
from app.domain.edits.requests import VariantField
from app.domain.variants.names import MAX_STRENGTH, at_strength, require_delta, variant_name
from app.http.sse import EVENT_STREAM, sse, sse_response
from app.request.auth import Caller, Principal, while_allowed
from app.request.strict_input.json_body import JsonRoute
from app.services import ServicesDep, Store
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

router = APIRouter(tags=["completions"], route_class=JsonRoute, responses={502: {}})
edit_router = APIRouter(tags=["edits"], route_class=JsonRoute, responses={502: {}})

MAX_PROMPTS = 32
MAX_STRENGTHS = 8
MAX_VARIANTS = 16
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)]
Strengths = Annotated[tuple[Strength, ...], Field(min_length=1, max_length=MAX_STRENGTHS)]
_EITHER = {
    "variants": ("model", "name either model, with strengths, or variants"),
    "messages": ("prompt", "give either a prompt or messages"),
}
"""By field: the one that it stands in place of."""


class CompareBody(RequestBody):
    """Prompts and strengths to compare."""

    prompts: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_PROMPTS)]
    """What is answered, up to 32."""
    strengths: Strengths = (0.0, 1.0)
    """0 is the base model."""
    max_tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    """Most tokens of a response."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """From 0 (always the likeliest token) to 2."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """All responses use the same random numbers."""
    chat: bool | None = None
    """Send the prompts as a user's messages; default: if the base model has a chat template."""


class Output(View):
    strength: float
    """0 is the base model."""
    variant: str
    """The name of what responded."""
    text: str
    """The response."""
    finish_reason: str
    """`stop`: it has ended; `length`: it was cut."""


class PromptResult(View):
    prompt: str
    """The prompt."""
    outputs: list[Output]
    """By strength."""


class Usage(View):
    prompt_tokens: int
    """Of the prompts."""
    completion_tokens: int
    """Of the responses."""
    total_tokens: int
    """Of both."""


class Comparison(View):
    """For each prompt, the response at each strength."""

    object: Literal["comparison"] = "comparison"
    """What kind of thing this is: always the same word."""
    edit_id: str
    """The edit."""
    results: list[PromptResult]
    """By prompt."""
    usage: Usage
    """Tokens of all responses together."""


class LiveCompareBody(RequestBody):
    """A prompt, and the variants that respond."""

    model: VariantField | None = None
    """A variant, used at each of `strengths`; or give `variants`."""
    strengths: Strengths = (0.0, 1.0)
    """Factors of the strengths of the variant's edits; 0 is the base model."""
    variants: (
        Annotated[tuple[VariantField, ...], Field(min_length=1, max_length=MAX_VARIANTS)] | None
    ) = None
    """Of one base model."""
    prompt: Text | None = None
    """What is answered."""
    messages: Annotated[list[OpenAIMessage], Field(min_length=1, max_length=1000)] | None = None
    """A conversation in place of a prompt."""
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    """Most tokens of a response."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """From 0 (always the likeliest token) to 2."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the probability that is drawn from."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """All responses use the same random numbers."""
    stop: Annotated[tuple[StopString, ...], Field(max_length=4)] = ()
    """Texts before which a response ends."""

    @field_validator("variants", "messages")
    @classmethod
    def _check_either(cls, value: object, info: ValidationInfo) -> object:
        other, message = _EITHER[info.field_name or ""]
        if value is not None and info.data.get(other) is not None:
            raise ValueError(message)
        return value


@edit_router.post("/v1/edits/{edit_id}/compare", summary="Compare responses at several strengths")
async def compare(
    edit_id: str, body: CompareBody, request: Request, services: ServicesDep, who: Caller
) -> Comparison:
    """Parent edits are applied too."""
    generation = await run_in_threadpool(_of_edit, edit_id, body, services.store, who)
    choices = await services.generators.collect(generation, request)
    return _comparison(edit_id, body, generation.variants, choices)


@router.post(
    "/v1/compare",
    summary="Stream the responses of several variants to a prompt",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, each with the index of its output",
            "content": {EVENT_STREAM: {}},
        }
    },
)
async def compare_live(
    body: LiveCompareBody, request: Request, services: ServicesDep, who: Caller
) -> StreamingResponse:
    """All responses are rows of one batch; a new strength costs nothing."""
    generation = await run_in_threadpool(_of_variants, body, services.store, who)
    # Errors before the first line still get a status of their own.
    lines = while_allowed(request, await services.generators.begun(generation))
    return sse_response(_events(generation.variants, lines))


def _of_edit(edit_id: str, body: CompareBody, store: Store, who: Principal) -> GenerationRequest:
    edit = store.work.read("edit", who.tenant, edit_id)
    require_delta(edit)
    names = [
        variant_name(edit, strength) if strength else edit.request.base_model
        for strength in body.strengths
    ]
    variants = [store.variants.resolve(who.tenant, name, actor=who.actor) for name in names]
    base = store.bases.ready(edit.request.base_model)
    if body.chat and not base.facts.chat_template:
        raise NoChatTemplate(base.id, "/chat")
    chat = base.takes_chat if body.chat is None else body.chat
    prompts = [user_prompt(text, chat=chat) for text in body.prompts]
    sampling = Sampling(max_tokens=body.max_tokens, temperature=body.temperature, seed=body.seed)
    return comparison_request(who.tenant, base, variants, prompts, sampling)


def _of_variants(body: LiveCompareBody, store: Store, who: Principal) -> GenerationRequest:
    variants = _variants(body, store, who)
    base = store.bases.ready(variants[0].base_model)
    if body.messages is not None:
        if not base.facts.chat_template:
            raise NoChatTemplate(base.id, "/messages")
        prompt = GenerationPrompt(messages=tuple(message.plain() for message in body.messages))
    elif body.prompt is not None:
        prompt = GenerationPrompt(text=body.prompt)
    else:
        raise InvalidRequest.at("/prompt", "give a prompt or messages", "missing")
    sampling = Sampling(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=tuple(text for text in body.stop if text),
    )
    return comparison_request(who.tenant, base, variants, [prompt], sampling)


def _variants(body: LiveCompareBody, store: Store, who: Principal) -> tuple[Variant, ...]:
    store_variants = store.variants
    if body.model is not None:
        whole = store_variants.named(who.tenant, body.model, "/model", actor=None)
        multiplied = tuple(
            at_strength(whole, strength, f"/strengths/{place}")
            for place, strength in enumerate(body.strengths)
        )
        for variant in multiplied:
            store_variants.require_covered(who.tenant, variant, who.actor)
        return multiplied
    if body.variants is None:
        raise InvalidRequest.at("/model", "name a model, or variants", "missing")
    named = partial(store_variants.named, who.tenant, actor=who.actor)
    variants = [named(name, f"/variants/{place}") for place, name in enumerate(body.variants)]
    for place, variant in enumerate(variants):
        if variant.base_model != variants[0].base_model:
            raise InvalidRequest.at(
                f"/variants/{place}",
                f"{variant.name} is of another base model than {variants[0].name}",
            )
    return tuple(variants)


def _comparison(
    edit_id: str, body: CompareBody, variants: tuple[Variant, ...], choices: list[CompletedChoice]
) -> Comparison:
    several = len(variants)
    results = []
    for row, prompt in enumerate(body.prompts):
        outputs = [
            Output(
                strength=strength,
                variant=variant.name,
                text=choice.text,
                finish_reason=choice.finish_reason,
            )
            for strength, variant, choice in zip(
                body.strengths,
                variants,
                choices[row * several : (row + 1) * several],
                strict=True,
            )
        ]
        results.append(PromptResult(prompt=prompt, outputs=outputs))
    counted = Usage(**usage(choices, 1))
    return Comparison(edit_id=edit_id, results=results, usage=counted)


async def _events(
    variants: tuple[Variant, ...], lines: AsyncGenerator[TextPiece | Finished]
) -> AsyncIterator[bytes]:
    outputs = [{"index": index, "variant": variant.name} for index, variant in enumerate(variants)]
    yield sse({"outputs": outputs}, "comparison.created")
    ends: dict[int, Finished] = {}
    try:
        async with aclosing(lines):
            async for line in lines:
                if isinstance(line, TextPiece):
                    yield sse({"index": line.index, "text": line.text}, "comparison.delta")
                else:
                    ends[line.index] = line
                    end = {"index": line.index, "finish_reason": line.finish_reason}
                    yield sse(end, "comparison.finished")
    except ScalpelError as error:
        yield sse({"code": error.code, "message": error.message}, "error")
        return
    counted = usage([ends[index] for index in sorted(ends)], 1)
    yield sse({"usage": counted}, "comparison.completed")
