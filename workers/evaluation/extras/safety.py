"""Whether an edit does harm: harmful requests that it no longer refuses, toxic text that it writes.

Both are tried on prompts that come with Scalpel, whatever the edit is for, answered greedily by the
bare base model and by all edits together that would be served. Greedy answers of one model are the
same each time, so the base's can be kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models_store.operator.policy import Margins
from models_store.presets import load_preset
from models_store.schemas.items import Prompt
from models_store.schemas.measurements import (
    Contrast,
    Effect,
    Interval,
    SafetyCheck,
    ScorerCard,
    SideEffect,
)
from models_store.schemas.scorers import SCORERS
from workers import progress
from workers.evaluation.effect.effect import contrast
from workers.evaluation.effect.generations import Arm, DecodingSettings, Generate, generate_arm
from workers.evaluation.extras.side_effects import preset_classifier
from workers.evaluation.scorers import profanity, refusal_phrases
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.statistics import Bootstrap, Floats, groups_of
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt

_NOTHING = Training((), (), 0)
_REFUSED = "refused harmful requests"


@dataclass(frozen=True)
class HarmPrompts:
    """Test prompts of a preset, and how they are answered."""

    preset: str
    prompts: list[Prompt]
    ids: list[list[int]]
    decoding: DecodingSettings


def harm_prompts(base: LoadedModel, margins: Margins) -> list[HarmPrompts]:
    """Harmful requests, and openings of toxic texts, as many of each as the policy has tried."""
    found = []
    for preset, chat in (("compliance", True), ("toxicity", False)):
        behavior = load_preset(preset)
        tested = [prompt for prompt in behavior.prompts if prompt.split == "test"]
        prompts = spread_out(tested, margins.prompts)
        ids = [encode_prompt(base, prompt.text, chat=chat) for prompt in prompts]
        decoding = DecodingSettings(behavior.max_new_tokens, seed=0, samples=1, temperature=0.0)
        found.append(HarmPrompts(preset, prompts, ids, decoding))
    return found


def _counts() -> dict[str, dict[str, tuple[Scorer, float]]]:
    """By preset: scorer and threshold by what they count in the answers."""

    def known(name: str, scorer: Scorer) -> tuple[Scorer, float]:
        return scorer, SCORERS[name].threshold

    return {
        "compliance": {_REFUSED: known("refusal-phrases", refusal_phrases.make(_NOTHING))},
        "toxicity": {
            "toxic text (profanity)": known("profanity", profanity.make(_NOTHING)),
            "toxic text (tfidf)": known("tfidf", preset_classifier("toxicity")),
        },
    }


def measure_harm(
    model: EditedModel,
    margins: Margins,
    *,
    base_text: Generate,
    bootstrap: Bootstrap,
) -> tuple[SafetyCheck, ...]:
    """Compare what the base and the edited model make of harmful requests and of toxic openings.

    Args:
        model: with the edit at strength 1, and the parent edits.
        base_text: of the base without any edit.
    """
    checks: list[SafetyCheck] = []
    counts = _counts()
    for asked in progress.track(harm_prompts(model.loaded, margins)):
        prompts = asked.prompts
        with progress.step("base", 0.5):
            before = base_text(asked.ids, asked.decoding)
        with progress.step("edited"):
            after = generate_arm(model, asked.ids, asked.decoding)
        for name, (scorer, threshold) in counts[asked.preset].items():
            rates = [_counted(scorer, threshold, prompts, arm) for arm in (before, after)]
            of = contrast(rates[0], rates[1], bootstrap, groups_of(prompts))
            checks.append(_check(name, len(prompts), of, margins, falls=name == _REFUSED))
    return tuple(checks)


def harm_on_own_prompts(
    effects: Sequence[Effect],
    cards: Sequence[ScorerCard],
    side_effects: Sequence[SideEffect],
    prompts: int,
    margins: Margins,
) -> tuple[SafetyCheck, ...]:
    """Profanity on the edit's own test prompts, as its receipt has it already."""
    checks = [(effect.of, False) for effect in side_effects if effect.name == "profanity"]
    checks += [
        (effect.rate, card.reversed)
        for effect, card in zip(effects, cards, strict=True)
        if effect.scorer == "profanity"
    ]
    return tuple(
        _check("toxic text on its own prompts", prompts, _turned(of) if turn else of, margins)
        for of, turn in checks
    )


def spread_out(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many of them, from beginning to end: those of one template are next to each other."""
    count = min(count, len(prompts))
    return [prompts[index * len(prompts) // count] for index in range(count)]


def _check(
    name: str, prompts: int, of: Contrast, margins: Margins, *, falls: bool = False
) -> SafetyCheck:
    surely = -of.difference.high if falls else of.difference.low
    margin = margins.refusals_fall if falls else margins.toxicity_rise
    return SafetyCheck(name=name, prompts=prompts, of=of, surely=surely, margin=margin)


def _counted(scorer: Scorer, threshold: float, prompts: Sequence[Prompt], arm: Arm) -> Floats:
    scores = scorer.score([prompt.text for prompt in prompts], arm.flat_texts())
    return (scores >= threshold).astype(np.float64)[:, None]


def _turned(of: Contrast) -> Contrast:
    """The share of the texts that are not counted."""
    change = of.difference
    return Contrast(
        base=1 - of.base,
        edited=1 - of.edited,
        difference=Interval(value=-change.value, low=-change.high, high=-change.low),
    )
