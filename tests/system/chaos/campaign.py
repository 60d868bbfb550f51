"""One campaign: start everything, inject faults while clients work, recover, and count."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import httpx

from models_store.objects.store import open_store
from models_store.work.store import WorkStore
from tests.support.s3 import CREDENTIALS
from tests.system.chaos import count
from tests.system.chaos.clients import Clients
from tests.system.chaos.faults import Havoc, StoreKind, schedule
from tests.system.chaos.hook import SETTINGS as HOOK_SETTINGS
from tests.system.chaos.hook import Hook, running_hook
from tests.system.chaos.s3_proxy import S3Proxy, running_proxy
from tests.system.chaos.stack import Stack, running_stack

_FIRST_ATTEMPT_SECONDS = 30.0
"""Limit until the first attempt runs, so that the first fault has a process to hit."""
_HOOK_PATIENCE_SECONDS = 60.0
"""Limit for the delivery of the last edit's end; there are pauses between tries."""


@dataclass(frozen=True)
class Plan:
    """The size of a campaign, and its seed."""

    store: StoreKind
    seed: int
    seconds: float
    """Of faults."""
    edits: int
    gap: float = 2.0
    """Between two faults, on average."""
    patience: float = 300.0
    """Seconds after the last fault within which all edits must end."""


@dataclass
class Outcome:
    """The counts; all of `broken` must be empty."""

    plan: Plan
    broken: dict[str, list[str]]
    acknowledged: int
    statuses: Counter[str]
    faults: Counter[str]
    attempts: Counter[str]
    recoveries: list[count.Recovery]
    seconds: float
    vanished: int
    logs: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not any(self.broken.values())

    def table(self) -> str:
        """The counts as text."""
        plan = self.plan
        by_status = ", ".join(f"{n} {status}" for status, n in sorted(self.statuses.items()))
        by_end = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.attempts.items()))
        lines = [
            f"{plan.store}://, seed {plan.seed}: {self.faults.total()} faults in "
            f"{self.seconds:.0f} s, {self.acknowledged} of {plan.edits} edits acknowledged",
            f"  edits: {by_status}; attempts: {by_end}; {self.vanished} streams left",
            *(f"  {name:<48}{len(cases):>4}" for name, cases in self.broken.items()),
        ]
        seconds = [recovery.seconds for recovery in self.recoveries]
        if seconds:
            worst = max(self.recoveries, key=attrgetter("seconds"))
            lines.append(
                f"  time to recovery: median {count.median(seconds):.1f} s, worst "
                f"{worst.seconds:.1f} s ({worst.kind}); of {len(seconds)}"
            )
        for kind, times in sorted(self.faults.items()):
            of_kind = [recovery.seconds for recovery in self.recoveries if recovery.kind == kind]
            figures = (
                f"median {count.median(of_kind):.1f} s, worst {max(of_kind):.1f} s"
                if of_kind
                else ""
            )
            lines.append(f"    {kind:<30}{times:>4} times  {figures}")
        for name, cases in self.broken.items():
            lines += [f"  {name}: {case}" for case in cases[:5]]
        if not self.holds:
            lines.append(f"  to repeat it: --seed {plan.seed} --store {plan.store}")
        return "\n".join(lines)


def run(plan: Plan, folder: Path, s3_endpoint: str | None = None) -> Outcome:
    """Run one campaign in a folder.

    Args:
        s3_endpoint: a server for `s3://`.
    """
    with (
        stores(plan, s3_endpoint) as (settings, proxy, direct),
        running_stack(folder, {**settings, **HOOK_SETTINGS}) as stack,
        contextlib.ExitStack() as hooks,
    ):
        store = WorkStore(open_store(stack.settings.model_copy(update=direct)))
        clients = Clients(stack.url, plan.seed, plan.edits, pace=0.6 * plan.seconds / plan.edits)
        hook = hooks.enter_context(running_hook(clients.seen, plan.seed))
        with stack.client() as http:
            http.post("/v1/webhooks", json={"url": hook.url}).raise_for_status()
        havoc = Havoc(stack, proxy, clients.vanish)
        clients.start()
        try:
            _wait(lambda: bool(stack.children()), _FIRST_ATTEMPT_SECONDS)
            began = time.monotonic()
            havoc.run(
                schedule(plan.seed, plan.store, plan.seconds, plan.gap),
                is_over=lambda: time.monotonic() > began + plan.seconds,
            )
            seconds = time.monotonic() - began
            stack.wait_until_ready()
            _wait(clients.all_final, plan.patience)
            _wait(lambda: not store.objects.files("outbox"), _HOOK_PATIENCE_SECONDS)
        finally:
            clients.stop()
        return _count(plan, stack, store, clients, havoc, hook, seconds)


