"""Whether a server elsewhere holds the weights that it should: what they say about one text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import torch

from models_store.settings import Settings
from workers.runtime.loading import BaseModel, load_base

_TEXT = (
    "A bridge stands where the road meets the river. In spring the water is high, and people stop "
    "to watch it; by autumn one can cross on the stones."
)


def probe_tokens(base: BaseModel) -> list[int]:
    """The text's token ids; the model needs no weights for that."""
    ids: list[int] = base.tokenizer(_TEXT, add_special_tokens=False)["input_ids"]
    return ids


def probe_logprobs(base: BaseModel, settings: Settings) -> list[float]:
    """Log-probabilities of the text's tokens but the first, in nats.

    The weights are loaded on the CPU for that, once for a fingerprint: the cache remembers.

    Raises:
        BaseModelUnavailable: they are missing or broken.
    """
    remembered = settings.cache / "probes" / f"{base.fingerprint.replace(':', '-')}.json"
    if remembered.is_file():
        known: list[float] = json.loads(remembered.read_text(encoding="utf-8"))
        return known
    loaded = load_base(base.folder, device="cpu", dtype="auto", cache=settings.cache)
    ids = probe_tokens(base)
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([ids])).logits[0, :-1].float()
    found = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    remembered.parent.mkdir(parents=True, exist_ok=True)
    fresh = remembered.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(found.tolist()), encoding="utf-8")
    fresh.replace(remembered)
    return [float(value) for value in found]


def apart(expected: Sequence[float], found: Sequence[float]) -> float:
    """Mean absolute difference; infinite where the texts do not have as many tokens."""
    if len(expected) != len(found):
        return float("inf")
    pairs = zip(expected, found, strict=True)
    return sum(abs(one - two) for one, two in pairs) / max(1, len(expected))
