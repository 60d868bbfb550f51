"""The traces that an editor leaves in the store and in Redis, without its computations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import redis
from pydantic import JsonValue

from app.services import Store
from models_store.live import keys as redis_keys
from models_store.live.leases import attempt_lease
from models_store.schemas.catalogue import BaseModelSpec, FolderSource
from models_store.schemas.records import AttemptEnd, ErrorInfo, Kind, json_object
from models_store.weights.delta import Delta, DeltaTerm, dump_delta
from models_store.work.artifacts import store_artifact
from models_store.work.base_models import BaseFacts, registration
from models_store.work.store import SHARED_TENANT, Place
from tests.models_store.make import FACTS, FINGERPRINT


def small_delta(seed: int = 0) -> bytes:
    """A real delta of one term."""
    random = np.random.default_rng(seed)
    term = DeltaTerm(
        layer=0,
        module="mlp.gate_proj",
        expert=None,
        direction=random.normal(size=32).astype(np.float32),
        rows=np.array([1, 5], np.int32),
        coefficients=np.array([1.0, -0.5], np.float32),
    )
    return dump_delta(Delta(FINGERPRINT, "bias", (term,)))


def texts(word: str, count: int = 20) -> list[str]:
    """Different texts of one side."""
    return [f"{word} text number {index} about the {word} thing" for index in range(count)]


def edit_body(**changes: Any) -> dict[str, Any]:
    behavior = {"name": "tone", "undesired": texts("bad"), "desired": texts("good")}
    return {"base_model": "pico", "behavior": behavior, **changes}


@dataclass
class Worker:
    """Takes work and ends it, as told."""

    store: Store
    client: redis.Redis
    name: str = "worker-1"

    def register(self, base_model: str, pool: str = "cpu", **facts: Any) -> None:
        """A base model whose registration has succeeded."""
        source = FolderSource(path=Path("/weights/pico"))
        spec = BaseModelSpec(id=base_model, source=source, pool=pool)
        work = self.store.bases.register(registration(spec, 3600))
        self.end_registration(work.id, **facts)

    def end_registration(self, id: str, **facts: Any) -> None:
        known = BaseFacts.model_validate({**FACTS, **facts})
        place = Place("base_model", SHARED_TENANT, id)
        self._end(place, outcome_data=json_object(known))

    def claim(self, id: str, kind: Kind = "edit", tenant: str = "default") -> int:
        claim = self.store.work.claim(Place(kind, tenant, id), self.name)
        assert claim is not None
        attempt_lease(self.client, id, claim.attempt, 15).replace()
        return claim.attempt

    def tell_stage(self, id: str, stage: str, progress: float = 0.0, attempt: int = 1) -> None:
        data = {"attempt": attempt, "stage": stage, "progress": progress}
        self.client.hset(redis_keys.progress(id), mapping=cast(Any, data))
        kind = "edit.stage" if progress == 0 else "edit.progress"
        self.client.xadd(redis_keys.events(id), {"type": kind, "data": json.dumps(data)})

    def lose(self, id: str, attempt: int = 1) -> None:
        end = AttemptEnd(attempt=attempt, outcome="lost", child_died=True)
        assert self.store.work.end_attempt(Place("edit", "default", id), end)

    def succeed(
        self,
        id: str,
        *,
        delta: bytes | None = None,
        report: bytes | None = None,
        points: dict[int, bytes] | None = None,
        tenant: str = "default",
    ) -> None:
        """The edit ends well; with a real delta."""
        files = {"delta": delta or small_delta(), "report": report or b"{}"}
        files |= {f"point-{index}": data for index, data in (points or {}).items()}
        shown: list[JsonValue] = [
            {"index": index, "selected": index == 0} for index in range(len(points or {0: b""}))
        ]
        self._end(
            Place("edit", tenant, id),
            files=files,
            outcome_data={"points": shown, "report_summary": {"verdict": "It works."}},
        )

    def end(self, place: Place, *, files: dict[str, bytes], data: dict[str, JsonValue]) -> None:
        """Work of any kind ends well."""
        self._end(place, files=files, outcome_data=data)

    def export(self, id: str, files: dict[str, bytes], tenant: str = "default") -> None:
        proof: dict[str, JsonValue] = {"loader": "native", "passed": True}
        self._end(Place("export", tenant, id), files=files, outcome_data={"proof": proof})

    def fail(self, id: str, code: str = "edit_error", kind: Kind = "edit") -> None:
        tenant = SHARED_TENANT if kind == "base_model" else "default"
        place = Place(kind, tenant, id)
        self._end(place, error=ErrorInfo(code=code, message="it went wrong"))

    def hold_back(self, id: str, files: dict[str, bytes], tenant: str = "default") -> None:
        """The edit fails because of the policy, with files."""
        error = ErrorInfo(code="policy_refused", message="it does harm")
        self._end(Place("edit", tenant, id), files=files, error=error)

    def _end(
        self,
        place: Place,
        *,
        files: dict[str, bytes] | None = None,
        error: ErrorInfo | None = None,
        outcome_data: dict[str, JsonValue] | None = None,
    ) -> None:
        work = self.store.work.read(place.kind, place.tenant, place.id)
        attempt = work.attempt or self.claim(place.id, place.kind, place.tenant)
        artifacts = []
        for name, data in (files or {}).items():
            path = f"{place.attempt(attempt)}/{name}"
            artifacts.append(store_artifact(self.store.objects, name, path, data))
        end = AttemptEnd(
            attempt=attempt,
            outcome="succeeded" if error is None else "failed",
            error=error,
            artifacts=tuple(artifacts),
            outcome_data=outcome_data or {},
        )
        assert self.store.work.publish(place, end)
        self.client.delete(redis_keys.lease(place.id), redis_keys.progress(place.id))
