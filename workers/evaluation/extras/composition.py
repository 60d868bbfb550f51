"""Edits together: their traits in all four combinations of one edit and the others.

The arms are neither, the others alone (the parents of an edit that is on top of them), the one edit
alone, and both. What it does where the others are, less what it does alone, is the interaction: 0
where they do not interfere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Prompt
from models_store.schemas.measurements import Trait
from workers import progress
from workers.evaluation.effect.effect import score_grid
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arm
from workers.evaluation.scorers.prepare import PreparedScorer
from workers.evaluation.statistics import Bootstrap, Floats, groups_of
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Mixture

Combination = Literal["base", "parents", "edit", "both"]
MAX_PROMPTS = 60
"""Of each trait: every one is continued four times."""


@dataclass(frozen=True, eq=False)
class ComposedTrait:
    """A behaviour that is looked at."""

    models: Mapping[Combination, EditedModel]
    behavior: Behavior
    prompts: Sequence[Prompt]
    """Test prompts; the first 60 are used."""
    scorers: Sequence[PreparedScorer]
    """The behaviour's own; the first one leads."""
    known: Mapping[Combination, Arm] = field(default_factory=dict)
    """Arms that were generated from these prompts already, with the same decoding."""


def combinations(
    model: EditedModel, others: Mixture, edit: Mixture
) -> Mapping[Combination, EditedModel]:
    """The four arms, of the model that all the edits are on."""
    return {
        "base": model.base,
        "parents": model.only(others),
        "edit": model.only(edit),
        "both": model.only((*others, *edit)),
    }


def composition(
    subjects: Sequence[ComposedTrait], *, decoding: DecodingSettings, bootstrap: Bootstrap
) -> tuple[Trait, ...]:
    """Measure every trait in all four combinations, by each of its scorers.

    Args:
        decoding: as the other generations are made; their length is each behaviour's own, and one
            sample of each prompt is made.
    """
    traits: list[Trait] = []
    for subject in progress.track(subjects):
        prompts = subject.prompts[:MAX_PROMPTS]
        chat = subject.behavior.chat
        loaded = subject.models["base"].loaded
        encoded = [encode_prompt(loaded, prompt.text, chat=chat) for prompt in prompts]
        settings = replace(decoding, max_new_tokens=subject.behavior.max_new_tokens, samples=1)
        texts: dict[Combination, Sequence[Sequence[str]]] = {}
        for name, edited in progress.track(list(subject.models.items())):
            arm = subject.known.get(name) or generate_arm(edited, encoded, settings)
            # A prompt's first sample has the same random numbers in every arm.
            texts[name] = [made[:1] for made in arm.texts[: len(prompts)]]
        traits += [
            _trait(subject.behavior.name, scorer, prompts, texts, bootstrap)
            for scorer in subject.scorers
        ]
    return tuple(traits)


def _trait(
    behavior: str,
    scorer: PreparedScorer,
    prompts: Sequence[Prompt],
    texts: Mapping[Combination, Sequence[Sequence[str]]],
    bootstrap: Bootstrap,
) -> Trait:
    prompt_texts = [prompt.text for prompt in prompts]
    counted: dict[Combination, Floats] = {
        name: scorer.undesired(score_grid(scorer, prompt_texts, arm_texts))[:, 0].astype(np.float64)
        for name, arm_texts in texts.items()
    }
    beside = counted["both"] - counted["parents"]
    alone = counted["edit"] - counted["base"]
    return Trait(
        behavior=behavior,
        scorer=scorer.name,
        prompts=len(prompts),
        base=float(counted["base"].mean()),
        parents=float(counted["parents"].mean()),
        edit=float(counted["edit"].mean()),
        both=float(counted["both"].mean()),
        interaction=bootstrap.mean(beside - alone, groups_of(prompts), reach=2.0),
    )
