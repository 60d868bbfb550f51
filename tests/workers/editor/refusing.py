"""A pico model that has learned to say sorry to whatever it is asked, as a careful one would."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_store.presets import load_preset
from tests.support.pico import save_pico

_STEPS = 60
_BATCH = 16
_ANSWER = 6


def teach_to_refuse(folder: Path) -> Path:
    """Write the model to `folder`; a few seconds, the same weights every time."""
    save_pico(folder, seed=2)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [one.text for one in load_preset("compliance").prompts if one.split == "validate"]
    first, more = tokenizer.encode("sorry sorry")
    rng = random.Random(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    for _ in range(_STEPS):
        rows = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            )
            for text in rng.sample(asked, _BATCH)
        ]
        ids = [tokenizer.encode(row, add_special_tokens=False) for row in rows]
        length = max(map(len, ids))
        # Padded on the left, so that all answers are at the end.
        batch = torch.tensor(
            [[0] * (length - len(own)) + own + [first] + [more] * (_ANSWER - 1) for own in ids]
        )
        mask = torch.tensor([[0] * (length - len(own)) + [1] * (len(own) + _ANSWER) for own in ids])
        logits = model(input_ids=batch, attention_mask=mask).logits[:, -_ANSWER - 1 : -1]
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, -_ANSWER:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder
