"""The base models of a store: each id is a name held by its registration."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from models_store import ids
from models_store.audit.log import NOBODY
from models_store.errors import Conflict, InvalidRequest, NotFound
from models_store.schemas.base import FrozenModel
from models_store.schemas.catalogue import BaseModelSpec
from models_store.schemas.records import (
    Actor,
    RegistrationSettings,
    Status,
    WorkRequest,
    json_object,
)
from models_store.work.reservations import NameTaken, Reservation, Reservations
from models_store.work.store import SHARED_TENANT, Work, WorkStore

BaseName = Reservation
FOLDER = "base_ids"
_RETRY_SECONDS = 5


class BaseFacts(FrozenModel):
    """What a registration determined about the weights: its result's `outcome_data`."""

    fingerprint: str
    architecture: str
    layers: int
    hidden_size: int
    parameters: int
    dtype: str
    chat_template: bool
    context_length: int
    bytes: int


@dataclass(frozen=True)
class RegisteredBase:
    """A base model and the state of its registration."""

    work: Work

    @property
    def spec(self) -> BaseModelSpec:
        settings = self.work.request.settings
        assert isinstance(settings, RegistrationSettings)
        return settings.spec

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def status(self) -> Status:
        return self.work.status

    @cached_property
    def facts(self) -> BaseFacts | None:
        """None until the registration has succeeded."""
        result = self.work.result
        if result is None or result.status != "succeeded":
            return None
        return BaseFacts.model_validate(result.outcome_data)

    @property
    def takes_chat(self) -> bool:
        """Whether it accepts chat messages."""
        if self.spec.chat is not None:
            return self.spec.chat
        return self.facts is not None and self.facts.chat_template


@dataclass(frozen=True)
class ReadyBase:
    """A base model that can be edited and served."""

    spec: BaseModelSpec
    facts: BaseFacts
    takes_chat: bool

    @property
    def id(self) -> str:
        return self.spec.id


class BaseModels:
    """The base models of a store; all tenants share them."""

    def __init__(self, work: WorkStore) -> None:
        self._work = work
        self._names = Reservations(work, "base_model", FOLDER, "base_model_exists")

    def find(self, id: str) -> RegisteredBase | None:
        """The base model of that id, in any state; None when there is none."""
        if not ids.BASE_ID_PATTERN.fullmatch(id):
            return None
        work = self._names.holder(SHARED_TENANT, id)
        return RegisteredBase(work) if work is not None else None

    def get(self, id: str) -> RegisteredBase:
        """The base model of that id.

        Raises:
            NotFound: there is none.
        """
        base = self.find(id)
        if base is None:
            raise NotFound(f"no such base model: {id}")
        return base

    def ready(self, id: str, pointer: str = "/base_model") -> ReadyBase:
        """The base model of that id, ready for use; `pointer` is the field that names it.

        Raises:
            InvalidRequest: unknown, or its registration did not succeed.
            Conflict: `base_model_not_ready`, it is still being registered.
        """
        base = self.find(id)
        if base is None:
            available = ", ".join(base.id for base in self.all()) or "none yet"
            raise InvalidRequest.at(
                pointer, f"unknown base model {id!r}; known: {available}", code="unknown_base_model"
            )
        if base.facts is not None:
            return ReadyBase(base.spec, base.facts, base.takes_chat)
        if base.work.result is None:
            raise Conflict(
                f"the base model {id} is still being registered: "
                + (
                    "an editor is at it, try again in a few seconds"
                    if base.status == "running"
                    else "it waits for an editor; GET /readyz says whether one runs, and "
                    "`scalpel editor` starts one"
                ),
                code="base_model_not_ready",
                retry_after=_RETRY_SECONDS,
            )
        error = base.work.result.error
        reason = error.message if error is not None else base.status
        raise InvalidRequest.at(
            pointer,
            f"the base model {id} could not be registered: {reason}",
            code="base_model_unavailable",
        )

    def all(self) -> list[RegisteredBase]:
        """Every base model, by id."""
        names = self._names.names(SHARED_TENANT)
        return [base for _, base in self._work.objects.each_readable(names, self.find)]

    def every_id(self) -> list[str]:
        """Of all base models that there are or were."""
        return self._names.names(SHARED_TENANT)

    def register(self, request: WorkRequest) -> Work:
        """Submit a registration and give it the name; idempotent.

        Raises:
            NameTaken: `base_model_exists`.
        """
        self._names.take(SHARED_TENANT, request.base_model, request.id)
        return self._work.submit(request)

    def ensure(self, specs: Iterable[BaseModelSpec], deadline_seconds: float) -> list[str]:
        """Register those that are missing, changed or failed; their ids."""
        submitted = []
        for spec in specs:
            base = self.find(spec.id)
            if base is not None and base.spec == spec and base.status not in _ENDED_BADLY:
                continue
            if base is not None and base.status not in _ENDED_BADLY:
                self._names.release(SHARED_TENANT, spec.id)
            try:
                self.register(registration(spec, deadline_seconds))
            except NameTaken:
                continue  # another API process, starting at the same time, was faster
            submitted.append(spec.id)
        return submitted

    def remove(self, id: str, *, tenant: str = SHARED_TENANT, actor: Actor = NOBODY) -> None:
        """Remove a base model from the catalogue; a running registration is canceled.

        Args:
            tenant, actor: who removes it.

        Raises:
            NotFound: there is none.
        """
        base = self.get(id)
        self._work.audit.append("base_model.removed", tenant=tenant, actor=actor, name=id)
        self._names.release(SHARED_TENANT, id)
        if base.work.result is None:
            self._work.cancel("base_model", SHARED_TENANT, base.work.id)


_ENDED_BADLY = ("failed", "canceled")


def registration(
    spec: BaseModelSpec,
    deadline_seconds: float,
    *,
    actor: Actor | None = None,
    id: str | None = None,
    now: float | None = None,
) -> WorkRequest:
    """The request of a registration, ready to be submitted."""
    return WorkRequest(
        id=id or ids.new_id("base_model"),
        kind="base_model",
        tenant=SHARED_TENANT,
        actor=actor or Actor(),
        deadline=int((time.time() if now is None else now) + deadline_seconds),
        pool=spec.pool,
        body=json_object(spec),
        settings=RegistrationSettings(spec=spec),
        base_model=spec.id,
    )
