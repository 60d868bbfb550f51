"""`python -m workers.editor`: do the work of one pool until stopped."""

from __future__ import annotations

import os
import signal
import sys
import time

import redis
import structlog

# Asked whether there is a GPU, torch would by default start the driver, and a child forked after
# that could not use it. To be set before torch is imported.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

from models_store.errors import ScalpelError
from models_store.live.heartbeats import Heartbeat, internal_token
from models_store.live.keys import EDITORS
from models_store.live.leases import connect
from models_store.live.redis import redis_url
from models_store.operator.policy import read_policy
from models_store.process import logs
from models_store.settings import Settings
from workers.editor.process.exits import leave
from workers.editor.process.worker import EditorWorker

_log = structlog.get_logger()
_REDIS_PAUSE_SECONDS = 0.5


def main() -> int:
    settings = Settings()
    logs.configure()
    try:
        read_policy(settings)  # a mistake in it must not fail edits one by one
        live = connect(settings)
    except ScalpelError as error:
        print(f"scalpel: {error.message}", file=sys.stderr)
        return 1
    # Takes seconds: not before it is known that there is something to start.
    from workers.editor.process.preload import preload

    preload()
    worker = EditorWorker(settings, _redis(settings))
    token = internal_token(settings)
    heartbeat = Heartbeat(live, f"{EDITORS}{worker.name}", token, lambda: worker.description)
    worker.on_change = heartbeat.beat
    worker.on_drain = heartbeat.stop
    _log.info("editor ready", name=worker.name, pool=settings.pool)
    with heartbeat:
        worker.work(logging_level="WARNING")
    return 0


def _redis(settings: Settings) -> redis.Redis:
    """A client for RQ, once Redis answers: RQ itself gives up at once when it does not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    waited = False
    while True:
        client = redis.Redis.from_url(redis_url(settings))
        try:
            client.ping()
            return client
        except redis.RedisError as error:
            if not waited:
                _log.warning("waiting for Redis", error=str(error))
            waited = True
            time.sleep(_REDIS_PAUSE_SECONDS)


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as end:  # by a signal
        code = end.code if isinstance(end.code, int) else 0
    leave(code)  # to take down what was imported would take longer than all the rest of a drain
