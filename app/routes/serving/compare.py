"""Base and edited outputs side by side."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from app.completions.generators import Choice
from app.completions.openai_answers import usage
from app.domain.variants.names import MAX_STRENGTH, require_delta, variant_name
from app.request.auth import Caller, Principal
from app.request.strict_input.json_body import JsonRoute
from app.services import Services, ServicesDep
from models_store.errors import NoChatTemplate
from models_store.schemas.generation import (
    ChatMessage,
    GenerationPrompt,
    GenerationRequest,
    Sampling,
)
from models_store.schemas.items import Text
from models_store.schemas.records import Variant

router = APIRouter(prefix="/v1/edits", tags=["edits"], route_class=JsonRoute, responses={502: {}})

MAX_PROMPTS = 32
MAX_STRENGTHS = 8
Strength = Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)]


class CompareBody(BaseModel):
    """Prompts and strengths to compare."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompts: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MAX_PROMPTS)]
    strengths: Annotated[tuple[Strength, ...], Field(min_length=1, max_length=MAX_STRENGTHS)] = (
        0.0,
        1.0,
    )
    """0 is the base model."""
    max_tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    chat: bool | None = None
    """Send the prompts as a user's messages; default: if the base model has a chat template."""


class Output(BaseModel):
    strength: float
    variant: str
    text: str
    finish_reason: str


class PromptResult(BaseModel):
    prompt: str
    outputs: list[Output]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Comparison(BaseModel):
    """For each prompt, the response at each strength."""

    object: Literal["comparison"] = "comparison"
    edit_id: str
    results: list[PromptResult]
    usage: Usage


@router.post("/{edit_id}/compare", summary="Compare responses at several strengths")
async def compare(
    edit_id: str, body: CompareBody, request: Request, services: ServicesDep, who: Caller
) -> Comparison:
    """Parent edits are applied too."""
    asked = await run_in_threadpool(_prepare, edit_id, body, services, who)
    choices = await services.generators.collect(asked, request)
    return _comparison(edit_id, body, asked.variants, choices)


def _prepare(
    edit_id: str, body: CompareBody, services: Services, who: Principal
) -> GenerationRequest:
    store, tenant = services.store, who.tenant
    edit = store.work.read("edit", tenant, edit_id)
    require_delta(edit)
    names = [
        variant_name(edit, strength) if strength else edit.request.base_model
        for strength in body.strengths
    ]
    variants = tuple(store.variants.resolve(tenant, name, actor=who.actor) for name in names)
    base = store.bases.ready(edit.request.base_model)
    if body.chat and not base.facts.chat_template:
        raise NoChatTemplate(base.id, "/chat")
    chat = base.takes_chat if body.chat is None else body.chat
    return GenerationRequest(
        base_model=base.id,
        base_fingerprint=base.facts.fingerprint,
        source=base.spec.source,
        variants=variants,
        prompts=tuple(
            _prompt(text, index, chat=chat)
            for text in body.prompts
            for index in range(len(variants))
        ),
        sampling=Sampling(max_tokens=body.max_tokens, temperature=body.temperature, seed=body.seed),
        tenant=tenant,
        context_length=base.facts.context_length,
    )


def _prompt(text: str, variant: int, *, chat: bool) -> GenerationPrompt:
    if chat:
        return GenerationPrompt(messages=(ChatMessage(role="user", content=text),), variant=variant)
    return GenerationPrompt(text=text, variant=variant)


def _comparison(
    edit_id: str, body: CompareBody, variants: tuple[Variant, ...], choices: list[Choice]
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
