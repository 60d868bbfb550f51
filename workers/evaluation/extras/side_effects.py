"""What else changed: scorers of other traits, on the generations that are there already.

Every preset's scorer is asked, but for those of the behaviour itself. Classifiers are trained on
a preset's texts, once a process; a preset that shares texts with the behaviour is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from models_store.presets import load_preset, preset_names
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Prompt, text_of
from models_store.schemas.measurements import SideEffect
from models_store.schemas.scorers import SCORERS
from workers.evaluation.effect.effect import contrast
from workers.evaluation.effect.generations import Arm
from workers.evaluation.scorers import formality_markers, profanity, refusal_phrases, tfidf, vader
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.statistics import Bootstrap, Floats, groups_of

_UNTRAINED: Mapping[str, Callable[[Training], Scorer]] = {
    "refusal-phrases": refusal_phrases.make,
    "profanity": profanity.make,
    "vader": vader.make,
    "formality-markers": formality_markers.make,
}
"""Scorers that learn nothing from the behaviour they are used for."""
_NOTHING = Training((), (), 0)


def side_effects(
    before: Arm,
    after: Arm,
    prompts: Sequence[Prompt],
    behavior: Behavior,
    own: Collection[str],
    bootstrap: Bootstrap,
) -> tuple[SideEffect, ...]:
    """Compare two arms by all that presets are scored by, and by length.

    Args:
        before, after: the base's and the edited model's generations.
        prompts: what they go on from.
        behavior: whose own scorers, and whose own texts, are left out.
    """
    prompt_texts, groups = [prompt.text for prompt in prompts], groups_of(prompts)
    effects = [
        SideEffect(
            name="length",
            measures="tokens of a generation",
            unit="tokens",
            of=contrast(_lengths(before), _lengths(after), bootstrap, groups),
        )
    ]
    for name, measures, scorer, threshold in _others(behavior, own):
        base, edited = (_counted(scorer, threshold, prompt_texts, arm) for arm in (before, after))
        rate = contrast(base, edited, bootstrap, groups)
        effects.append(SideEffect(name=name, measures=measures, of=rate))
    return tuple(effects)


def _others(behavior: Behavior, own: Collection[str]) -> Iterator[tuple[str, str, Scorer, float]]:
    """Name, what it measures, scorer and threshold of all that is not the behaviour's own."""
    for name, make in _UNTRAINED.items():
        if name not in own:
            yield name, SCORERS[name].measures, make(_NOTHING), SCORERS[name].threshold
    texts = _texts(behavior)
    for preset, known in _presets_by_texts().items():
        if texts.isdisjoint(known):
            yield (
                f"{preset} (tfidf)",
                f"likeness to the undesired texts of the preset {preset}",
                preset_classifier(preset),
                SCORERS["tfidf"].threshold,
            )


@cache
def _presets_by_texts() -> Mapping[str, frozenset[str]]:
    """Presets with the texts of both sides; of two that only swap the sides, one."""
    names: dict[frozenset[str], str] = {}
    for name in preset_names():
        # The last one stays: `refusal` says what it is about better than `compliance`.
        names[_texts(load_preset(name))] = name
    return {name: texts for texts, name in names.items()}


@cache
def preset_classifier(preset: str) -> Scorer:
    """Trained on all of a preset's texts: no text of the behaviour is among them."""
    behavior = load_preset(preset)
    items = (*behavior.undesired, *behavior.desired)
    labels = [1] * len(behavior.undesired) + [0] * len(behavior.desired)
    return tfidf.make(Training([text_of(item) for item in items], labels, 0))


def _texts(behavior: Behavior) -> frozenset[str]:
    return frozenset(text_of(item) for item in (*behavior.undesired, *behavior.desired))


def _counted(scorer: Scorer, threshold: float, prompt_texts: Sequence[str], arm: Arm) -> Floats:
    """Which generations reach the threshold, 0 or 1, `[prompts, samples]`."""
    samples = len(arm.texts[0])
    of_each = [prompt for prompt in prompt_texts for _ in range(samples)]
    scores = scorer.score(of_each, arm.flat_texts()).reshape(len(prompt_texts), samples)
    return (scores >= threshold).astype(np.float64)


def _lengths(arm: Arm) -> Floats:
    """`[prompts, samples]`, in tokens."""
    return np.array([[len(text.ids) for text in row] for row in arm.made], dtype=np.float64)
