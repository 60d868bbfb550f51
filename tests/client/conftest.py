"""The client, with `async` and without, of a real API over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import httpx
import pytest

from scalpel_client import AsyncScalpel, Scalpel
from tests.app.conftest import api, generator, settings, worker
from tests.client.blocking import Blocking
from tests.client.proxy import Proxy, running_proxy
from tests.support.services import Api

__all__ = ["api", "generator", "settings", "worker"]

Connect = Callable[..., Scalpel]


@pytest.fixture(params=["blocking", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of an address; those with `async` are used as if they had none."""
    with ExitStack() as stack:
        if request.param == "blocking":

            def make(url: str, **options: Any) -> Scalpel:
                http = stack.enter_context(httpx.Client(trust_env=False))
                return stack.enter_context(Scalpel(url, http_client=http, **options))

        else:
            runner = stack.enter_context(asyncio.Runner())

            def make(url: str, **options: Any) -> Scalpel:
                http = httpx.AsyncClient(trust_env=False)
                stack.callback(lambda: runner.run(http.aclose()))
                client = AsyncScalpel(url, http_client=http, **options)
                stack.callback(lambda: runner.run(client.close()))
                return cast(Scalpel, Blocking(client, runner))

        yield make


@pytest.fixture
def client(connect: Connect, api: Api) -> Scalpel:
    return connect(api.url)


@pytest.fixture
def proxy(api: Api) -> Iterator[Proxy]:
    with running_proxy(api.url) as running:
        yield running
