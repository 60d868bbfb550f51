"""Requests to a generator, for completions, comparisons and drafts."""

from __future__ import annotations

from collections.abc import Sequence

from models_store.errors import InvalidRequest
from models_store.schemas.generation import (
    ChatMessage,
    GenerationPrompt,
    GenerationRequest,
    Sampling,
)
from models_store.schemas.records import Variant
from models_store.work.base_models import ReadyBase

MOST_BYTES_A_TOKEN = 32
"""On average over a prompt; longer ones are not even tokenized."""


def generation_request(
    tenant: str,
    base: ReadyBase,
    variants: Sequence[Variant],
    prompts: Sequence[GenerationPrompt],
    sampling: Sampling,
    *,
    n: int = 1,
) -> GenerationRequest:
    """The request of `tenant` for `n` choices a prompt, each prompt by the variant it names.

    Args:
        variants: of `base`, one at least.

    Raises:
        InvalidRequest: `context_length_exceeded`, a prompt is too long to be read at all.
    """
    most = MOST_BYTES_A_TOKEN * base.facts.context_length
    for prompt in prompts:
        if prompt.bytes > most:
            raise InvalidRequest(
                f"the model's context is {base.facts.context_length} tokens: a prompt has "
                f"{most:,} bytes at most, not {prompt.bytes:,}",
                code="context_length_exceeded",
            )
    return GenerationRequest(
        base_model=base.id,
        base_fingerprint=variants[0].base_fingerprint,
        source=base.spec.source,
        variants=tuple(variants),
        prompts=tuple(prompts),
        n=n,
        sampling=sampling,
        tenant=tenant,
        context_length=base.facts.context_length,
    )


def comparison_request(
    tenant: str,
    base: ReadyBase,
    variants: Sequence[Variant],
    prompts: Sequence[GenerationPrompt],
    sampling: Sampling,
) -> GenerationRequest:
    """The same for every prompt by every variant; choices come prompt by prompt."""
    rows = [
        prompt.model_copy(update={"variant": index})
        for prompt in prompts
        for index in range(len(variants))
    ]
    return generation_request(tenant, base, variants, rows, sampling)


def user_prompt(text: str, *, chat: bool) -> GenerationPrompt:
    """A text as a user's message, or as it is."""
    if chat:
        return GenerationPrompt(messages=(ChatMessage(role="user", content=text),))
    return GenerationPrompt(text=text)
