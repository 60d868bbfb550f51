"""Generate with a vLLM server: a variant is a LoRA adapter on it, made on first use.

The server needs `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, the folder of adapters
under the same path, and one generator alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import structlog
from starlette.concurrency import run_in_threadpool

from models_store.errors import BaseModelUnavailable, InvalidRequest, ScalpelError, Unavailable
from models_store.net.lines import lines_of
from models_store.schemas.generation import (
    Finished,
    GenerationError,
    GenerationRequest,
    Sampling,
    ScoredToken,
    TextPiece,
)
from models_store.settings import Settings
from workers.generator.engine.token_names import TokenNames
from workers.generator.jobs import ChoiceRequest, choice_requests, needs_weights, sampling_params
from workers.generator.protocol import Line
from workers.generator.shelf import Shelf
from workers.generator.vllm.adapters import Adapters
from workers.generator.vllm.probe import mean_difference, probe_logprobs, probe_tokens
from workers.runtime.decoding.sampling import TokenScores
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture

_log = structlog.get_logger()
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
MAX_DIFFERENCE = 0.1
"""Mean difference of log-probabilities, in nats a token, up to which two sets of weights count as
the same; rounding to 16 bits makes 0.01 to 0.03."""


class VllmEngine:
    """Generates with the one base model of a vLLM server."""

    def __init__(self, settings: Settings, shelf: Shelf) -> None:
        self._settings = settings
        self._shelf = shelf
        self._busy = 0
        self._closing = False
        key = settings.vllm_api_key.get_secret_value()
        self._http = httpx.AsyncClient(
            base_url=settings.vllm_url.rstrip("/"),
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,
        )
        self._adapters = Adapters(
            self._http,
            settings.vllm_adapters or settings.data / "vllm_adapters",
            settings.vllm_max_loras,
        )
        self._checking = asyncio.Lock()
        self._contexts: dict[str, int] = {}
        """Context length by fingerprint, once the server's base model was checked against it."""

    @property
    def base_models(self) -> tuple[str, ...]:
        return (self._settings.vllm_base_model,)

    @property
    def serves(self) -> tuple[str, ...] | None:
        return (self._settings.vllm_base_model,)

    @property
    def busy(self) -> int:
        return self._busy

    def close(self) -> None:
        self._closing = True

    async def aclose(self) -> None:
        """Close the connections, in their event loop."""
        self.close()
        await self._http.aclose()

    async def begin(self, request: GenerationRequest) -> AsyncGenerator[Line]:
        if self._closing:
            raise Unavailable("this generator is shutting down", code="overloaded")
        if request.base_model != self._settings.vllm_base_model:
            raise BaseModelUnavailable(
                f"this generator speaks with {self._settings.vllm_base_model} only"
            )
        base = await run_in_threadpool(
            self._shelf.outline, request.base_model, request.base_fingerprint, request.source
        )
        context = await self._checked(base)
        choices = await run_in_threadpool(_choice_requests, base, request, context)
        mixtures = [
            await run_in_threadpool(self._shelf.mixture, variant) for variant in request.variants
        ]
        if any(map(needs_weights, mixtures)):
            raise InvalidRequest("edits of routed experts cannot be served by vLLM")
        return self._lines(base, request, choices, mixtures)

    async def _lines(
        self,
        base: LoadedModel,
        request: GenerationRequest,
        choices: Sequence[ChoiceRequest],
        mixtures: Sequence[Mixture],
    ) -> AsyncGenerator[Line]:
        """All choices at the same time, each as a separate request."""
        lines: asyncio.Queue[Line | None] = asyncio.Queue(maxsize=1024)
        tokens = TokenNames(base.tokenizer) if request.sampling.logprobs is not None else None
        tasks = []
        self._busy += len(choices)
        try:
            for choice in choices:
                body = _body(request.sampling, choice)
                reader = self._adapted(base, mixtures[choice.variant], choice, body, tokens)
                tasks.append(asyncio.create_task(_forward(reader, lines)))
            left = len(tasks)
            while left:
                line = await lines.get()
                if line is None:
                    left -= 1
                    continue
                yield line
                if isinstance(line, GenerationError):
                    return
        finally:
            self._busy -= len(choices)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _adapted(
        self,
        base: LoadedModel,
        mixture: Mixture,
        choice: ChoiceRequest,
        body: dict[str, Any],
        names: TokenNames | None,
    ) -> AsyncGenerator[Line]:
        """One choice, with its adapter loaded."""
        for last in (False, True):
            adapter = await self._adapters.acquire(base, mixture)
            try:
                with_model = {**body, "model": adapter}
                async with aclosing(self._choice(choice, with_model, names)) as lines:
                    async for line in lines:
                        yield line
                return
            except _UnknownAdapter as error:
                if last:
                    raise Unavailable(f"vLLM: {error}", code="generation_failed") from error
                # The server was restarted, perhaps with other weights.
                self._adapters.clear_all()
                self._contexts.clear()
                await self._checked(base)
            finally:
                self._adapters.release(adapter)

    async def _choice(
        self, request: ChoiceRequest, body: dict[str, Any], names: TokenNames | None
    ) -> AsyncGenerator[Line]:
        index, reason = request.index, None
        usage: dict[str, Any] = {}
        async with self._http.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                raise _refused(response)
            if request.echo:
                yield TextPiece(index=index, text=request.echo)
            async for line in lines_of(response.aiter_bytes()):
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise Unavailable(f"vLLM: {event['error']}", code="generation_failed")
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    reason = choice.get("finish_reason") or reason
                    tokens = _scored(choice.get("logprobs"), names)
                    if choice.get("text") or tokens:
                        yield TextPiece(index=index, text=choice.get("text") or "", tokens=tokens)
        if reason not in ("stop", "length"):
            raise Unavailable(
                "the vLLM server broke off" + (f": {reason}" if reason else ""),
                code="generation_failed",
            )
        yield Finished(
            index=index,
            finish_reason="length" if reason == "length" else "stop",
            prompt_tokens=int(usage.get("prompt_tokens", len(request.ids))),
            completion_tokens=int(usage.get("completion_tokens", 0)),
        )

    async def _probed(self, model: str, prompt: Sequence[int]) -> list[float]:
        """Log-probabilities, by the server's base model, of a prompt's tokens but the first."""
        response = await self._http.post(
            "/v1/completions",
            json={
                "model": model,
                "prompt": list(prompt),
                "echo": True,
                "logprobs": 0,
                "max_tokens": 1,
                "temperature": 0,
            },
        )
        response.raise_for_status()
        logprobs: list[float] = response.json()["choices"][0]["logprobs"]["token_logprobs"]
        return logprobs[1 : len(prompt)]

    async def _checked(self, base: LoadedModel) -> int:
        """The context length of the server's base model, once it was checked.

        Raises:
            BaseModelUnavailable: it has other weights.
            Unavailable: the server cannot be reached.
        """
        async with self._checking:
            if base.fingerprint not in self._contexts:
                self._contexts[base.fingerprint] = await self._check(base)
            return self._contexts[base.fingerprint]

    async def _check(self, base: LoadedModel) -> int:
        try:
            response = await self._http.get("/v1/models")
            response.raise_for_status()
            models = response.json()["data"]
            (served,) = [model for model in models if model.get("parent") is None]
            await self._adapters.unload_stale([m["id"] for m in models if m.get("parent")])
            logprobs = await self._probed(served["id"], probe_tokens(base))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(
                f"the vLLM server at {self._settings.vllm_url} cannot be used: {error}",
                code="no_generator",
            ) from error
        expected = await run_in_threadpool(probe_logprobs, base, self._settings)
        difference = mean_difference(expected, logprobs)
        if difference > MAX_DIFFERENCE:
            raise BaseModelUnavailable(
                f"the vLLM server at {self._settings.vllm_url} does not hold "
                f"{self._settings.vllm_base_model}: log-probabilities of a text differ by "
                f"{difference:.2f} nats a token"
            )
        _log.info("vLLM holds the base model", name=served["id"], apart=round(difference, 4))
        return int(served.get("max_model_len") or base.context_length)


