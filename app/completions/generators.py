"""Asking a generator for text: which one, and what when it fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import httpx
import structlog
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError

from app.domain.accounts.rates import Rates
from app.domain.events.live_state import Generator, LiveState
from app.http import standings
from app.http.errors import GenerationFailed
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

_TRIES = 2
_PASSING = ("overloaded", "no_generator")
_LOOK_SECONDS = 0.5
_RETRY_AFTER_SECONDS = 3
# A generator may have others to serve first, or a base model to load; then it is silent.
_TIMEOUT = httpx.Timeout(600.0, connect=2.0)


@dataclass(frozen=True)
class Choice:
    """One complete answer."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[ScoredToken, ...] = ()
    """Where they were asked for."""


class _Broken(Exception):
    """This generator cannot do it; another may."""

    def __init__(self, message: str, code: str = "generation_failed") -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _TokenCount:
    """Tokens that an answer has come to so far; a piece of text is one at least."""

    pieces: Counter[int] = field(default_factory=Counter)

    def add(self, line: TextPiece | Finished) -> None:
        if isinstance(line, Finished):
            self.pieces[line.index] = line.completion_tokens
        else:
            self.pieces[line.index] += 1

    @property
    def tokens(self) -> int:
        return self.pieces.total()


class Generators:
    """The generators that are there, as their heartbeats tell."""

    def __init__(self, live: LiveState, rates: Rates, token: str) -> None:
        self._live = live
        self._rates = rates
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            trust_env=False,
        )
        self._known: Sequence[Generator] = ()
        self._asked: Counter[str] = Counter()
        """Requests of this process that are under way, which heartbeats tell of too late."""

    async def close(self) -> None:
        await self._http.aclose()

    async def lines(self, request: GenerationRequest) -> AsyncGenerator[TextPiece | Finished]:
        """What a generator says, line by line; it is told to stop when this is closed.

        A generator that fails before its first line is replaced, once. What the request may come
        to is reserved of the tenant's tokens, and what it did not come to given back.

        Raises:
            Unavailable: `no_generator`; `overloaded`.
            GenerationFailed: it broke off.
            InvalidRequest, Malformed, NotFound, CorruptArtifact: the generator refuses the request.
            QuotaExceeded: `rate_limited`, the tenant's tokens are used up.
        """
        most = request.most_tokens
        standings.tell(await run_in_threadpool(self._rates.reserve_tokens, request.tenant, most))
        count = _TokenCount()
        try:
            async with aclosing(self._lines(request)) as lines:
                async for line in lines:
                    count.add(line)
                    yield line
        finally:
            # In a thread of its own: who has left must not cut it short.
            unused = most - count.tokens
            give_back = partial(self._rates.give_back_tokens, request.tenant, unused)
            asyncio.get_running_loop().run_in_executor(None, give_back)

    async def _lines(self, request: GenerationRequest) -> AsyncGenerator[TextPiece | Finished]:
        candidates = await self._candidates(request.base_model)
        begun = False
        for number, generator in enumerate((candidates * _TRIES)[:_TRIES], start=1):
            self._asked[generator.name] += 1
            try:
                async with aclosing(self._ask(generator, request)) as answer:
                    async for line in answer:
                        begun = True
                        yield line
                return
            except _Broken as error:
                _log.warning("a generator failed", generator=generator.name, error=str(error))
                if error.code in _PASSING and not begun and number == _TRIES:
                    raise Unavailable(
                        f"the generator {generator.name}: {error}",
                        code=error.code,
                        retry_after=_RETRY_AFTER_SECONDS,
                    ) from error
                if begun or number == _TRIES:
                    raise GenerationFailed(f"the generator broke off: {error}") from error
            finally:
                self._asked[generator.name] -= 1

    async def collect(self, request: GenerationRequest, client: Request) -> list[Choice]:
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
            Choice(
                texts.get(index, ""),
                ends[index].finish_reason,
                ends[index].prompt_tokens,
                ends[index].completion_tokens,
                tuple(tokens.get(index, ())),
            )
            for index in sorted(ends)
        ]

    async def ask(self, path: str, base_model: str, question: BaseModel, kind: type[T]) -> T:
        """What a generator answers at once, as `kind`; one that fails is replaced, once.

        Raises:
            Unavailable: `no_generator`; `overloaded`.
            GenerationFailed: it broke off.
            InvalidRequest, Malformed, NotFound, CorruptArtifact: the generator refuses.
        """
        candidates = await self._candidates(base_model, reading=True)
        for number, generator in enumerate((candidates * _TRIES)[:_TRIES], start=1):
            self._asked[generator.name] += 1
            try:
                return await self._answer(generator, path, question, kind)
            except _Broken as error:
                _log.warning("a generator failed", generator=generator.name, error=str(error))
                if number < _TRIES:
                    continue
                message = f"the generator {generator.name}: {error}"
                if error.code in _PASSING:
                    raise Unavailable(
                        message, code=error.code, retry_after=_RETRY_AFTER_SECONDS
                    ) from error
                raise GenerationFailed(message) from error
            finally:
                self._asked[generator.name] -= 1
        raise AssertionError("there is at least one try")

    async def _answer(
        self, generator: Generator, path: str, question: BaseModel, kind: type[T]
    ) -> T:
        try:
            response = await self._http.post(
                f"{generator.url.rstrip('/')}{path}",
                content=question.model_dump_json(),
                headers={"Content-Type": "application/json"},
            )
            if response.status_code != 200:
                raise _refusal(response)
            return kind.model_validate_json(response.content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Broken("it cannot be reached", "no_generator") from error
        except httpx.TransportError as error:
            raise _Broken(f"{type(error).__name__}: {error}") from error
        except ValidationError as error:
            raise _Broken("it says something that is not understood") from error

    async def _candidates(self, base_model: str, *, reading: bool = False) -> list[Generator]:
        """The best first: those that hold the base model, then those with the least to do."""
        seen = await run_in_threadpool(self._live.generators)
        if seen is not None:
            self._known = seen
        # Without Redis those that were there a moment ago are as good as any.
        if not self._known:
            raise Unavailable(
                "no generator is running: start one with `scalpel generator` or `scalpel up`",
                code="no_generator",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        able = [
            one
            for one in self._known
            if (one.serves is None or base_model in one.serves) and (one.reads or not reading)
        ]
        if not able:
            raise Unavailable(
                f"no generator that is running can {'read texts' if reading else 'speak'} with "
                f"{base_model}",
                code="no_generator",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        return sorted(
            able,
            key=lambda one: (
                base_model not in one.base_models,
                max(one.busy, self._asked[one.name]),
                one.name,
            ),
        )

    async def _ask(
        self, generator: Generator, request: GenerationRequest
    ) -> AsyncGenerator[TextPiece | Finished]:
        url = f"{generator.url.rstrip('/')}/internal/generate"
        missing = len(request.prompts) * request.n
        try:
            async with self._http.stream(
                "POST",
                url,
                content=request.model_dump_json(),
                headers={"Content-Type": "application/json"},
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refusal(response)
                async for text in lines_of(response.aiter_bytes()):
                    line = generation_line.validate_json(text)
                    if isinstance(line, GenerationError):
                        raise _Broken(line.message, line.code)
                    missing -= isinstance(line, Finished)
                    yield line
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _Broken("it cannot be reached", "no_generator") from error
        except httpx.TransportError as error:
            raise _Broken(f"{type(error).__name__}: {error}") from error
        except ValidationError as error:
            raise _Broken("it says something that is not understood") from error
        if missing:
            raise _Broken("it ended before its answer was complete")


def _refusal(response: httpx.Response) -> Exception:
    """What the answer of a generator that does not begin means."""
    try:
        body: Any = response.json()
        code, message = str(body["code"]), str(body["message"])
        errors = [FieldError(**one) for one in body.get("errors", ())]
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
