"""An S3 server (moto), in this process or in one of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
}
"""In the environment of who uses it."""
_SPAWNED = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def running_s3(put_seconds: float = 0.0) -> Iterator[str]:
    """Its address.

    Args:
        put_seconds: what a put takes longer; several at once wait together.
    """
    # Slow to import, and few tests need it.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    app, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def atomic(environ: Any, start_response: Any) -> Iterable[bytes]:
        if put_seconds and environ["REQUEST_METHOD"] == "PUT":
            time.sleep(put_seconds)
        # moto looks and writes in two steps; a real server's conditional create is one.
        with one_at_a_time:
            response: Iterable[bytes] = app(environ, start_response)
            return response

    server = make_server("127.0.0.1", 0, atomic, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def s3_process(put_seconds: float = 0.0) -> Iterator[str]:
    """The same in a process of its own, which takes no time of this one's."""
    here, there = _SPAWNED.Pipe()
    process = _SPAWNED.Process(target=_serve, args=(put_seconds, there), daemon=True)
    process.start()
    there.close()
    try:
        url: str = here.recv()
        yield url
    finally:
        process.kill()
        process.join()


def _serve(put_seconds: float, starter: Connection) -> None:
    with running_s3(put_seconds) as url, contextlib.suppress(EOFError):
        starter.send(url)
        starter.recv()  # ends with the one who started it
