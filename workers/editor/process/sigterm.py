"""Whether this process received SIGTERM."""

from __future__ import annotations

import os
import select
import signal


class Sigterm:
    """Takes SIGTERM from when it is made, in the main thread, instead of ending the process.

    The handler proper would have to wait for the main thread, which may be deep in native code;
    the byte that the interpreter writes into a pipe does not.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)

    def wait(self, seconds: float) -> bool:
        """Sleep, at most until SIGTERM has come or `wake` is called; True for the former."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        return bool(ready) and signal.SIGTERM in os.read(self._reader, 64)

    def wake(self) -> None:
        """End the sleep of the thread that waits."""
        os.write(self._writer, b"\0")

    def close(self) -> None:
        """From here on SIGTERM is ignored."""
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)
