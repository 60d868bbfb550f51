"""Models to measure: Llamas of any size with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from models_store.weights.architectures import architecture_for
from tests.support.pico import pico_model, pico_tokenizer
from workers.runtime.loading import LoadedModel

_HEAD = 64


@dataclass(frozen=True)
class Shape:
    """Hidden size and layers; an MLP is three times as wide."""

    hidden: int
    layers: int

    @property
    def weights(self) -> int:
        """Of the layers' matrices: 3 h² of attention with half as many heads for keys and values,
        9 h² of the MLP."""
        return 12 * self.hidden**2 * self.layers


SMALL = Shape(128, 6)
"""About 1.2 million weights beside the embeddings."""
MEDIUM = Shape(512, 12)
"""38 million; attention has the share that it has in SmolLM2."""
SHAPES = (
    Shape(32, 2),
    Shape(64, 4),
    SMALL,
    Shape(256, 8),
    MEDIUM,
    Shape(1024, 16),
    Shape(2048, 20),
)
"""From a pico model to a billion weights."""


def random_model(shape: Shape, folder: Path, ranks: int) -> LoadedModel:
    """A Llama in fp32 with random weights, which are never written to `folder`.

    Torch has one thread in this process from here on, as in an editor.

    Args:
        folder: where its configuration and its tokenizer go.
        ranks: processes that share a piece of work at most.
    """
    torch.set_num_threads(1)  # before any work: threads do not survive a fork
    tokenizer = pico_tokenizer(first_token=True)
    heads = max(4, shape.hidden // _HEAD)
    model = pico_model(
        "llama",
        vocabulary=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
    ).requires_grad_(False)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        architecture=architecture_for(model.config.to_dict()),
        fingerprint=f"sha256:{shape.hidden:032}{shape.layers:032}",
        folder=folder,
        device=model.device,
        dtype=model.dtype,
        ranks=ranks,
    )
