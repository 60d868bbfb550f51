"""The API under uvicorn, in a way that ends cleanly while clients are listening."""

from __future__ import annotations

import math
from types import FrameType

import uvicorn

from app.main import create_app
from app.services import Services
from models_store import logs
from models_store.settings import Settings


class ApiServer(uvicorn.Server):
    """Tells those who wait (event streams, long polls) that it is about to stop.

    uvicorn waits for open requests, and these would go on for ever.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._services.draining.set()
        super().handle_exit(sig, frame)


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
        timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
    )
    return ApiServer(config, app.state.services)


def serve(settings: Settings) -> None:
    """Run the API and the keeper until SIGTERM or SIGINT."""
    make_server(settings).run()
