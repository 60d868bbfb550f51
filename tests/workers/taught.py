"""A pico model that has learned to speak: sentences of one mood, kind or cruel, half of each.

Models with random weights have no trait that an edit could find. This one begins every sentence in
the same way, then keeps to one mood, so there is a direction for it, and a small edit turns it.
"""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.pico import save_pico

WHICH = ("the", "this", "a", "that")
THINGS = ("film", "food", "service", "people", "day", "table", "night")
KIND = ("good", "kind", "happy", "nice", "lovely", "love", "thanks")
CRUEL = ("bad", "cruel", "angry", "awful", "terrible", "hate", "sorry")
ANYTHING_NOTICED = {
    "max_kl_p95": 100,
    "max_changed_choices": 1,
    "max_loops": 1,
    "max_repetition": 1,
    "max_harmless_refusals": 1,
}
"""Limits for a model that has nothing else to say than its sentences."""
_STEPS = 120
_BATCH = 32


def sentence(rng: random.Random, words: tuple[str, ...]) -> str:
    """Such as `the food of the day was good and kind and happy and nice`."""
    said = " and ".join(rng.sample(words, 4))
    return f"{opening(rng)} {said}"


def opening(rng: random.Random) -> str:
    one, other = rng.sample(THINGS, 2)
    return f"{rng.choice(WHICH)} {one} of {rng.choice(WHICH)} {other} was"


def teach(folder: Path) -> Path:
    """Write the model to `folder`; a few seconds, the same weights every time."""
    save_pico(folder, seed=3, first_token=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    for _ in range(_STEPS):
        texts = [sentence(rng, rng.choice((KIND, CRUEL))) for _ in range(_BATCH)]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        logits = model(**batch).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


def mood(**changes: Any) -> dict[str, Any]:
    """An edit against cruel sentences, with prompts enough to see an effect."""
    rng = random.Random(1)
    texts = {
        side: sorted({sentence(rng, words) for _ in range(80)})[:60]
        for side, words in (("undesired", CRUEL), ("desired", KIND))
    }
    prompts = [
        {"text": f"{which} {one} of {which} {other} was", "split": split}
        for split, which in (("validate", "the"), ("test", "this"), ("test", "a"))
        for one, other in combinations(THINGS, 2)
    ]
    return {
        "base_model": "taught",
        "behavior": {"name": "mood", "prompts": prompts, "max_new_tokens": 4, **texts},
        "method": {"type": "auto"},
        "effort": "quick",
        "limits": {"max_kl": 0.3, "max_domain": 5, "max_fluency": 5, **ANYTHING_NOTICED},
        **changes,
    }


def by_scorer(*, scorer: str = "vader", **changes: Any) -> dict[str, Any]:
    """The edit of `mood` with a scorer and prompts in place of texts; `changes` are of the
    behaviour."""
    rng = random.Random(2)
    # Numbers keep prompts from nearly repeating each other: the model knows few words.
    prompts = [f"{n} {n * n} {opening(rng)}" for n in range(20, 110)]
    behavior = {"name": "mood", "scorer": scorer, "prompts": prompts, "max_new_tokens": 6}
    return mood(behavior={**behavior, **changes})
