"""Names that a piece of work holds: the suffix of an edit, the base id of a registration.

A name is free again once its holder failed, was canceled or deleted. Taking it is a conditional
create of the next version of the name's history, so of two at the same time one is refused.
"""

from __future__ import annotations

import contextlib
import time

from models_store.errors import Conflict, NotFound
from models_store.objects.histories import Histories, Version
from models_store.schemas.records import Kind
from models_store.work.store import Place, Work, WorkStore

_SUBMISSION_SECONDS = 60
"""How long a name may be held by work that has no records yet."""


class Reservation(Version):
    """Which work holds a name from this version on."""

    work_id: str


class NameTaken(Conflict):
    """Other work holds the name."""

    def __init__(self, name: str, holder: str, code: str) -> None:
        super().__init__(f"{name!r} is held by {holder}: choose another name", code=code)
        self.holder = holder


class Reservations:
    """All names of one kind, such as the suffixes of every tenant."""

    def __init__(self, work: WorkStore, kind: Kind, folder: str, taken_code: str) -> None:
        self._work = work
        self._kind = kind
        self._names: Histories[Reservation] = Histories(work.objects, folder, Reservation)
        self._taken_code = taken_code

    def take(self, tenant: str, name: str, work_id: str) -> None:
        """Reserve `name` for `work_id`; idempotent.

        Raises:
            NameTaken: other work holds it.
        """

        def following(newest: Reservation | None) -> Reservation:
            if newest is not None and not newest.deleted:
                if newest.work_id == work_id:
                    return newest
                if self._is_held(tenant, newest):
                    raise NameTaken(name, newest.work_id, self._taken_code)
            number = newest.number + 1 if newest is not None else 1
            return Reservation(number=number, work_id=work_id)

        self._names.change(tenant, name, following)

    def holder(self, tenant: str, name: str) -> Work | None:
        """The work that holds the name, in any state; None when there is none."""
        current = self._names.current(tenant, name)
        if current is None:
            return None
        try:
            return self._work.read(self._kind, tenant, current.work_id)
        except NotFound:
            return None

    def holders(self, tenant: str, name: str) -> list[str]:
        """Ids of all work that ever held the name, deleted work too."""
        versions = self._names.versions(tenant, name, self._names.numbers(tenant, name))
        return list(dict.fromkeys(version.work_id for version in versions))

    def release(self, tenant: str, name: str) -> None:
        """Free the name.

        Raises:
            NotFound: no work holds it.
            Conflict: it got another holder at the same time.
        """
        current = self._names.get(tenant, name)
        version = Reservation(number=current.number + 1, work_id=current.work_id, deleted=True)
        self._names.append(tenant, name, version)

    def release_unborn(self, tenant: str, name: str, before: float) -> bool:
        """Free a name, held since before `before` (Unix seconds), whose work was never submitted.

        Returns:
            Whether it was freed.
        """
        current = self._names.current(tenant, name)
        if current is None or current.created_at >= before:
            return False
        if self._work.is_begun(Place(self._kind, tenant, current.work_id)):
            return False
        with contextlib.suppress(Conflict, NotFound):  # it has just got another holder
            self.release(tenant, name)
            return True
        return False

    def names(self, tenant: str) -> list[str]:
        """Every name that was ever held, sorted."""
        return list(self._names.names(tenant))

    def _is_held(self, tenant: str, reservation: Reservation) -> bool:
        try:
            work = self._work.read(self._kind, tenant, reservation.work_id)
        except NotFound:
            # It was deleted, or its submission is under way, or a crash interrupted that.
            folder = Place(self._kind, tenant, reservation.work_id).folder
            deleted = self._work.objects.info(f"{folder}/deleted.json") is not None
            return not deleted and time.time() < reservation.created_at + _SUBMISSION_SECONDS
        return work.status not in ("failed", "canceled")
