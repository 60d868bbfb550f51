"""Who writes the texts of a draft: the base model itself, or a model that the operator names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import structlog
from fastapi import Request

from app.completions.generators import Generators
from app.completions.requests import generation_request, user_prompt
from app.domain.behaviors.drafts import MAX_ANSWER_TOKENS
from app.http.errors import GenerationFailed
from models_store.errors import Unavailable
from models_store.schemas.generation import (
    GenerationPrompt,
    GenerationRequest,
    Sampling,
)
from models_store.schemas.records import Variant
from models_store.settings import Settings
from models_store.work.base_models import ReadyBase

_log = structlog.get_logger()

_TEMPERATURE = 0.8
_TOP_P = 0.95
_ROWS = 24
"""Sent to a generator at once, which leaves room in its batches for other requests."""
_AT_ONCE = 8
_MAX_CHARACTERS = 2_000
"""Of a response; longer ones are cut."""
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


class Writer(Protocol):
    """Answers instructions.

    Raises:
        Unavailable: `no_generator`; `overloaded`.
        GenerationFailed: it broke off, or refuses.
    """

    @property
    def name(self) -> str: ...

    async def responses(self, instructions: Sequence[str], seed: int) -> list[str]:
        """One text for each instruction."""
        ...


def writer_for(
    settings: Settings, generators: Generators, base: ReadyBase, client: Request, tenant: str
) -> Writer:
    """The operator's endpoint where there is one, else the base model."""
    if settings.draft_url:
        return EndpointWriter(
            settings.draft_url, settings.draft_model, settings.draft_api_key.get_secret_value()
        )
    return BaseModelWriter(generators, base, client, tenant)


@dataclass(frozen=True)
class BaseModelWriter:
    """The base model, through a generator."""

    generators: Generators
    base: ReadyBase
    client: Request
    tenant: str

    @property
    def name(self) -> str:
        return self.base.id

    async def responses(self, instructions: Sequence[str], seed: int) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(instructions), _ROWS):
            request = self._request(instructions[start : start + _ROWS], seed + start)
            choices = await self.generators.collect(request, self.client)
            texts += [choice.text for choice in choices]
        return texts

    def _request(self, instructions: Sequence[str], seed: int) -> GenerationRequest:
        base = self.base
        itself = Variant(name=base.id, base_model=base.id, base_fingerprint=base.facts.fingerprint)
        return generation_request(
            self.tenant,
            base,
            [itself],
            [self._prompt(instruction) for instruction in instructions],
            Sampling(
                max_tokens=MAX_ANSWER_TOKENS,
                temperature=_TEMPERATURE,
                top_p=_TOP_P,
                seed=seed,
                # A model without a chat format would go on with questions of its own.
                stop=() if base.takes_chat else ("\n\n", "\nQuestion:"),
            ),
        )

    def _prompt(self, instruction: str) -> GenerationPrompt:
        chat = self.base.takes_chat
        return user_prompt(instruction if chat else f"{instruction}\nAnswer:", chat=chat)


@dataclass(frozen=True)
class EndpointWriter:
    """Any server with OpenAI's API for chat completions."""

    url: str
    """Up to and with `/v1`."""
    model: str
    api_key: str

    @property
    def name(self) -> str:
        return self.model

    async def responses(self, instructions: Sequence[str], seed: int) -> list[str]:
        room = asyncio.Semaphore(_AT_ONCE)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        async with httpx.AsyncClient(timeout=_TIMEOUT, headers=headers) as http:

            async def respond(place: int, instruction: str) -> str:
                async with room:
                    return await self._complete(http, instruction, seed + place)

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(respond(place, instruction))
                        for place, instruction in enumerate(instructions)
                    ]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _complete(self, http: httpx.AsyncClient, instruction: str, seed: int) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": instruction}],
            "max_tokens": MAX_ANSWER_TOKENS,
            "temperature": _TEMPERATURE,
            "top_p": _TOP_P,
            "seed": seed,
        }
        try:
            response = await http.post(f"{self.url.rstrip('/')}/chat/completions", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the model that writes drafts cannot be reached ({type(error).__name__}): the "
                "operator names it in SCALPEL_DRAFT_URL",
                code="overloaded",
            ) from error
        if response.status_code != 200:
            _log.warning("the model that writes drafts refuses", status=response.status_code)
            message = f"the model that writes drafts answered with status {response.status_code}"
            if response.status_code == 429 or response.status_code >= 500:
                raise Unavailable(message, code="overloaded", retry_after=10)
            raise GenerationFailed(f"{message}: the operator sets it with SCALPEL_DRAFT_…")
        try:
            completion: Any = response.json()
            text = str(completion["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise GenerationFailed(
                "the server in SCALPEL_DRAFT_URL did not answer with a chat completion "
                "(choices[0].message.content)"
            ) from error
        # JSON lets through half a surrogate pair, which no response of ours could hold.
        return text[:_MAX_CHARACTERS].encode(errors="replace").decode()
