"""An S3 server (moto) in this process."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
}
"""In the environment of who uses it."""


@contextlib.contextmanager
def running_s3() -> Iterator[str]:
    """Its address."""
    # Slow to import, and few tests need it.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    app, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def atomic(environ: Any, start_response: Any) -> Iterable[bytes]:
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
