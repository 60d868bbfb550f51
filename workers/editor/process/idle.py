"""The process that prepares base models while an editor has nothing else to do."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Collection
from multiprocessing.connection import Connection

import structlog

from models_store.process.lifetimes import die_with_parent
from models_store.settings import Settings

_log = structlog.get_logger()
_QUIET_SECONDS = 1.0
"""Work that comes so soon does not find it busy."""
_NICENESS = 10
"""Added to that of the editor: a generator on the same machine goes first."""
_FORKED = multiprocessing.get_context("fork")


class IdleProcess:
    """A child that ends by itself when there is nothing left to prepare.

    It has no lease, nobody waits for it, and what it has made is in the store: it can be ended at
    any moment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: multiprocessing.process.BaseProcess | None = None
        self._prepared: set[str] = set()
        """Registrations of the base models that are prepared."""

    def start(self) -> None:
        """Go on with what is not prepared."""
        self.stop()
        if not self._settings.prepare:
            return
        self._news, to_parent = _FORKED.Pipe(duplex=False)
        arguments = (self._settings, frozenset(self._prepared), to_parent, os.getpid())
        process = _FORKED.Process(target=_prepare, args=arguments, daemon=True)
        with to_parent:
            try:
                process.start()
            except OSError as error:
                _log.warning("no room for a process that prepares", error=str(error))
            else:
                self._process = process

    def stop(self) -> None:
        """End the process, if there is one, at once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.join()
        with self._news, contextlib.suppress(EOFError):
            while self._news.poll():
                self._prepared.add(self._news.recv())
        process.close()

    def tidy(self) -> None:
        """Clean up after a process that has ended."""
        if self._process is not None and not self._process.is_alive():
            self.stop()


def _prepare(
    settings: Settings, prepared: Collection[str], to_parent: Connection, parent: int
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent(parent)
    os.nice(_NICENESS)
    time.sleep(_QUIET_SECONDS)
    # Takes seconds, but the parent has imported it.
    from workers.editor import preparing

    for registration in preparing.run(settings, prepared):
        to_parent.send(registration)
