"""The curvature of shifts of the built-in base model, which comes with the package.

It depends on the model and on neutral texts alone, and takes as long as reading 60,000 tokens: the
first edit on a machine need not wait for it. It is the better for four times as many draws.

    python -m workers.making.fitting.shipped

makes the file anew, in a few minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file

from models_store.schemas.catalogue import BUILT_IN
from models_store.settings import Settings
from workers.runtime.base_models import materialise
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.reading.shifts import SHIFTS_VERSION, shift_curvature
from workers.surgery.moments import LowRankMoment, Moment, moment_from_tensors

_FILE = Path(__file__).with_name("smollm2-135m-instruct.safetensors")
_DRAWS = 8
_RANK = 128
"""Leading eigenpairs that are kept: 150 kB a layer."""


def shipped_curvature(base: LoadedModel, layers: Sequence[int]) -> Mapping[int, Moment]:
    """Of those of the layers that the package has it for; none for other weights."""
    fingerprint, moments = _read()
    if base.fingerprint != fingerprint:
        return {}
    return {layer: moments[layer] for layer in layers if layer in moments}


@cache
def _read() -> tuple[str, dict[int, Moment]]:
    """The fingerprint of the base model, and the moments by layer."""
    with safetensors.safe_open(_FILE, framework="pt") as file:
        metadata = file.metadata()
        if metadata["version"] != str(SHIFTS_VERSION):
            return "", {}
        parts: dict[int, dict[str, torch.Tensor]] = {}
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            layer, part = name.split(".")
            parts.setdefault(int(layer), {})[part] = file.get_tensor(name).float()
    return metadata["base_fingerprint"], {
        layer: moment_from_tensors(tensors) for layer, tensors in parts.items()
    }


def _leading(matrix: torch.Tensor) -> LowRankMoment:
    """A moment as its leading eigenpairs and the rest of its diagonal, in half precision."""
    values, vectors = torch.linalg.eigh(matrix.double())
    values, vectors = values[-_RANK:].flip(0), vectors[:, -_RANK:].flip(1).half()
    rest = matrix.double().diagonal() - vectors.double().square() @ values
    return LowRankMoment(rest.clamp_min(0).float(), vectors.contiguous(), values.float())


def make() -> None:
    from workers.making.fitting.model_readings import benign_texts
    from workers.making.search.recipes import methods_of, recipes

    settings = Settings()
    folder = materialise(BUILT_IN[_FILE.stem].source, settings.cache)
    base = load_base(folder, device="cpu", dtype="float32", ranks=True, cache=settings.cache)
    layers = {
        layer
        for method in methods_of(recipes(base.layers, 100))
        for need in method.needs(base.layers)
        if need.reading == "shift curvature"
        for layer in need.layers
    }
    moments = shift_curvature(base, benign_texts(base), sorted(layers), draws=_DRAWS)
    tensors = {
        f"{layer}.{name}": tensor
        for layer, moment in moments.items()
        for name, tensor in _leading(moment.to_tensors()["matrix"]).to_tensors().items()
    }
    metadata = {"base_fingerprint": base.fingerprint, "version": str(SHIFTS_VERSION)}
    save_file(tensors, _FILE, metadata)


if __name__ == "__main__":
    make()