def _count(
    plan: Plan,
    stack: Stack,
    store: WorkStore,
    clients: Clients,
    havoc: Havoc,
    hook: Hook,
    seconds: float,
) -> Outcome:
    seen = clients.seen
    with stack.client() as http:
        for id in [id for id, statuses in seen.statuses.items() if "succeeded" in statuses]:
            clients.look_at_delta(http, id)
        response = http.post(
            "/v1/completions", json={"model": "pico", "prompt": "a", "max_tokens": 2}
        )
    works = [work for _, work in count.all_work(store)]
    edits = [work for work in works if work.request.kind == "edit"]
    acknowledged = set(clients.acknowledged.values())
    broken = {
        "edits that were never acknowledged": sorted(
            set(clients.keys) - clients.acknowledged.keys()
        ),
        "acknowledged edits lost, or without an end": count.lost(store, acknowledged),
        "keys answered with two edits": clients.remade,
        "edits that no client knows": [w.id for w in edits if w.id not in acknowledged],
        "ends that no webhook received": sorted(acknowledged - hook.ended),
        "edits seen with two final statuses": _several(seen.statuses),
        "edits seen with two digests": _several(seen.digests),
        "steps back seen": seen.steps_back,
        "responses that no fault excuses": list(seen.wrong_responses),
        "ended attempts that published": count.published_after_their_end(works),
        "torn or unreadable artifacts": count.torn(store.objects, works),
        "orphan objects after one sweep": count.orphans_after_a_sweep(store),
        "completions that fail at the end": [] if response.status_code == 200 else [response.text],
    }
    outcome = Outcome(
        plan,
        broken,
        acknowledged=len(acknowledged),
        statuses=Counter(work.status for work in edits),
        faults=Counter(fault.kind for fault in havoc.done),
        attempts=Counter(end.outcome for work in edits for end in work.ends if end is not None),
        recoveries=count.recoveries(edits, havoc.done),
        seconds=seconds,
        vanished=clients.vanished,
    )
    if not outcome.holds:
        outcome.logs = "\n".join([*map(str, havoc.done), stack.logs(each=20_000)])
    return outcome


def _several(seen: dict[str, set[str]]) -> list[str]:
    return [f"{id}: {sorted(values)}" for id, values in seen.items() if len(values) > 1]


def _wait(question: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not question():
        time.sleep(0.2)


@contextlib.contextmanager
def stores(
    plan: Plan, s3_endpoint: str | None
) -> Iterator[tuple[dict[str, str], S3Proxy | None, dict[str, str]]]:
    """Settings of the processes, the proxy, and the settings that differ for this process."""
    if plan.store == "file":
        yield {}, None, {}
        return
    assert s3_endpoint is not None
    bucket = f"chaos-{uuid.uuid4().hex[:8]}"
    # The library reads them from the environment, in this process too.
    os.environ.update(CREDENTIALS)
    httpx.put(f"{s3_endpoint}/{bucket}", trust_env=False).raise_for_status()
    with running_proxy(s3_endpoint, plan.seed) as proxy:
        settings = {
            "SCALPEL_STORE_URL": f"s3://{bucket}/scalpel",
            "SCALPEL_S3_ENDPOINT": proxy.url,
            **CREDENTIALS,
        }
        yield settings, proxy, {"s3_endpoint": s3_endpoint}
