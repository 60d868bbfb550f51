"""A real generator in a thread of this process, on a port that is free."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator

import redis
import uvicorn

from models_store.live import keys as redis_keys
from models_store.live.heartbeats import signed
from models_store.objects.store import ObjectStore
from models_store.settings import Settings
from workers.generator.engine.builtin import BuiltIn
from workers.generator.engine.engine import Engine
from workers.generator.server import create_server
from workers.generator.shelf import Shelf


@contextlib.contextmanager
def running_generator(
    settings: Settings, objects: ObjectStore, client: redis.Redis
) -> Iterator[Engine]:
    """The generator's engine, while the API can find the generator."""
    engine = Engine()
    app = create_server(
        own := BuiltIn(Shelf(settings, objects), engine), own, settings.internal_token
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the generator does not start"
        time.sleep(0.002)
    port = server.servers[0].sockets[0].getsockname()[1]
    heartbeat = {"name": "real", "url": f"http://127.0.0.1:{port}", "busy": 0, "pid": 1}
    heartbeat |= {"base_models": [], "at": time.time()}
    key = f"{redis_keys.GENERATORS}real"
    value = signed(settings.internal_token, key, json.dumps(heartbeat).encode())
    client.set(key, value, ex=600)
    try:
        yield engine
    finally:
        server.should_exit = True
        thread.join(10)
        engine.close()
        assert not thread.is_alive(), "the generator does not end"
