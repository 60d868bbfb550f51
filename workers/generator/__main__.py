"""`python -m workers.generator`: serve the variants of base models until a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import structlog
import uvicorn

from models_store.errors import ScalpelError
from models_store.live.heartbeats import Heartbeat, internal_token
from models_store.live.keys import GENERATORS
from models_store.live.leases import connect
from models_store.objects.store import open_store
from models_store.process import logs
from models_store.settings import Settings, is_loopback
from workers.generator.engine.builtin import BuiltIn
from workers.generator.engine.engine import Engine
from workers.generator.protocol import TextEngine, TextReader
from workers.generator.server import create_server
from workers.generator.shelf import Shelf
from workers.generator.vllm.vllm import VllmEngine

_log = structlog.get_logger()


class _Server(uvicorn.Server):
    """On a signal, streams may go on for a while; then they end with an error."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: TextEngine,
        heartbeat: Heartbeat,
        drain_seconds: float,
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._heartbeat = heartbeat
        self._drain_seconds = drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        # Stopped now, so that new requests go to other generators. Otherwise it would outlive this
        # process: uvicorn raises the signal again, which kills it at once.
        self._heartbeat.stop()
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        limit = time.monotonic() + self._drain_seconds
        while self._engine.busy and time.monotonic() < limit:
            time.sleep(0.05)
        self._engine.close()


def main() -> int:
    settings = Settings()
    logs.configure()
    token = internal_token(settings)
    if not token and not is_loopback(settings.generator_host):
        print(
            "scalpel: set SCALPEL_INTERNAL_TOKEN, the same for the API and the generators: "
            f"without it a generator may listen on a loopback address only, not on "
            f"{settings.generator_host}",
            file=sys.stderr,
        )
        return 2
    try:
        engine, reader = _engine(settings, Shelf(settings, open_store(settings)))
        redis = connect(settings)
    except ScalpelError as error:
        print(f"scalpel: {error.message}", file=sys.stderr)
        return 1
    with socket.create_server((settings.generator_host, settings.generator_port)) as listener:
        port = listener.getsockname()[1]
        name = f"{socket.gethostname()}-{os.getpid()}"
        heartbeat = Heartbeat(
            redis,
            f"{GENERATORS}{name}",
            token,
            lambda: {
                "name": name,
                "url": f"http://{settings.generator_host}:{port}",
                "base_models": list(engine.base_models),
                "serves": engine.serves,
                "reads": reader is not None,
                "busy": engine.busy,
                "pid": os.getpid(),
            },
        )
        config = uvicorn.Config(
            create_server(engine, reader, token),
            log_config=None,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=int(settings.drain_seconds) + 2,
        )
        server = _Server(config, engine, heartbeat, settings.drain_seconds)
        _log.info("generator ready", name=name, port=port)
        # uvicorn raises the signal again after a clean shutdown; that is not a failure.
        with heartbeat, contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            server.run(sockets=[listener])
    return 0


def _engine(settings: Settings, shelf: Shelf) -> tuple[TextEngine, TextReader | None]:
    if settings.engine == "vllm":
        return VllmEngine(settings, shelf), None
    builtin = BuiltIn(shelf, Engine(kv_bytes=settings.kv_cache_bytes))
    return builtin, builtin


if __name__ == "__main__":
    sys.exit(main())
