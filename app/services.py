"""What the routes work with: the store and what is built on it, and live state from Redis."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from app.completions.generators import Generators
from app.domain.accounts.api_keys import ApiKeys
from app.domain.accounts.in_flight import InFlight
from app.domain.accounts.limits import LimitTable, read_limits
from app.domain.accounts.quotas import Quotas
from app.domain.accounts.rates import Rates
from app.domain.accounts.sessions import Sessions
from app.domain.batches import Batches
from app.domain.behaviors.library import BehaviorLibrary
from app.domain.edits.submission import Submission
from app.domain.events.live_state import LiveState
from app.domain.events.watchers import Watchers
from app.domain.fine_tuning.files import Files
from app.domain.variants.aliases import Aliases
from app.domain.variants.names import SUFFIXES, Variants
from app.domain.webhooks.by_hand import SendByHand
from app.domain.webhooks.deliveries import Deliveries
from app.domain.webhooks.outgoing import Outgoing
from app.domain.webhooks.webhooks import Webhooks
from models_store.audit.log import AuditLog
from models_store.errors import Unavailable
from models_store.live.clock import SharedClock, redis_time
from models_store.live.heartbeats import internal_token
from models_store.net.addresses import AddressRule
from models_store.objects.store import ObjectStore, open_store
from models_store.operator.policy import Policy, put_in_force, read_policy
from models_store.operator.scorers import all_scorers, read_scorers
from models_store.operator.suites import configured_suites
from models_store.schemas.catalogue import (
    PACKAGES,
    SMOLLM2,
    BaseModelSpec,
    PackageSource,
    read_base_models,
)
from models_store.settings import Settings
from models_store.work.base_models import BaseModels
from models_store.work.cache import CachedWorkStore
from models_store.work.reservations import Reservations

_log = structlog.get_logger()

_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Store:
    """Everything that lies in the store, by what it is."""

    objects: ObjectStore
    work: CachedWorkStore
    bases: BaseModels
    behaviors: BehaviorLibrary
    files: Files
    aliases: Aliases
    variants: Variants
    submission: Submission
    keys: ApiKeys
    sessions: Sessions
    audit: AuditLog
    policy: Policy
    quotas: Quotas
    webhooks: Webhooks
    deliveries: Deliveries

    @classmethod
    def over(
        cls,
        objects: ObjectStore,
        settings: Settings,
        limits: LimitTable | None = None,
        now: Callable[[], float] = time.time,
    ) -> Store:
        work = CachedWorkStore(objects)
        bases = BaseModels(work)
        behaviors = BehaviorLibrary(objects, work.audit)
        aliases = Aliases(objects, work.audit)
        suffixes = Reservations(work, "edit", SUFFIXES, "suffix_taken")
        policy = read_policy(settings)
        variants = Variants(work, bases, suffixes, aliases, policy)
        quotas = Quotas(objects, limits or read_limits(settings))
        submission = Submission(
            work,
            bases,
            behaviors,
            variants,
            suffixes,
            quotas,
            policy,
            deadline_seconds=settings.edit_deadline_seconds,
            now=now,
            suites=configured_suites(settings).tables,
            scorers=all_scorers(read_scorers(settings.scorers)),
        )
        return cls(
            objects=objects,
            work=work,
            bases=bases,
            behaviors=behaviors,
            files=Files(objects, work.audit, quotas),
            aliases=aliases,
            variants=variants,
            submission=submission,
            keys=ApiKeys(objects, work.audit),
            sessions=Sessions(objects, work.audit),
            audit=work.audit,
            policy=policy,
            quotas=quotas,
            webhooks=Webhooks(objects, AddressRule.of(settings), work.audit),
            deliveries=Deliveries(objects),
        )


class Services:
    """One an application; the store is opened when it can be reached, at start or later."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.live = LiveState(settings)
        self.clock = SharedClock(lambda: self.live.query(redis_time))
        self.limits = read_limits(settings)
        self.rates = Rates(self.live, self.limits)
        self.in_flight = InFlight(settings)
        self.watchers = Watchers()
        self.generators = Generators(
            self.live, self.rates, self.in_flight, internal_token(settings)
        )
        self._wakes: Batches[None, None] = Batches(self._wake, "wakes")
        self.draining = threading.Event()
        """Set when the server is about to stop: who waits, stops waiting."""
        self.catalogue_filled = False
        """Whether the base models of the settings are registered."""
        self._store: Store | None = None
        self._lock = threading.Lock()
        self._failed_at = -_PAUSE_SECONDS
        self._failure: Unavailable | None = None

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            Unavailable: it cannot be reached; the next request a second later tries again.
            InvalidRequest: the settings name something that cannot be a store.
        """
        if self._store is not None:
            return self._store
        with self._lock:
            if self._store is None:
                if self._failure and time.monotonic() < self._failed_at + _PAUSE_SECONDS:
                    raise self._failure
                try:
                    objects = open_store(self.settings)
                    store = Store.over(objects, self.settings, self.limits, self.clock.now)
                    put_in_force(store.objects, store.audit, store.policy)
                    self._store = store
                except Unavailable as error:
                    self._failed_at, self._failure = time.monotonic(), error
                    raise
            return self._store

    async def wake_keeper(self) -> None:
        """Have the keeper look at open work; best effort."""
        await self._wakes.get(None)

    def _wake(self, wakes: Sequence[None]) -> Sequence[None]:
        self.live.wake_keeper()
        return wakes

    @property
    def opened(self) -> Store | None:
        """The store, if it was reached already."""
        return self._store

    def fill_catalogue(self) -> None:
        """Register the base models that the settings name, where they are not registered yet."""
        seconds = self.settings.edit_deadline_seconds
        put_in = self.store.bases.ensure(catalogue(self.settings), seconds)
        if put_in:
            _log.info("registering base models", ids=put_in)
            self.live.wake_keeper()
        self.catalogue_filled = True

    @cached_property
    def outgoing(self) -> Outgoing:
        """For requests to addresses that tenants give; used in the event loop only."""
        return Outgoing(
            AddressRule.of(self.settings), seconds=self.settings.webhook_timeout_seconds
        )

    def send_by_hand(self, store: Store) -> SendByHand:
        """To be called in the event loop."""
        return SendByHand(
            store.webhooks, store.deliveries, store.work, self.outgoing, self.settings
        )

    async def close(self) -> None:
        if self._store is not None:
            with contextlib.suppress(Unavailable):  # the counts of an hour are lost
                await run_in_threadpool(self._store.work.reads.write_counts)
        if "outgoing" in self.__dict__:
            await self.outgoing.aclose()
        await self.generators.close()
        self.rates.close()
        self._wakes.close()
        self.live.close()


def catalogue(settings: Settings) -> list[BaseModelSpec]:
    """The base models that an installation starts with.

    Raises:
        InvalidRequest: the operator's file is wrong.
    """
    specs = list(read_base_models(settings.base_models)) if settings.base_models else []
    named = {spec.id for spec in specs}
    if settings.default_base_model and SMOLLM2.id not in named:
        assert isinstance(SMOLLM2.source, PackageSource)
        if not PACKAGES[SMOLLM2.source.name].missing():
            specs.append(SMOLLM2)
    return specs


def services(request: Request) -> Services:
    parts = request.app.state.services
    assert isinstance(parts, Services)
    return parts


# Dependencies that are functions with `async`: the others take a turn in a thread each.


async def _services(request: Request) -> Services:
    return services(request)


async def open_store_of(request: Request) -> Store:
    """The store; raises like `Services.store`."""
    parts = services(request)
    if parts.opened is not None:
        return parts.opened
    return await run_in_threadpool(lambda: parts.store)


ServicesDep = Annotated[Services, Depends(_services)]
StoreDep = Annotated[Store, Depends(open_store_of)]
