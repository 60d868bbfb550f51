"""Forms with adapters, as clients send them to be imported."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from safetensors.numpy import save

from models_store.work.store import Place
from tests.support.services import Api

PREFIX = "base_model.model.model.layers"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
Part = tuple[str, tuple[str, bytes]]


def pair(module: str = "0.self_attn.q_proj", rank: int = 2) -> dict[str, np.ndarray]:
    shapes = {"A": (rank, 32), "B": (32, rank)}
    return {
        f"{PREFIX}.{module}.lora_{name}.weight": np.ones(shape, np.float32)
        for name, shape in shapes.items()
    }


def adapter(tensors: dict[str, np.ndarray] | None = None, **changes: Any) -> list[Part]:
    """The parts of a form with an adapter."""
    return [
        ("file", ("adapter_config.json", json.dumps({**CONFIG, **changes}).encode())),
        ("file", ("adapter_model.safetensors", save(pair() if tensors is None else tensors))),
    ]


def send(api: Api, parts: list[Part], headers: dict[str, str] | None = None, **fields: str) -> Any:
    data = {"base_model": "pico", **fields}
    return api.http.post("/v1/imports", data=data, files=parts, headers=headers)


def stored(api: Api, id: str) -> dict[str, bytes]:
    place = Place("edit", "default", id)
    folder = f"{place.folder}/source"
    return {
        path.rpartition("/")[2]: api.store.objects.read(path)
        for path in api.store.objects.paths(folder)
    }
