"""LoRA adapters on a vLLM server: made on first use, the least recently used unloaded."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path

import httpx
import structlog
import torch
from starlette.concurrency import run_in_threadpool

from models_store.errors import Unavailable
from models_store.weights.architectures import OUTPUT
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, to_peft
from workers.runtime.edits.deltas import stored_terms
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, Term, flatten, make_term

PREFIX = "scalpel-"
"""Of the names of Scalpel's adapters."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM accepts."""
_log = structlog.get_logger()


class Adapters:
    """The adapters on the server, at most as many as it has room for."""

    def __init__(self, http: httpx.AsyncClient, folder: Path, most: int) -> None:
        self._http = http
        self._folder = folder
        self._most = most
        self._loaded: OrderedDict[str, None] = OrderedDict()
        """Names, the least recently used first."""
        self._loading: set[str] = set()
        self._users: Counter[str] = Counter()
        self._waiters: list[asyncio.Future[None]] = []

    async def acquire(self, base: LoadedModel, mixture: Mixture) -> str:
        """Load an adapter for the mixture and keep it on the server until it is released.

        The base model has one too, of zeros: vLLM 0.32 for CPUs applies the last adapter to rows
        without one, if other rows of the batch have one.

        Returns:
            The adapter's name.

        Raises:
            InvalidRequest: these edits cannot become an adapter.
            Unavailable: the server cannot be reached, or refuses the adapter.
        """
        name = adapter_name(mixture)
        while name not in self._loaded:
            idle = next((other for other in self._loaded if not self._users[other]), None)
            full = len(self._loaded) + len(self._loading) >= self._most
            if name in self._loading or (full and idle is None):
                await self._wait()
                continue
            self._loading.add(name)
            if full and idle is not None:
                del self._loaded[idle]
            try:
                if full and idle is not None:
                    await self._unload(idle)
                await self._load(base, name, mixture)
                self._loaded[name] = None
            finally:
                self._loading.discard(name)
                self._wake()
        self._loaded.move_to_end(name)
        self._users[name] += 1
        return name

    def release(self, name: str) -> None:
        """End one use of an adapter."""
        self._users[name] -= 1
        self._wake()

    def clear_all(self) -> None:
        """Note that the server was restarted and has no adapters any more."""
        self._loaded.clear()
        self._wake()

    async def unload_stale(self, names: Sequence[str]) -> None:
        """Unload adapters that an earlier process left on the server."""
        for name in names:
            if name.startswith(PREFIX) and name not in self._loaded:
                await self._unload(name)

    async def _wait(self) -> None:
        """Wait until an adapter was loaded or released."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _load(self, base: LoadedModel, name: str, mixture: Mixture) -> None:
        folder = self._folder / name
        await run_in_threadpool(_write, base, mixture, folder)
        try:
            response = await self._http.post(
                "/v1/load_lora_adapter",
                json={"lora_name": name, "lora_path": str(folder), "load_inplace": True},
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the vLLM server cannot be reached: {error or type(error).__name__}",
                code="no_generator",
            ) from error
        if response.status_code != 200:
            raise Unavailable(
                f"the vLLM server does not take an adapter: {response.text[:300]}",
                code="generation_failed",
            )

    async def _unload(self, name: str) -> None:
        try:
            response = await self._http.post("/v1/unload_lora_adapter", json={"lora_name": name})
        except httpx.HTTPError as error:
            _log.warning("an adapter could not be unloaded", name=name, error=str(error))
        else:
            if response.status_code not in (200, 404):
                _log.warning(
                    "an adapter could not be unloaded", name=name, said=response.text[:300]
                )
        await run_in_threadpool(shutil.rmtree, self._folder / name, ignore_errors=True)


def adapter_name(mixture: Mixture) -> str:
    """A name that depends on the change alone: a digest of terms and strengths."""
    digest = hashlib.sha256()
    for term, strength in flatten(mixture):
        digest.update(f"{term.digest}@{strength!r}\n".encode())
    return PREFIX + digest.hexdigest()[:32]


def _zero_term(base: LoadedModel) -> Term:
    """A term that changes nothing."""
    key = next(base.architecture.matrices(OUTPUT))
    size = base.model.get_submodule(base.architecture.tensor(key).removesuffix(".weight"))
    return make_term(key, torch.zeros(size.in_features), torch.tensor([0]), torch.zeros(1))


def _write(base: LoadedModel, mixture: Mixture, folder: Path) -> None:
    mixture = mixture or [([_zero_term(base)], 1.0)]
    weighted = stored_terms(mixture, base.fingerprint)
    shapes = base.linear_shapes()
    config, weights = to_peft(weighted, shapes, base.architecture, ranks=RANKS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(json.dumps(config), encoding="utf-8")
    (folder / WEIGHTS_NAME).write_bytes(weights)
