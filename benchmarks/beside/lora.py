"""LoRA fine-tuning on texts (arXiv 2106.09685), by `peft`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import get_linear_schedule_with_warmup

from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded

RANK = 16
ALPHA = 32
DROPOUT = 0.05
LEARNING_RATE = 2e-4
BATCH = 16
IGNORED = -100
"""Label of a position that has no loss."""


def train(
    base: LoadedModel, texts: Sequence[Encoded], epochs: int, folder: Path, *, seed: int
) -> list[float]:
    """Train an adapter of all linear layers to predict texts, and save it in `folder`.

    AdamW with a linear decay of the learning rate to 0 and gradients clipped at norm 1, as the
    `Trainer` of transformers has them.

    Returns:
        The loss of each batch, nats a token.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=DROPOUT,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model: Any = get_peft_model(base.model, config)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    steps = epochs * -(-len(texts) // BATCH)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    losses = []
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(texts)), BATCH):
            ids, mask, labels = padded([texts[row] for row in rows], base.pad_id)
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    model.eval()
    model.save_pretrained(folder)
    model.unload()
    return losses


def padded(texts: Sequence[Encoded], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and labels of texts, filled up on the right: int64 `[texts, longest]`."""
    ids = [torch.tensor(text.ids) for text in texts]
    labels = [
        torch.where(torch.tensor(text.scored), row, IGNORED)
        for text, row in zip(texts, ids, strict=True)
    ]
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return (
        pad_sequence(ids, batch_first=True, padding_value=pad_id),
        mask,
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    )


@contextmanager
def adapted(
    base: LoadedModel, folder: Path, scale: float = 1.0
) -> Iterator[Callable[[float], None]]:
    """Within the block the model runs with the adapter in `folder` beside its weights, its delta
    multiplied by `scale`; the value of the block changes that factor."""
    model: Any = PeftModel.from_pretrained(base.model, str(folder))
    model.eval()
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]

    def scale_to(factor: float) -> None:
        for layer in layers:
            for name in layer.active_adapters:
                layer.set_scale(name, factor)

    try:
        scale_to(scale)
        yield scale_to
    finally:
        model.unload()
