"""The API under uvicorn, in a way that ends cleanly while clients are listening."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import socket
import sys
import threading
from types import FrameType

import uvicorn

from app.main import create_app
from app.server.connections import BoundedProtocol, Connections, allow_many_files
from app.services import Services
from models_store.process import logs
from models_store.settings import Settings

_TICKS_PER_SECOND = 10
_SETTLED_SECONDS = 2.0
_COLLECT_AFTER = 20_000, 20, 100
"""Thresholds of the garbage collector. A large response has a million objects, none of them in a
cycle: with Python's own thresholds it is looked through again and again while it is made."""
_SWITCH_SECONDS = 0.001
"""After which a thread that computes gives way to the others, the event loop among them: with
Python's own 5 ms, each step of a request waits so long while a large response is put together."""


class ApiServer(uvicorn.Server):
    """Notifies event streams and long polls that it is about to stop.

    uvicorn waits for open requests, and these would go on for ever. Meanwhile it looks after
    connections whose clients are too slow.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._all = Connections(services.settings)
        self.server_state = self._all
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """As uvicorn's, but it sleeps for a second, which a signal ends, and not for a tenth."""
        self._loop = asyncio.get_running_loop()
        self._exit = asyncio.Event()
        counter = 0
        while not await self.on_tick(counter):
            self._all.sweep(self._loop.time())
            counter += _TICKS_PER_SECOND
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exit.wait(), 1)
        self._loop = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which waits a tenth of a second though nobody is connected."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # who has just been let in is connected now
        if self._all.connections or self._all.tasks:
            await super().shutdown(sockets)
            return
        for listener in sockets or []:
            listener.close()
        if not self.force_exit:
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._services.draining.set()
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._exit.set)


def make_server(settings: Settings, *, with_keeper: bool = True) -> ApiServer:
    """The server, not yet listening.

    Raises:
        InvalidRequest: the settings are wrong.
    """
    logs.configure()
    app = create_app(settings, with_keeper=with_keeper)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    return ApiServer(config, app.state.services)


def serve(settings: Settings) -> None:
    """Run the API and the keeper until SIGTERM or SIGINT."""
    allow_many_files()
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = make_server(settings)
    settling = threading.Timer(_SETTLED_SECONDS, _settle)
    settling.daemon = True
    settling.start()
    server.run()


def _settle() -> None:
    """What is there after the start stays to the end: each full collection would look through it
    again, which takes longer than most requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    gc.enable()
