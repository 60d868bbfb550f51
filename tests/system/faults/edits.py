"""The bodies of small edits of the pico model."""

from __future__ import annotations

from typing import Any

_FOOD = ("film", "food", "service", "people", "day")


def edit_body(*, long: bool = False) -> dict[str, Any]:
    """An edit of the pico model: half a second of work, evaluation and all, or about ten."""
    texts = {
        side: [
            f"the {_FOOD[i % 5]} was {word} and {other} to {i} of the people at table {i * 7}"
            for i in range(24)
        ]
        for side, word, other in (("undesired", "bad", "cruel"), ("desired", "good", "kind"))
    }
    prompts = [f"{_FOOD[i % 5]} of day {i} was" for i in range(150 if long else 6)]
    length = 100 if long else 2
    behavior = {"name": "mood", "prompts": prompts, "max_new_tokens": length, **texts}
    return {
        "base_model": "pico",
        "behavior": behavior,
        "method": {"type": "model_surgery", "relative_alpha": 1.0, "epochs": 2},
        "effort": "standard" if long else "quick",
    }
