"""From a request of the API to rows for the engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models_store.errors import InvalidRequest
from models_store.schemas.generation import GenerationPrompt, GenerationRequest, Sampling
from workers.generator.engine.choice import ChoiceDecoder
from workers.generator.engine.engine import Job, Sink
from workers.generator.engine.text import TextStream
from workers.generator.shelf import Shelf
from workers.runtime.decoding.requests import Request
from workers.runtime.decoding.sampling import SamplingParams
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Mixture

_SEED_STRIDE = 1_000_003
MOST_ECHOED = 2**18
"""Log-probabilities of prompts in one response; some 25 MB of JSON."""


def prepare(shelf: Shelf, request: GenerationRequest, sink: Sink) -> Job:
    """Load what the request needs and encode its prompts; blocks, for long the first time.

    Raises:
        InvalidRequest: a prompt has no tokens, is too long (`context_length_exceeded`), has token
            ids that the model does not know or names no variant, or there is no chat template.
        BaseModelUnavailable, NotFound, CorruptArtifact: as `Shelf` says.
    """
    side = shelf.base(request.base_model, request.base_fingerprint, request.source)
    base = side.base
    mixtures = [shelf.mixture(variant) for variant in request.variants]
    sampling = request.sampling
    params, scores = sampling_params(base, sampling), sampling.logprobs is not None
    held = shelf.kv_bytes // base.kv_bytes_per_token
    choices = []
    for wanted in choice_requests(base, request, held):
        mixture = mixtures[wanted.variant]
        written = needs_weights(mixture)
        row = Request(
            prompt=wanted.ids,
            max_new_tokens=wanted.length,
            mixture=() if written else mixture,
            params=params,
            seed=wanted.seed,
            logprobs=sampling.logprobs,
            prompt_logprobs=sampling.logprobs if sampling.echo else None,
        )
        text = TextStream(base.tokenizer.backend_tokenizer, sampling.stop)
        weights = mixture if written else ()
        choices.append(ChoiceDecoder(wanted.index, row, text, weights, wanted.echo, scores))
    return Job(side, choices, sink, request.tenant)


@dataclass(frozen=True)
class ChoiceRequest:
    """One choice of a request, for any engine."""

    index: int
    variant: int
    ids: list[int]
    length: int
    """Tokens to generate."""
    seed: int
    """The same for all prompts, so that strengths are compared on the same random numbers."""
    echo: str
    """The prompt, if it is to be returned."""


def choice_requests(
    base: LoadedModel, request: GenerationRequest, held: int
) -> Iterator[ChoiceRequest]:
    """The choices of a request, prompt by prompt.

    Args:
        held: tokens of a text that the engine has memory for.

    Raises:
        InvalidRequest: as `prepare`.
    """
    sampling = request.sampling
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    echoed = 0
    for place, prompt in enumerate(request.prompts):
        if prompt.variant >= len(request.variants):
            raise InvalidRequest(f"prompt {place} names variant {prompt.variant}, there is none")
        ids = _encoded(base, prompt)
        length = _room(base, ids, sampling.max_tokens, held)
        if sampling.echo and sampling.logprobs is not None:
            echoed += len(ids) * request.n * (1 + sampling.logprobs)
            _require_few(echoed)
        echo = _prompt_text(base, prompt, ids) if sampling.echo else ""
        for copy in range(request.n):
            index = place * request.n + copy
            yield ChoiceRequest(
                index, prompt.variant, ids, length, seed + _SEED_STRIDE * copy, echo
            )


def _require_few(echoed: int) -> None:
    if echoed > MOST_ECHOED:
        raise InvalidRequest.at(
            "/echo",
            f"with logprobs it returns {MOST_ECHOED:,} log-probabilities of prompts at most, over "
            "all choices: send fewer or shorter prompts, or ask for fewer of the likeliest tokens",
            "out_of_bounds",
        )


def needs_weights(mixture: Mixture) -> bool:
    """Whether it has edits of routed experts, which cannot be applied beside the weights."""
    return any(term.expert is not None for terms, _ in mixture for term in terms)


def sampling_params(base: LoadedModel, sampling: Sampling) -> SamplingParams:
    unknown = [id for id in sampling.logit_bias if not 0 <= id < base.vocabulary]
    if unknown:
        raise InvalidRequest.at(
            f"/logit_bias/{unknown[0]}",
            f"there is no token {unknown[0]}: the model knows 0 to {base.vocabulary - 1}",
        )
    return SamplingParams(
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        sampling.frequency_penalty,
        sampling.presence_penalty,
        tuple(sorted(sampling.logit_bias.items())),
    )


def _prompt_text(base: LoadedModel, prompt: GenerationPrompt, ids: Sequence[int]) -> str:
    """The prompt, as it is returned for `echo`."""
    return prompt.text if prompt.text is not None else str(base.tokenizer.decode(ids))


def _encoded(base: LoadedModel, prompt: GenerationPrompt) -> list[int]:
    if prompt.messages is not None:
        conversation = [(message.role, message.content) for message in prompt.messages]
        return encode_prompt(base, conversation, chat=True)
    if prompt.text is not None:
        return encode_prompt(base, prompt.text, chat=False)
    return _checked_tokens(base, prompt.tokens or ())


def _checked_tokens(base: LoadedModel, tokens: Sequence[int]) -> list[int]:
    if not tokens:
        raise InvalidRequest("the prompt is empty")
    unknown = next((token for token in tokens if not 0 <= token < base.vocabulary), None)
    if unknown is not None:
        raise InvalidRequest(
            f"the prompt has token id {unknown}, but the model knows 0 to {base.vocabulary - 1}"
        )
    return list(tokens)


def _room(base: LoadedModel, ids: Sequence[int], wanted: int | None, held: int) -> int:
    """Tokens to generate: those requested, or what the context has left.

    Args:
        held: tokens of a text that the engine has memory for.

    Raises:
        InvalidRequest: `context_length_exceeded`.
    """
    context = base.context_length
    if len(ids) + (wanted or 1) > min(context, held):
        limit = f"the model's context is {context} tokens"
        if held < context:
            limit = f"this generator has memory for {held} tokens of a text"
        raise InvalidRequest(
            f"{limit}; the prompt has {len(ids)} and {wanted or 1} more were asked for",
            code="context_length_exceeded",
        )
    return wanted if wanted is not None else min(context, held) - len(ids)
