"""LoRA adapters on a vLLM server: made when a variant is asked for, the least recent taken away."""

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
from torch import nn

from models_store.errors import Unavailable
from models_store.weights.architectures import OUTPUT
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, to_peft
from workers.runtime.deltas import to_delta
from workers.runtime.loading import BaseModel
from workers.surgery.terms import Mixture, Term, flatten, make_term

PREFIX = "scalpel-"
"""Of the names of adapters that are ours."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM takes."""
_log = structlog.get_logger()


class Adapters:
    """Those that the server holds now; no more than it has room for, all of them still in use."""

    def __init__(self, http: httpx.AsyncClient, folder: Path, most: int) -> None:
        self._http = http
        self._folder = folder
        self._most = most
        self._there: OrderedDict[str, None] = OrderedDict()
        """Names, the least recently used one first."""
        self._loading: set[str] = set()
        self._users: Counter[str] = Counter()
        self._waiters: list[asyncio.Future[None]] = []

    async def hold(self, base: BaseModel, mixture: Mixture) -> str:
        """See to it that the server has an adapter for the mixture until it is released.

        The base model has one too, of zeros: vLLM 0.32 for CPUs takes "no adapter" of a row for
        the last adapter when others of the batch have one.

        Returns:
            Its name.

        Raises:
            InvalidRequest: no adapter can be made of these edits.
            Unavailable: the server cannot be reached, or does not take it.
        """
        name = adapter_name(mixture)
        while name not in self._there:
            idle = next((one for one in self._there if not self._users[one]), None)
            full = len(self._there) + len(self._loading) >= self._most
            if name in self._loading or (full and idle is None):
                await self._change()
                continue
            self._loading.add(name)
            if full and idle is not None:
                del self._there[idle]
            try:
                if full and idle is not None:
                    await self._unload(idle)
                await self._load(base, name, mixture)
                self._there[name] = None
            finally:
                self._loading.discard(name)
                self._tell()
        self._there.move_to_end(name)
        self._users[name] += 1
        return name

    def release(self, name: str) -> None:
        """It is not used any more by one who held it."""
        self._users[name] -= 1
        self._tell()

    def lose(self) -> None:
        """The server was started anew and holds none any more."""
        self._there.clear()
        self._tell()

    async def forget(self, names: Sequence[str]) -> None:
        """Take away what an earlier process left on the server."""
        for name in names:
            if name.startswith(PREFIX) and name not in self._there:
                await self._unload(name)

    async def _change(self) -> None:
        """Wait until one was loaded or released."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _tell(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _load(self, base: BaseModel, name: str, mixture: Mixture) -> None:
        folder = self._folder / name
        await run_in_threadpool(_write, base, mixture, folder)
        try:
            answer = await self._http.post(
                "/v1/load_lora_adapter",
                json={"lora_name": name, "lora_path": str(folder), "load_inplace": True},
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the vLLM server cannot be reached: {error or type(error).__name__}",
                code="no_generator",
            ) from error
        if answer.status_code != 200:
            raise Unavailable(
                f"the vLLM server does not take an adapter: {answer.text[:300]}",
                code="generation_failed",
            )

    async def _unload(self, name: str) -> None:
        try:
            answer = await self._http.post("/v1/unload_lora_adapter", json={"lora_name": name})
        except httpx.HTTPError as error:
            _log.warning("an adapter could not be unloaded", name=name, error=str(error))
        else:
            if answer.status_code not in (200, 404):
                _log.warning("an adapter could not be unloaded", name=name, said=answer.text[:300])
        await run_in_threadpool(shutil.rmtree, self._folder / name, ignore_errors=True)


def adapter_name(mixture: Mixture) -> str:
    """The same for the same change, however it is called."""
    digest = hashlib.sha256()
    for term, strength in flatten(mixture):
        digest.update(f"{term.digest}@{strength!r}\n".encode())
    return PREFIX + digest.hexdigest()[:32]


def _nothing(base: BaseModel) -> Term:
    """A term that changes nothing."""
    key = next(base.architecture.matrices(OUTPUT))
    size = base.model.get_submodule(base.architecture.tensor(key).removesuffix(".weight"))
    return make_term(key, torch.zeros(size.in_features), torch.tensor([0]), torch.zeros(1))


def _write(base: BaseModel, mixture: Mixture, folder: Path) -> None:
    weighted = [
        (term, strength)
        for own, strength in mixture or [([_nothing(base)], 1.0)]
        for term in to_delta(own, base.fingerprint, "").terms
    ]
    shapes = {
        name: (module.out_features, module.in_features)
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear)
    }
    config, weights = to_peft(weighted, shapes, base.architecture, ranks=RANKS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).write_text(json.dumps(config), encoding="utf-8")
    (folder / WEIGHTS_NAME).write_bytes(weights)
