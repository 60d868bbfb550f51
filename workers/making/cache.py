"""What one edit computed and the next can use: statistics of a base model, its own generations.

Files lie in the store, so that every editor finds them. Nothing depends on them: what is missing,
broken or out of reach is computed anew, and what is there is never written again.

```
cache/statistics/{owner}/{sha256}.safetensors
cache/generations/{owner}/{sha256}.json
```

The name is the digest of all that the content depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import structlog
import torch
from pydantic import BaseModel, JsonValue, ValidationError
from torch import Tensor

from models_store.errors import CorruptArtifact, Unavailable
from models_store.objects.store import ObjectMissing, ObjectStore
from models_store.weights.safetensors import dump_tensors, load_tensors
from models_store.work.store import SHARED_TENANT
from workers.evaluation.effect.generations import Arm, DecodingSettings, arm_of, generate_arm
from workers.runtime.base_models import settings_digest
from workers.runtime.decoding.decode import Generated
from workers.runtime.decoding.requests import FinishReason
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, cpu_capability
from workers.runtime.reading.extract import EXTRACTOR_VERSION

_log = structlog.get_logger()
K = TypeVar("K", bound=Hashable)
_FORMAT = 1
"""Part of every key: raise it when what lies in the files changes."""
_GENERATIONS = "generations"


class Cache:
    """What is remembered of one model: a base, or a base with edits that belong to a tenant."""

    def __init__(self, objects: ObjectStore, tenant: str, model: EditedModel) -> None:
        self.model = model
        self._objects = objects
        self._tenant = tenant
        self._owner = tenant if model.mixture else SHARED_TENANT
        edits: list[JsonValue] = [
            [[*sorted(term.digest for term in terms)], strength]
            for terms, strength in model.mixture
        ]
        base = model.loaded
        self._model_key: JsonValue = [
            _FORMAT,
            EXTRACTOR_VERSION,
            base.fingerprint,
            settings_digest(base.folder),
            str(base.dtype),
            *_computer(base),
            edits,
        ]
        self._broken: set[str] = set()
        self.reused: list[str] = []
        """What was there and is not computed again, in words."""
        self.made: list[str] = []
        """What was not, likewise."""

    def each(
        self,
        name: str,
        keys: Mapping[K, JsonValue],
        make: Callable[[Sequence[K]], Mapping[K, dict[str, Tensor]]],
    ) -> dict[K, dict[str, Tensor]]:
        """Statistics of several parts of the model, of which only missing ones are made.

        Args:
            name: what they are.
            keys: what each depends on besides the model.
            make: those that are missing, each fp32 or int32.
        """
        saved = {part: self.tensors(name, key) for part, key in keys.items()}
        missing = [part for part, tensors in saved.items() if tensors is None]
        made = make(missing) if missing else {}
        self._keep(name, keys, made)
        return {**{part: kept for part, kept in saved.items() if kept is not None}, **made}

    def fill(
        self,
        name: str,
        keys: Mapping[K, JsonValue],
        make: Callable[[Sequence[K]], Mapping[K, dict[str, Tensor]]],
    ) -> None:
        """Have all that `each` would give kept; what is there already is not read.

        Raises:
            Unavailable: the store is away.
        """
        there = {part: self._objects.exists(self._statistics(name, keys[part])) for part in keys}
        missing = [part for part in keys if not there[part]]
        self._keep(name, keys, make(missing) if missing else {})

    def _keep(
        self, name: str, keys: Mapping[K, JsonValue], made: Mapping[K, dict[str, Tensor]]
    ) -> None:
        """Keep the parts that had to be made; nothing if all were there."""
        for part, tensors in made.items():
            self.save_tensors(name, keys[part], tensors)
        (self.made if made else self.reused).append(name)

    def tensors(self, name: str, key: JsonValue) -> dict[str, Tensor] | None:
        """Statistics that were saved under this name and key; None where there are none.

        Args:
            name: what they are.
            key: what they depend on besides the model.
        """
        path = self._statistics(name, key)
        data = self._read(path)
        if data is None:
            return None
        try:
            arrays, metadata = load_tensors(data)
        except CorruptArtifact as error:
            self._reject(path, error.message)
            return None
        if metadata.get("sha256") != _digest(arrays):
            self._reject(path, "its content is not what was written")
            return None
        return {tensor: torch.from_numpy(array.copy()) for tensor, array in arrays.items()}

    def save_tensors(self, name: str, key: JsonValue, tensors: Mapping[str, Tensor]) -> None:
        """Remember statistics, each fp32 or int32."""
        arrays = {tensor: value.contiguous().numpy() for tensor, value in tensors.items()}
        data = dump_tensors(arrays, {"name": name, "sha256": _digest(arrays)})
        self._write(self._statistics(name, key), data)

    def generated(self, prompts: Sequence[Sequence[int]], decoding: DecodingSettings) -> Arm:
        """What this model generates from these prompts: from before, or made now and kept."""
        arm = self.arm(prompts, decoding)
        if arm is None:
            arm = generate_arm(self.model, prompts, decoding)
            self.save_arm(arm, decoding)
            self.made.append(_GENERATIONS)
        return arm

    def arm(self, prompts: Sequence[Sequence[int]], decoding: DecodingSettings) -> Arm | None:
        """What this model generated from these prompts before, None if it did not: for the tenant
        or, a base of prompts that come with Scalpel, for everybody."""
        for owner in dict.fromkeys((self._tenant, self._owner)):
            made = self._generated(self._generations(owner, prompts, decoding))
            if made is not None:
                self.reused.append(_GENERATIONS)
                return arm_of(self.model.loaded, prompts, made)
        return None

    def save_arm(self, arm: Arm, decoding: DecodingSettings) -> None:
        """Remember what this model generated, for the tenant alone: the prompts are theirs."""
        made = [[(list(text.ids), text.finish_reason) for text in texts] for texts in arm.made]
        record = _Generations(made=made)
        record = record.model_copy(update={"sha256": _sha256(record.plain())})
        path = self._generations(self._tenant, arm.prompts, decoding)
        self._write(path, record.model_dump_json().encode())

    def _statistics(self, name: str, key: JsonValue) -> str:
        digest = _sha256([name, key, self._model_key])
        return f"cache/statistics/{self._owner}/{digest}.safetensors"

    def _generations(
        self, owner: str, prompts: Sequence[Sequence[int]], decoding: DecodingSettings
    ) -> str:
        digest = _sha256([[list(prompt) for prompt in prompts], vars(decoding), self._model_key])
        return f"cache/generations/{owner}/{digest}.json"

    def _generated(self, path: str) -> list[list[Generated]] | None:
        data = self._read(path)
        if data is None:
            return None
        try:
            record = _Generations.model_validate_json(data)
        except ValidationError as error:
            self._reject(path, error.errors()[0]["msg"])
            return None
        if record.sha256 != _sha256(record.plain()):
            self._reject(path, "its content is not what was written")
            return None
        return [[Generated(tuple(ids), reason) for ids, reason in texts] for texts in record.made]

    def _read(self, path: str) -> bytes | None:
        try:
            return self._objects.read(path)
        except ObjectMissing:
            return None
        except Unavailable as error:
            _log.warning("cannot read what was remembered", path=path, error=error.message)
            return None

    def _write(self, path: str, data: bytes) -> None:
        try:
            if path in self._broken:
                self._objects.put(path, data)
            else:
                self._objects.create(path, data)
        except Unavailable as error:
            _log.warning("cannot remember it", path=path, error=error.message)

    def _reject(self, path: str, reason: str) -> None:
        _log.warning("what was remembered is broken, making it anew", path=path, reason=reason)
        self._broken.add(path)


class _Generations(BaseModel):
    """A file of generations."""

    made: list[list[tuple[list[int], FinishReason]]]
    sha256: str = ""

    def plain(self) -> JsonValue:
        plain: JsonValue = self.model_dump(mode="json", include={"made"})
        return plain


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _sha256(value: JsonValue) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _computer(base: LoadedModel) -> list[JsonValue]:
    """What the last bits of a sum depend on: a repeat of an edit must not begin with others."""
    if base.device.type == "cuda":
        return [torch.__version__, torch.cuda.get_device_name(base.device)]
    return [torch.__version__, base.device.type, cpu_capability(), base.threads]
