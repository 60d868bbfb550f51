"""Asking a generator for text: which one, and what when it fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import httpx
import structlog
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from app.domain.accounts.in_flight import InFlight
from app.domain.accounts.rates import Rates
from app.domain.events.live_state import Generator, LiveState
from app.http import rate_limits
from app.http.errors import GenerationFailed
from app.http.sse import begun
from models_store.errors import (
    CorruptArtifact,
    FieldError,
    InvalidRequest,
    Malformed,
    NotFound,
    ScalpelError,
    Unavailable,
)
from models_store.net.lines import lines_of
from models_store.schemas.generation import (
    Finished,
    GenerationError,
    GenerationRequest,
    ScoredToken,
    TextPiece,
    generation_line,
)

_log = structlog.get_logger()
T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")

_TRIES = 2
_PASSING = ("overloaded", "no_generator")
_LOOK_SECONDS = 0.5
_RETRY_AFTER_SECONDS = 3
# A generator may have others to serve first, or a base model to load; then it is silent.
_TIMEOUT = httpx.Timeout(600.0, connect=2.0)


@dataclass(frozen=True)
class CompletedChoice:
    """One complete response."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[ScoredToken, ...] = ()
    """Empty unless requested."""


class _Broken(Exception):
    """This generator cannot do it; another may."""

    def __init__(self, message: str, code: str = "generation_failed") -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _TokenCount:
    """Tokens of a response so far; a piece of text is one at least, a scored prompt its tokens."""

    scores_prompts: bool
    pieces: Counter[int] = field(default_factory=Counter)

    def add(self, line: TextPiece | Finished) -> None:
        if isinstance(line, Finished):
            scored = line.prompt_tokens if self.scores_prompts else 0
            self.pieces[line.index] = line.completion_tokens + scored
        else:
            self.pieces[line.index] += 1

    @property
    def tokens(self) -> int:
        return self.pieces.total()


