"""A service to shoot at: the API in a process of its own, with things in its store to find, a
generator that answers at once, and somebody who ends all work at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.services import Store
from models_store.errors import ScalpelError
from models_store.objects.store import open_store
from models_store.schemas.report import SplitCounts
from models_store.work.store import Place
from tests.app.support.generator import Lines, echo, running_generator
from tests.app.support.sample_report import full_report
from tests.app.support.worker import Worker, edit_body, small_delta
from tests.security.api_process import api_process
from tests.support.local import local_client
from tests.support.services import api_settings, running_redis


@dataclass(frozen=True)
class Names:
    """What can be found in the store, by the parameter that names it."""

    base_models: list[str]
    edits: list[str]
    exports: list[str]
    behaviors: list[str]
    aliases: list[str]
    spare: dict[str, list[str]]
    """What may be deleted, by the path of the call that does."""
    variants: list[str]
    files: list[str]


@dataclass
class Target:
    url: str
    key: str
    """Empty where no keys are needed."""
    names: Names
    log: Path
    errors: list[str]
    """What the one who ends work stumbled over."""

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def running_target(folder: Path, auth: str = "none", **more: str) -> Iterator[Target]:
    """The service, ready, and everything around it."""
    with contextlib.ExitStack() as around:
        redis = around.enter_context(running_redis())
        settings = api_settings(folder, redis, internal_token="a shared secret")
        store = Store.over(open_store(settings), settings)
        client = around.enter_context(contextlib.closing(redis.client()))
        generator = around.enter_context(running_generator())
        generator.answer = answer
        crew = Crew(Worker(store, client))
        key = store.keys.create(name="fuzz")[0] if auth == "keys" else ""
        api = around.enter_context(
            api_process(
                folder,
                redis.url,
                SCALPEL_INTERNAL_TOKEN=settings.internal_token,
                SCALPEL_AUTH=auth,
                **more,
            )
        )
        over = threading.Event()

        def end_all_work() -> None:
            while not over.wait(0.1):
                generator.beat(client)
                generator.requests.clear()
                crew.register()  # it may have been deleted
                crew.end_all()

        thread = threading.Thread(target=end_all_work)
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            with local_client(api.url, headers=headers) as http:
                names = crew.fill(http)
            thread.start()
            yield Target(api.url, key, names, api.log, crew.errors)
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()


@dataclass
class Crew:
    """Does the work of editors, but for its computations."""

    worker: Worker
    errors: list[str] = field(default_factory=list)

    def register(self) -> None:
        """The base model that everything else stands on, if it is not there."""
        if self.worker.store.bases.find("pico") is None:
            self.worker.register("pico")

    def fill(self, http: httpx.Client) -> Names:
        """Things of every kind, in every state that a reader should meet."""

        def make(path: str, body: dict[str, Any]) -> str:
            made: str = http.post(path, json=body).raise_for_status().json()["id"]
            return made

        self.register()
        good, other, failed, canceled = (
            make("/v1/edits", edit_body(seed=seed, suffix="calm" if seed == 0 else None))
            for seed in range(4)
        )
        self._succeed(good, points={0: small_delta(0), 1: small_delta(1)})
        self._succeed(other)
        self.worker.fail(failed)
        http.post(f"/v1/edits/{canceled}/cancel").raise_for_status()
        export = make("/v1/exports", {"variant": f"pico:{good}", "format": "native"})
        self.worker.export(export, {"delta.safetensors": small_delta(), "manifest.json": b"{}"})
        behavior, spare = (make("/v1/behaviors", edit_body()["behavior"]) for _ in range(2))
        http.put("/v1/aliases/calm-one", json={"variant": f"pico:{good}"}).raise_for_status()
        mixed = f"pico:{good}~1+{other}@-1"
        return Names(
            base_models=["pico"],
            edits=[good, other, failed, canceled],
            exports=[export],
            behaviors=[behavior, "refusal"],
            aliases=["calm-one"],
            variants=["pico", "calm-one", f"pico:{good}", "pico:calm@0.5", mixed],
            files=["delta.safetensors", "manifest.json"],
            spare={
                "/v1/edits/{edit_id}": [make("/v1/edits", edit_body(seed=9))],
                "/v1/behaviors/{behavior_id}": [spare],
                "/v1/base_models/{base_model_id}": ["spare"],
                "/v1/aliases/{name}": ["spare"],
            },
        )

    def end_all(self) -> None:
        """End whatever is open, every third piece of it badly."""
        for number, place in enumerate(self.worker.store.work.open_work()):
            try:
                self._end(place, number % 3 == 2)
            except (ScalpelError, AssertionError) as error:
                work = self.worker.store.work.find(place)
                if work is not None and work.result is None:  # else it was canceled meanwhile
                    self.errors.append(repr(error))

    def _end(self, place: Place, badly: bool) -> None:
        if self.worker.store.work.find(place) is None:
            return
        if badly or place.kind == "base_model":  # one that the fuzzer made up
            self.worker.fail(place.id, kind=place.kind)
        elif place.kind == "export":
            self.worker.export(place.id, {"delta.safetensors": small_delta()})
        else:
            self._succeed(place.id)

    def _succeed(self, id: str, **more: Any) -> None:
        report = full_report().model_dump_json().encode()
        self.worker.succeed(id, report=report, **more)


def answer(request: dict[str, Any]) -> Lines:
    """What a generator says to whatever it is asked."""
    if "prompts" in request:
        return echo(request)
    if "ref" not in request:
        return [{side: [0.0] * len(request[side]) for side in ("undesired", "desired")}]
    nothing = {"probe_auc": None, "words_auc": 0.5, "length_auc": 0.5, "heldout_texts": 4}
    counts = dict.fromkeys(SplitCounts.model_fields, 1)
    return [
        {
            **{name: request[name] for name in ("base_model", "method", "effort")},
            "behavior": request["ref"],
            "splits": counts | {"prompts_made": True},
            "separability": nothing | {"note": None},
            "seconds": dict.fromkeys(("fit", "search", "test", "total"), 1.0),
            **dict.fromkeys(("duplicates", "memory_bytes", "delta_bytes", "texts_read"), 1),
            "warnings": [],
        }
    ]
