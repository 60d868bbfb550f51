"""Speaking through a vLLM server: a variant is a LoRA adapter there, made when it is asked for.

The server must be started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, read the
folder of adapters under the same path, and belong to one generator alone.
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
from workers.generator.jobs import Asked, needs_weights, sampling_params, walk
from workers.generator.protocol import Line
from workers.generator.shelf import Shelf
from workers.generator.vllm.adapters import Adapters
from workers.generator.vllm.probe import apart, probe_logprobs, probe_tokens
from workers.runtime.decoding.sampling import Scores
from workers.runtime.loading import BaseModel
from workers.surgery.terms import Mixture

_log = structlog.get_logger()
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
MOST_APART = 0.1
"""Mean difference of log-probabilities, in nats a token, up to which two sets of weights pass for
the same: rounding to 16 bits makes 0.01 to 0.03."""


class VllmEngine:
    """Speaks with the one base model that a vLLM server holds."""

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
        """Of the base model there, once it was found to be the one with that fingerprint."""

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
        """Close the connections, in the loop that they belong to."""
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
        asked = await run_in_threadpool(_asked, base, request, context)
        mixtures = [
            await run_in_threadpool(self._shelf.mixture, variant) for variant in request.variants
        ]
        if any(map(needs_weights, mixtures)):
            raise InvalidRequest("edits of routed experts cannot be served by vLLM")
        return self._lines(base, request, asked, mixtures)

    async def _lines(
        self,
        base: BaseModel,
        request: GenerationRequest,
        asked: Sequence[Asked],
        mixtures: Sequence[Mixture],
    ) -> AsyncGenerator[Line]:
        """All choices at the same time, each a request of its own."""
        lines: asyncio.Queue[Line | None] = asyncio.Queue(maxsize=1024)
        tokens = TokenNames(base.tokenizer) if request.sampling.logprobs is not None else None
        tasks = []
        self._busy += len(asked)
        try:
            for one in asked:
                body = _body(request.sampling, one)
                reader = self._adapted(base, mixtures[one.variant], one, body, tokens)
                tasks.append(asyncio.create_task(_pass_on(reader, lines)))
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
            self._busy -= len(asked)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _adapted(
        self,
        base: BaseModel,
        mixture: Mixture,
        asked: Asked,
        body: dict[str, Any],
        names: TokenNames | None,
    ) -> AsyncGenerator[Line]:
        """One choice, while the server has the adapter that it needs."""
        for last in (False, True):
            adapter = await self._adapters.hold(base, mixture)
            try:
                own = {**body, "model": adapter}
                async with aclosing(self._choice(asked, own, names)) as lines:
                    async for line in lines:
                        yield line
                return
            except _Lost as error:
                if last:
                    raise Unavailable(f"vLLM: {error}", code="generation_failed") from error
                # It was started anew, perhaps with other weights.
                self._adapters.lose()
                self._contexts.clear()
                await self._checked(base)
            finally:
                self._adapters.release(adapter)

    async def _choice(
        self, asked: Asked, body: dict[str, Any], names: TokenNames | None
    ) -> AsyncGenerator[Line]:
        index, reason = asked.index, None
        usage: dict[str, Any] = {}
        async with self._http.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                await answer.aread()
                raise _refused(answer)
            if asked.echo:
                yield TextPiece(index=index, text=asked.echo)
            async for line in lines_of(answer.aiter_bytes()):
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise Unavailable(f"vLLM: {event['error']}", code="generation_failed")
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    reason = choice.get("finish_reason") or reason
                    told = _scored(choice.get("logprobs"), names)
                    if choice.get("text") or told:
                        yield TextPiece(index=index, text=choice.get("text") or "", tokens=told)
        if reason not in ("stop", "length"):
            raise Unavailable(
                "the vLLM server broke off" + (f": {reason}" if reason else ""),
                code="generation_failed",
            )
        yield Finished(
            index=index,
            finish_reason="length" if reason == "length" else "stop",
            prompt_tokens=int(usage.get("prompt_tokens", len(asked.ids))),
            completion_tokens=int(usage.get("completion_tokens", 0)),
        )

    async def _probed(self, model: str, prompt: Sequence[int]) -> list[float]:
        """How likely the base model there finds the tokens of a prompt but the first."""
        answer = await self._http.post(
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
        answer.raise_for_status()
        told: list[float] = answer.json()["choices"][0]["logprobs"]["token_logprobs"]
        return told[1 : len(prompt)]

    async def _checked(self, base: BaseModel) -> int:
        """The context of the base model on the server, if it is the right one.

        Raises:
            BaseModelUnavailable: its weights say something else about a text.
            Unavailable: the server cannot be reached.
        """
        async with self._checking:
            if base.fingerprint not in self._contexts:
                self._contexts[base.fingerprint] = await self._check(base)
            return self._contexts[base.fingerprint]

    async def _check(self, base: BaseModel) -> int:
        try:
            answer = await self._http.get("/v1/models")
            answer.raise_for_status()
            (own,) = [one for one in answer.json()["data"] if one.get("parent") is None]
            left = [one["id"] for one in answer.json()["data"] if one.get("parent")]
            await self._adapters.forget(left)
            found = await self._probed(own["id"], probe_tokens(base))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(
                f"the vLLM server at {self._settings.vllm_url} cannot be used: {error}",
                code="no_generator",
            ) from error
        expected = await run_in_threadpool(probe_logprobs, base, self._settings)
        distance = apart(expected, found)
        if distance > MOST_APART:
            raise BaseModelUnavailable(
                f"the vLLM server at {self._settings.vllm_url} does not hold "
                f"{self._settings.vllm_base_model}: log-probabilities of a text differ by "
                f"{distance:.2f} nats a token"
            )
        _log.info("vLLM holds the base model", name=own["id"], apart=round(distance, 4))
        return int(own.get("max_model_len") or base.context_length)


def _asked(base: BaseModel, request: GenerationRequest, context: int) -> list[Asked]:
    """The choices of a request that the server can answer."""
    sampling = request.sampling
    if sampling.echo and sampling.logprobs is not None:
        # vLLM 0.32 for CPUs ends its engine when it is asked for them beside an adapter.
        raise InvalidRequest.at(
            "/echo",
            "log-probabilities of a prompt are told by Scalpel's own engine only, not through "
            "vLLM: leave out echo or logprobs",
            "not_supported",
        )
    sampling_params(base, sampling)  # refuses a bias on what is no token
    if sampling.seed is not None:
        small = sampling.model_copy(update={"seed": sampling.seed % 2**31})
        request = request.model_copy(update={"sampling": small})
    return list(walk(base, request, context))


def _body(sampling: Sampling, asked: Asked) -> dict[str, Any]:
    """What the server is asked for a choice, but for the model."""
    body: dict[str, Any] = {
        "prompt": asked.ids,
        "max_tokens": asked.length,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "min_p": sampling.min_p,
        "seed": asked.seed,
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


async def _pass_on(reader: AsyncGenerator[Line], lines: asyncio.Queue[Line | None]) -> None:
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


def _scored(told: dict[str, Any] | None, names: TokenNames | None) -> tuple[ScoredToken, ...]:
    """Log-probabilities as the server tells them, in its old form with `token_id:5` for tokens."""
    if told is None or names is None:
        return ()
    found = []
    for token, logprob, top in zip(
        told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
    ):
        id = _id(token)
        scores = None
        if logprob is not None:
            likely = sorted(
                ((_id(one), float(value)) for one, value in (top or {}).items()),
                key=lambda pair: -pair[1],
            )
            scores = Scores(id, float(logprob), tuple(likely))
        found.append(names.named(scores, id))
    return tuple(found)


def _id(token: str) -> int:
    return int(token.removeprefix("token_id:"))


class _Lost(Exception):
    """The server does not know the adapter."""


def _refused(answer: httpx.Response) -> Exception:
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {answer.status_code}"
    if answer.status_code == 404:
        return _Lost(message)
    if answer.status_code == 400:
        return InvalidRequest(f"vLLM: {message}")
    return Unavailable(f"vLLM: {message}", code="generation_failed")