def _choice_requests(
    base: LoadedModel, request: GenerationRequest, context: int
) -> list[ChoiceRequest]:
    """The choices of a request, if the server can generate them."""
    sampling = request.sampling
    if sampling.echo and sampling.logprobs is not None:
        # These, with an adapter, crash the engine of vLLM 0.32 for CPUs.
        raise InvalidRequest.at(
            "/echo",
            "log-probabilities of a prompt are told by Scalpel's own engine only, not through "
            "vLLM: leave out echo or logprobs",
            "not_supported",
        )
    sampling_params(base, sampling)  # refuses a bias on an unknown token
    if sampling.seed is not None:
        small = sampling.model_copy(update={"seed": sampling.seed % 2**31})
        request = request.model_copy(update={"sampling": small})
    return list(choice_requests(base, request, context))


def _body(sampling: Sampling, choice: ChoiceRequest) -> dict[str, Any]:
    """The body of the request to the server, without the model."""
    body: dict[str, Any] = {
        "prompt": choice.ids,
        "max_tokens": choice.length,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": sampling.min_p,
        "seed": choice.seed,
        "stop": list(sampling.stop),
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logit_bias": {str(id): value for id, value in sampling.logit_bias.items()},
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_tokens_as_token_ids": True,
    }
    if sampling.logprobs is not None:
        body["logprobs"] = sampling.logprobs
    return body


async def _forward(reader: AsyncGenerator[Line], lines: asyncio.Queue[Line | None]) -> None:
    try:
        async with aclosing(reader):
            async for line in reader:
                await lines.put(line)
    except ScalpelError as error:
        await lines.put(GenerationError(code=error.code, message=error.message))
    except httpx.HTTPError as error:
        message = f"the vLLM server cannot be reached: {error or type(error).__name__}"
        await lines.put(GenerationError(code="no_generator", message=message))
    except Exception as error:
        _log.error("generation failed", exc_info=error)
        message = "the generation failed; see the generator's log"
        await lines.put(GenerationError(code="generation_failed", message=message))
    await lines.put(None)


def _scored(logprobs: dict[str, Any] | None, names: TokenNames | None) -> tuple[ScoredToken, ...]:
    """Log-probabilities from the server's legacy format, with tokens such as `token_id:5`."""
    if logprobs is None or names is None:
        return ()
    scored = []
    for token, logprob, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        id = _id(token)
        scores = None
        if logprob is not None:
            likely = sorted(
                ((_id(token_id), float(value)) for token_id, value in (top or {}).items()),
                key=lambda pair: -pair[1],
            )
            scores = TokenScores(id, float(logprob), tuple(likely))
        scored.append(names.named(scores, id))
    return tuple(scored)


def _id(token: str) -> int:
    return int(token.removeprefix("token_id:"))


class _UnknownAdapter(Exception):
    """The server does not know the adapter."""


def _refused(response: httpx.Response) -> Exception:
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {response.status_code}"
    if response.status_code == 404:
        return _UnknownAdapter(message)
    if response.status_code == 400:
        return InvalidRequest(f"vLLM: {message}")
    return Unavailable(f"vLLM: {message}", code="generation_failed")