class Generators:
    """The generators that are there, by their heartbeats."""

    def __init__(self, live: LiveState, rates: Rates, in_flight: InFlight, token: str) -> None:
        self._live = live
        self._rates = rates
        self._in_flight = in_flight
        self._token = token
        self._known: Sequence[Generator] = ()
        self._asked: Counter[str] = Counter()
        """Requests of this process that are under way: heartbeats come too late."""

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None),
            headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
            trust_env=False,
        )

    async def close(self) -> None:
        if "_http" in self.__dict__:
            await self._http.aclose()

    async def lines(self, request: GenerationRequest) -> AsyncGenerator[TextPiece | Finished]:
        """What a generator says, line by line; it stops when this is closed.

        A generator that fails before its first line is replaced, once. What the request may come
        to is reserved of the tenant's tokens, and what it did not come to given back.

        Raises:
            Unavailable: `no_generator`; `overloaded`.
            GenerationFailed: it broke off.
            InvalidRequest, Malformed, NotFound, CorruptArtifact: the generator refuses the request.
            QuotaExceeded: `rate_limited`, the tenant's tokens are used up, or too many prompts
                of its that are scored are under way.
        """
        scores = request.most_prompt_scores
        held = self._in_flight.hold(request.tenant, "scores", scores) if scores else nullcontext()
        with held:
            async with aclosing(self._counted(request)) as lines:
                async for line in lines:
                    yield line

    async def _counted(self, request: GenerationRequest) -> AsyncGenerator[TextPiece | Finished]:
        most = request.most_tokens
        rate_limits.report(
            await run_in_threadpool(self._rates.reserve_tokens, request.tenant, most)
        )
        count = _TokenCount(request.scores_prompts)
        try:
            tries = self._tries(request.base_model, partial(self._generate, request))
            async with aclosing(tries) as lines:
                async for line in lines:
                    count.add(line)
                    yield line
        finally:
            # In a thread of its own: who has left must not cut it short.
            unused = most - count.tokens
            give_back = partial(self._rates.give_back_tokens, request.tenant, unused)
            asyncio.get_running_loop().run_in_executor(None, give_back)

    async def begun(self, request: GenerationRequest) -> AsyncGenerator[TextPiece | Finished]:
        """The same once the first line is there: errors before it are raised here."""
        return await begun(self.lines(request))

    async def collect(self, request: GenerationRequest, client: Request) -> list[CompletedChoice]:
        """All choices when they are complete; given up when the client has left."""
        texts: dict[int, str] = {}
        tokens: dict[int, list[ScoredToken]] = {}
        ends: dict[int, Finished] = {}
        looked_at = time.monotonic()
        async with aclosing(self.lines(request)) as lines:
            async for line in lines:
                if isinstance(line, TextPiece):
                    texts[line.index] = texts.get(line.index, "") + line.text
                    tokens.setdefault(line.index, []).extend(line.tokens)
                else:
                    ends[line.index] = line
                if time.monotonic() > looked_at + _LOOK_SECONDS:
                    looked_at = time.monotonic()
                    if await client.is_disconnected():
                        raise GenerationFailed("the client has left")
        return [
            CompletedChoice(
                texts.get(index, ""),
                ends[index].finish_reason,
                ends[index].prompt_tokens,
                ends[index].completion_tokens,
                tuple(tokens.get(index, ())),
            )
            for index in sorted(ends)
        ]

    async def call(self, path: str, base_model: str, body: BaseModel, kind: type[T]) -> T:
        """The whole response of a generator, as `kind`; one that fails is replaced, once.

        Raises:
            Unavailable: `no_generator`; `overloaded`.
            GenerationFailed: it broke off.
            InvalidRequest, Malformed, NotFound, CorruptArtifact: the generator refuses.
        """
        sent = await run_in_threadpool(body.model_dump_json)
        attempt = partial(self._post_once, path, sent, kind)
        async with aclosing(self._tries(base_model, attempt, reading=True)) as results:
            return await anext(results)

    async def _tries(
        self,
        base_model: str,
        attempt: Callable[[Generator], AsyncGenerator[R]],
        *,
        reading: bool = False,
    ) -> AsyncGenerator[R]:
        """What `attempt` yields of the best generator; of another one if that fails before."""
        candidates = await self._candidates(base_model, reading=reading)
        begun = False
        for number, generator in enumerate((candidates * _TRIES)[:_TRIES], start=1):
            self._asked[generator.name] += 1
            try:
                async with aclosing(attempt(generator)) as results:
                    async for result in results:
                        begun = True
                        yield result
                return
            except _Broken as error:
                _log.warning("a generator failed", generator=generator.name, error=str(error))
                if error.code in _PASSING and not begun and number == _TRIES:
                    raise _unavailable(
                        f"the generator {generator.name}: {error}", error.code
                    ) from error
                if begun or number == _TRIES:
                    raise GenerationFailed(f"the generator broke off: {error}") from error
            finally:
                self._asked[generator.name] -= 1

    async def _candidates(self, base_model: str, *, reading: bool = False) -> list[Generator]:
        """The best first: those that hold the base model, then those with the least to do."""
        seen = await run_in_threadpool(self._live.generators)
        if seen is not None:
            self._known = seen
        # Without Redis those that were there a moment ago are as good as any.
        if not self._known:
            raise _unavailable(
                "no generator is running: start one with `scalpel generator` or `scalpel up`"
            )
        suitable = [
            generator
            for generator in self._known
            if (generator.serves is None or base_model in generator.serves)
            and (generator.reads or not reading)
        ]
        if not suitable:
            raise _unavailable(
                f"no generator that is running can {'read texts' if reading else 'speak'} with "
                f"{base_model}"
            )
        return sorted(
            suitable,
            key=lambda generator: (
                base_model not in generator.base_models,
                max(generator.busy, self._asked[generator.name]),
                generator.name,
            ),
        )

    async def _generate(
        self, request: GenerationRequest, generator: Generator
    ) -> AsyncGenerator[TextPiece | Finished]:
        missing = len(request.prompts) * request.n
        async with self._post(
            generator, "/internal/generate", request.model_dump_json()
        ) as response:
            async for text in lines_of(response.aiter_bytes()):
                line = generation_line.validate_json(text)
                if isinstance(line, GenerationError):
                    raise _Broken(line.message, line.code)
                missing -= isinstance(line, Finished)
                yield line
        if missing:
            raise _Broken("it ended before its response was complete")

    async def _post_once(
        self, path: str, body: str, kind: type[T], generator: Generator
    ) -> AsyncGenerator[T]:
        async with self._post(generator, path, body) as response:
            yield kind.model_validate_json(await response.aread())

    @asynccontextmanager
    async def _post(
        self, generator: Generator, path: str, body: str
    ) -> AsyncIterator[httpx.Response]:
        """The response of a generator that begins; errors inside mean that it is broken."""
        try:
            async with self._http.stream(
                "POST",
                f"{generator.url.rstrip('/')}{path}",
                content=body,
                headers={"Content-Type": "application/json"},
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refusal(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Broken("it cannot be reached", "no_generator") from error
        except httpx.TransportError as error:
            raise _Broken(f"{type(error).__name__}: {error}") from error
        except ValidationError as error:
            raise _Broken("it says something that is not understood") from error


def _unavailable(message: str, code: str = "no_generator") -> Unavailable:
    return Unavailable(message, code=code, retry_after=_RETRY_AFTER_SECONDS)


def _refusal(response: httpx.Response) -> Exception:
    """The error that the response of a generator means."""
    try:
        body: Any = response.json()
        code, message = str(body["code"]), str(body["message"])
        errors = [FieldError(**entry) for entry in body.get("errors", ())]
    except (ValueError, KeyError, TypeError):
        code, message, errors = "generation_failed", f"status {response.status_code}", []
    if code == InvalidRequest.code:
        return InvalidRequest(message, errors=errors)
    kinds: dict[int, type[ScalpelError]] = {400: Malformed, 404: NotFound}
    kind = kinds.get(response.status_code)
    if kind is not None:
        return kind(message, code=code)
    if code == CorruptArtifact.code:
        return CorruptArtifact(message)
    return _Broken(message, code)
