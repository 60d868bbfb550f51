"""Check the weights of another server by the log-probabilities of one text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import torch

from models_store.settings import Settings
from workers.runtime.loading import LoadedModel, load_base

_TEXT = (
    "A bridge stands where the road meets the river. In spring the water is high, and people stop "
    "to watch it; by autumn one can cross on the stones."
)


def probe_tokens(base: LoadedModel) -> list[int]:
    """The text's token ids; needs no weights."""
    ids: list[int] = base.tokenizer(_TEXT, add_special_tokens=False)["input_ids"]
    return ids


def probe_logprobs(base: LoadedModel, settings: Settings) -> list[float]:
    """Log-probabilities of the text's tokens but the first, in nats.

    The weights are loaded on the CPU, once per fingerprint; the result is cached.

    Raises:
        BaseModelUnavailable: they are missing or broken.
    """
    cached = settings.cache / "probes" / f"{base.fingerprint.replace(':', '-')}.json"
    if cached.is_file():
        logprobs: list[float] = json.loads(cached.read_text(encoding="utf-8"))
        return logprobs
    loaded = load_base(base.folder, device="cpu", dtype="auto", cache=settings.cache)
    ids = probe_tokens(base)
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([ids])).logits[0, :-1].float()
    fresh = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    cached.parent.mkdir(parents=True, exist_ok=True)
    logprobs = [float(value) for value in fresh]
    temporary = cached.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(logprobs), encoding="utf-8")
    temporary.replace(cached)
    return logprobs


def mean_difference(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Mean absolute difference; infinite if the numbers of tokens differ."""
    if len(expected) != len(actual):
        return float("inf")
    pairs = zip(expected, actual, strict=True)
    return sum(abs(wanted - got) for wanted, got in pairs) / max(1, len(expected))
