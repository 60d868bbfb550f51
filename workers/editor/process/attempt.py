"""One attempt, from its claim to its end: a thread keeps it alive and notices what ends it."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Self

import redis
import structlog

from models_store.errors import CorruptArtifact, Unavailable
from models_store.live.clock import SharedClock
from models_store.live.leases import attempt_lease, wake_keeper
from models_store.schemas.records import AttemptEnd, Claim, ErrorInfo, WorkRequest
from models_store.settings import Settings
from models_store.work.store import Place, WorkStore
from workers.editor.process.exits import ABANDONED, FAULT, HANDED_BACK, leave
from workers.editor.process.patience import patiently
from workers.editor.process.sigterm import Sigterm

_log = structlog.get_logger()

_LOOK_SECONDS = 0.5
"""Between two looks for a cancel."""
_PUBLISH_PATIENCE_SECONDS = 120.0
"""How long finished work waits for a store that is away."""


class Attempt:
    """Entered by the process that made the claim.

    A thread renews the lease, and ends this process at once when the work was canceled, the
    attempt was ended by the keeper, its deadline is over, or SIGTERM asks for the work back. It
    does not wait for the main thread, which may be deep in native code; so every step of the main
    thread must be safe to be cut off at, as it would be by a `kill -9`.
    """

    def __init__(
        self,
        store: WorkStore,
        place: Place,
        request: WorkRequest,
        claim: Claim,
        client: redis.Redis,
        settings: Settings,
        sigterm: Sigterm,
    ) -> None:
        self.number = claim.attempt
        self._store = store
        self._place = place
        self._deadline = request.deadline
        self._client = client
        self._clock = SharedClock.of(client)
        self._settings = settings
        self._lease = attempt_lease(client, place.id, claim.attempt, settings.lease_seconds)
        self._renew_at = 0.0
        self._deciding = threading.Lock()
        """Held by the thread that decides how the attempt ends."""
        self._stopped = False
        self._complaints: set[str] = set()
        """What is wrong at the moment and was logged; each outage is logged once."""
        self._sigterm = sigterm
        self._thread = threading.Thread(target=self._watch, name="attempt", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped = True
        self._sigterm.wake()
        self._thread.join()
        self._sigterm.close()
        self._let_go()

    def publish(self, end: AttemptEnd) -> bool:
        """End the attempt, and with it the work if that is due; False when both were not ours.

        Raises:
            Unavailable: the store stayed away.
        """
        with self._deciding:
            published = patiently(
                lambda: self._store.publish(self._place, end), _PUBLISH_PATIENCE_SECONDS
            )
            self._stopped = True  # the result that is there now is no reason to leave
            if not published:
                self._say_why_nothing_is_published()
            return published

    def hand_back(self, reason: ErrorInfo) -> None:
        """End the attempt so that another one follows, as far as the store can be reached."""
        end = AttemptEnd(attempt=self.number, outcome="handed_back", error=reason)
        try:
            self._store.publish(self._place, end)
        except Unavailable as error:
            # The editor reports the end of this process to the keeper, which ends the attempt.
            _log.warning("cannot write down that the work is handed back", error=error.message)

    def _watch(self) -> None:
        structlog.contextvars.bind_contextvars(work_id=self._place.id)  # a thread starts without
        try:
            while not self._stopped:
                self._renew()
                self._look()
                now = self._clock.trusted()
                if now is not None and now >= self._deadline:
                    self._end_at_deadline()
                if self._sigterm.wait(_LOOK_SECONDS) and not self._stopped:
                    self._obey_sigterm()
        except BaseException:
            _log.exception("the thread that watches over the attempt broke")
            leave(FAULT)

    def _look(self) -> None:
        """End this process if the work has a result or the attempt an end, not of our making."""
        if not self._deciding.acquire(blocking=False):
            return
        try:
            if not self._stopped and (self._has_ended() or self._work_has_ended()):
                self._say_why_nothing_is_published()
                self._let_go()
                leave(ABANDONED)
            self._complaints.discard("store")
        except Unavailable as error:
            self._complain("store", "cannot look for a cancel", error)
        finally:
            self._deciding.release()

    def _renew(self) -> None:
        if time.monotonic() < self._renew_at:
            return
        try:
            if self._lease.renew() != "renewed" and not self._has_ended():
                self._lease.replace()
            self._renew_at = time.monotonic() + self._settings.lease_seconds / 3
            self._complaints.discard("lease")
        except (redis.RedisError, Unavailable) as error:
            # Should the lease run out meanwhile, the keeper may end the attempt: a loss of
            # work, but not of safety.
            self._complain("lease", "cannot renew the lease", error)

    def _complain(self, about: str, event: str, error: Exception) -> None:
        if about not in self._complaints:
            self._complaints.add(about)
            _log.warning(event, error=str(error))

    def _work_has_ended(self) -> bool:
        return self._has("result.json") or self._has("deleted.json")

    def _has_ended(self) -> bool:
        return self._has(f"attempts/{self.number}/end.json")

    def _say_why_nothing_is_published(self) -> None:
        path = f"{self._place.attempt(self.number)}/end.json"
        end = None
        with contextlib.suppress(Unavailable, CorruptArtifact):  # only for the log
            end = self._store.objects.read_record(path, AttemptEnd)
        if end is not None and end.outcome == "lost":
            _log.warning(
                "the keeper has ended this attempt: nothing of it is published",
                attempt=self.number,
            )
        else:
            _log.info("the work was canceled: nothing of this attempt is published")

    def _has(self, name: str) -> bool:
        return self._store.objects.info(f"{self._place.folder}/{name}") is not None

    def _end_at_deadline(self) -> None:
        error = ErrorInfo(
            code="deadline", message="the work was not done by its deadline, and was ended there"
        )
        self._decide(AttemptEnd(attempt=self.number, outcome="failed", error=error), ABANDONED)

    def _obey_sigterm(self) -> None:
        _log.info("SIGTERM: handing the work back")
        error = ErrorInfo(code="handed_back", message="the editor was stopped")
        self._decide(
            AttemptEnd(attempt=self.number, outcome="handed_back", error=error), HANDED_BACK
        )

    def _decide(self, end: AttemptEnd, code: int) -> None:
        """Write `end` and leave; if the attempt has ended just now, let the main thread finish."""
        with self._deciding:
            try:
                ended = patiently(
                    lambda: self._store.publish(self._place, end), self._settings.drain_seconds
                )
            except Unavailable as error:
                _log.warning("cannot write down how the attempt ended", error=error.message)
                ended = True
            if ended or self._work_has_ended():
                self._let_go()
                leave(code)

    def _let_go(self) -> None:
        """Give the lease back and have the keeper look, best effort."""
        try:
            self._lease.release()
            wake_keeper(self._client)
        except redis.RedisError:
            return  # the lease ends by itself, and the keeper looks every second
