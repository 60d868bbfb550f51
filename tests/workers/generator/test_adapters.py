"""Adapters on a vLLM server: made once, taken away when others need their place."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file

from models_store.errors import Unavailable
from tests.support.edits import random_edit
from workers.generator.vllm.adapters import PREFIX, RANKS, Adapters, adapter_name
from workers.runtime.loading import LoadedModel, load_outline
from workers.surgery.terms import Mixture


class Server:
    """What a vLLM server would hold."""

    def __init__(self, folder: Path) -> None:
        self.held: list[str] = []
        self.calls: list[str] = []
        self.status = 200
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://v")
        self.adapters = Adapters(http, folder, most=2)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        verb = "load" if request.url.path == "/v1/load_lora_adapter" else "unload"
        self.calls.append(f"{verb} {body['lora_name']}")
        if self.status != 200:
            return httpx.Response(self.status, text="no room")
        if verb == "load":
            config = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())
            assert config["r"] in RANKS
            self.held.append(body["lora_name"])
        elif body["lora_name"] in self.held:
            self.held.remove(body["lora_name"])
        return httpx.Response(200)


@pytest.fixture
def mixtures(pico: LoadedModel) -> list[Mixture]:
    return [[(random_edit(pico, seed=seed), 0.5)] for seed in range(3)]


@pytest.fixture
def outline(pico: LoadedModel) -> LoadedModel:
    return load_outline(pico.folder)


def test_the_least_recent_adapter_that_nobody_uses_gives_way(
    outline: LoadedModel, mixtures: list[Mixture], tmp_path: Path
) -> None:
    async def run() -> None:
        server = Server(tmp_path)
        acquire, release = server.adapters.acquire, server.adapters.release
        first, second = [await acquire(outline, own) for own in mixtures[:2]]
        assert await acquire(outline, mixtures[0]) == first
        for name in (first, first, second):
            release(name)
        third = await acquire(outline, mixtures[2])
        assert server.held == [first, third]
        assert not (tmp_path / str(second)).exists()
        assert [call.split()[0] for call in server.calls] == ["load", "load", "unload", "load"]

    asyncio.run(run())


def test_who_finds_all_places_in_use_waits_for_one(
    outline: LoadedModel, mixtures: list[Mixture], tmp_path: Path
) -> None:
    async def run() -> None:
        server = Server(tmp_path)
        first = await server.adapters.acquire(outline, mixtures[0])
        await server.adapters.acquire(outline, mixtures[1])
        waiting = asyncio.create_task(server.adapters.acquire(outline, mixtures[2]))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        server.adapters.release(first)
        assert await asyncio.wait_for(waiting, 10) in server.held
        assert first not in server.held

    asyncio.run(run())


def test_many_who_want_the_same_few_adapters_all_get_them(
    outline: LoadedModel, mixtures: list[Mixture], tmp_path: Path
) -> None:
    async def run() -> None:
        server = Server(tmp_path)

        async def one(mixture: Mixture) -> None:
            name = await server.adapters.acquire(outline, mixture)
            assert name in server.held
            await asyncio.sleep(0.001)
            server.adapters.release(name)

        async with asyncio.timeout(30):
            await asyncio.gather(*(one(own) for own in [*mixtures, *mixtures] * 4))
        assert len(server.held) == 2

    asyncio.run(run())


def test_one_who_leaves_while_waiting_holds_nothing(
    outline: LoadedModel, mixtures: list[Mixture], tmp_path: Path
) -> None:
    async def run() -> None:
        server = Server(tmp_path)
        first, second = [await server.adapters.acquire(outline, own) for own in mixtures[:2]]
        waiting = asyncio.create_task(server.adapters.acquire(outline, mixtures[2]))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        server.adapters.release(first)
        server.adapters.release(second)
        again = await server.adapters.acquire(outline, mixtures[2])
        server.adapters.release(again)
        for own in mixtures[:2]:
            server.adapters.release(await server.adapters.acquire(outline, own))

    asyncio.run(run())


def test_a_server_that_was_started_anew_gets_them_again(
    outline: LoadedModel, mixtures: list[Mixture], tmp_path: Path
) -> None:
    async def run() -> None:
        server = Server(tmp_path)
        name = await server.adapters.acquire(outline, mixtures[0])
        server.held.clear()
        server.adapters.clear_all()
        server.adapters.release(name)
        assert await server.adapters.acquire(outline, mixtures[0]) in server.held

    asyncio.run(run())


def test_an_adapter_that_is_not_taken_is_not_counted(
    outline: LoadedModel, mixtures: list[Mixture], tmp_path: Path
) -> None:
    async def run() -> None:
        server = Server(tmp_path)
        server.status = 400
        with pytest.raises(Unavailable, match="no room"):
            await server.adapters.acquire(outline, mixtures[0])
        server.status = 200
        assert await server.adapters.acquire(outline, mixtures[0]) in server.held

    asyncio.run(run())


def test_only_what_is_ours_is_forgotten(tmp_path: Path) -> None:
    server = Server(tmp_path)
    asyncio.run(server.adapters.unload_stale(["someone-elses", PREFIX + "old"]))
    assert server.calls == [f"unload {PREFIX}old"]


def test_the_base_model_has_an_adapter_of_zeros(
    pico: LoadedModel, outline: LoadedModel, tmp_path: Path
) -> None:
    server = Server(tmp_path)
    nothing: list[Mixture] = [(), [(random_edit(pico), 0.0)]]
    names = {asyncio.run(server.adapters.acquire(outline, own)) for own in nothing[:1]}
    names |= {adapter_name(own) for own in nothing}
    (name,) = names
    weights = load_file(tmp_path / name / "adapter_model.safetensors")
    assert all(not tensor.any() for tensor in weights.values())
    assert server.held == [name]


def test_a_name_tells_changes_apart_however_they_are_written(pico: LoadedModel) -> None:
    one, two = random_edit(pico, seed=1), random_edit(pico, seed=2)
    name = adapter_name([(one, 0.5), (two, 1.0)])
    assert adapter_name([(two, 1.0), (one, 0.5)]) == name
    assert adapter_name([(two, 1.0), (one, 0.4)]) != name


def test_an_outline_knows_what_needs_no_weights(pico: LoadedModel, outline: LoadedModel) -> None:
    assert outline.fingerprint == pico.fingerprint
    assert outline.vocabulary == pico.vocabulary
    assert outline.context_length == pico.context_length
    assert outline.stop_ids == pico.stop_ids
    assert outline.has_chat_template
    assert next(outline.model.parameters()).is_meta
