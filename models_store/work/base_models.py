"""Which base models a store knows: each id is a name held by the registration that made it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from models_store import ids
from models_store.errors import Conflict, InvalidRequest, NotFound
from models_store.objects.store import each_readable
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


class BaseFacts(BaseModel):
    """What a registration found out: its result's `outcome_data`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    """A base model and how far its registration has come."""

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
        """Whether chat messages mean something to it."""
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
        """The base model of that id, in whatever state; None when there is none."""
        if not ids.BASE_ID_PATTERN.fullmatch(id):
            return None
        work = self._names.holder(SHARED_TENANT, id)
        return RegisteredBase(work) if work is not None else None

    def get(self, id: str) -> RegisteredBase:
        """The base model of that id.

        Raises:
            NotFound: there is none.
        """
        found = self.find(id)
        if found is None:
            raise NotFound(f"no such base model: {id}")
        return found

    def ready(self, id: str, pointer: str = "/base_model") -> ReadyBase:
        """The base model of that id, fit for use; `pointer` is the field that names it.

        Raises:
            InvalidRequest: unknown, or its registration did not succeed.
            Conflict: `base_model_not_ready`, it is still being registered.
        """
        found = self.find(id)
        if found is None:
            known = ", ".join(base.id for base in self.all()) or "none yet"
            raise InvalidRequest.at(
                pointer, f"unknown base model {id!r}; known: {known}", code="unknown_base_model"
            )
        if found.facts is not None:
            return ReadyBase(found.spec, found.facts, found.takes_chat)
        if found.work.result is None:
            raise Conflict(
                f"the base model {id} is still being registered ({found.status}): try again "
                "in a few seconds",
                code="base_model_not_ready",
                retry_after=_RETRY_SECONDS,
            )
        error = found.work.result.error
        reason = error.message if error is not None else found.status
        raise InvalidRequest.at(
            pointer,
            f"the base model {id} could not be registered: {reason}",
            code="base_model_unavailable",
        )

    def all(self) -> list[RegisteredBase]:
        """Every base model, by id."""
        return [base for _, base in each_readable(self._names.names(SHARED_TENANT), self.find)]

    def register(self, request: WorkRequest) -> Work:
        """Put a registration in and give it the name; doing so again is fine.

        Raises:
            NameTaken: `base_model_exists`.
        """
        self._names.take(SHARED_TENANT, request.base_model, request.id)
        return self._work.submit(request)

    def ensure(self, specs: Iterable[BaseModelSpec], deadline_seconds: float) -> list[str]:
        """Register those that are missing, changed or failed; the ids that were put in."""
        put_in = []
        for spec in specs:
            found = self.find(spec.id)
            if found is not None and found.spec == spec and found.status not in _ENDED_BADLY:
                continue
            if found is not None and found.status not in _ENDED_BADLY:
                self._names.release(SHARED_TENANT, spec.id)
            try:
                self.register(registration(spec, deadline_seconds))
            except NameTaken:
                continue  # another API process, starting at the same time, was faster
            put_in.append(spec.id)
        return put_in

    def remove(self, id: str) -> None:
        """Take a base model out of the catalogue; a registration under way is canceled.

        Raises:
            NotFound: there is none.
        """
        found = self.get(id)
        self._names.release(SHARED_TENANT, id)
        if found.work.result is None:
            self._work.cancel("base_model", SHARED_TENANT, found.work.id)


_ENDED_BADLY = ("failed", "canceled")


def registration(
    spec: BaseModelSpec,
    deadline_seconds: float,
    *,
    actor: Actor | None = None,
    id: str | None = None,
) -> WorkRequest:
    """The request of a registration, ready to be put in."""
    return WorkRequest(
        id=id or ids.new_id("base_model"),
        kind="base_model",
        tenant=SHARED_TENANT,
        actor=actor or Actor(),
        deadline=int(time.time() + deadline_seconds),
        pool=spec.pool,
        body=json_object(spec),
        settings=RegistrationSettings(spec=spec),
        base_model=spec.id,
    )
