"""Texts for a behaviour that names a scorer in their place: what the base model says, by its score.

    K continuations of each prompt to learn from, by falling score s₁ ≥ s₂ ≥ … ≥ s_K
    undesired, desired: the i-th and the i-th last, for i = 1 … K/4,
                        while the scorer flags the one and not the other, and their scores differ

So both sides have as many texts of each prompt, and differ in what the scorer sees rather than in
what they are about. Prompts for validation and test are not among those continued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from models_store.errors import EditFailed, InvalidRequest
from models_store.presets import neutral_words
from models_store.schemas.behaviors import MIN_SCORED_PROMPTS, MIN_TEXTS, Behavior
from models_store.schemas.items import CompletionItem, Prompt
from models_store.schemas.report import MadeTexts
from workers.evaluation.data.splits import grouped
from workers.evaluation.scorers.prepare import Judges, PreparedScorer, teacher_of
from workers.evaluation.seeds import derive
from workers.evaluation.statistics import Floats
from workers.making.cache import Cache
from workers.making.continuations import CHOSEN, PROMPTS, SAMPLES, continuations

MARGIN = 0.1
"""Difference of two scores from which on they say something."""
LEAST_LEARNED = MIN_SCORED_PROMPTS // 4
"""Prompts to continue, at least."""
LEAST_USED = 8
"""Prompts that texts of both sides come from, at least: fewer could not be split."""

Side = Sequence[CompletionItem]


@dataclass(frozen=True)
class ScoredTexts:
    """A behaviour with its texts, and how they came about."""

    behavior: Behavior
    """Its prompts are those for validation and test."""
    made: MadeTexts


def scored_texts(behavior: Behavior, seed: int, cache: Cache, judges: Judges) -> ScoredTexts:
    """Continue prompts by the model that is to be edited, and divide what comes by the scorer.

    Raises:
        InvalidRequest: there is no such scorer, or templates leave too few prompts to continue.
        EditFailed: `behavior_not_shown`, the scorer flags too few continuations, or too many; or a
            remote scorer returns something that is no score.
        Unavailable: a remote scorer is away.
    """
    learned, others = divided(behavior.prompts, seed)
    teacher = teacher_of(behavior, seed, judges)
    arm = continuations(
        cache,
        [prompt.text for prompt in learned],
        chat=behavior.chat,
        max_new_tokens=behavior.max_new_tokens,
        seed=derive(seed, "scored"),
    )
    distinct = [list(dict.fromkeys(filter(str.strip, texts))) for texts in arm.texts]
    prompts = [prompt.text for prompt, texts in zip(learned, distinct, strict=True) for _ in texts]
    scores = teacher.score(prompts, [text for texts in distinct for text in texts])
    by_prompt = np.split(scores, np.cumsum([len(texts) for texts in distinct])[:-1])
    undesired: list[CompletionItem] = []
    desired: list[CompletionItem] = []
    for number, texts in enumerate(distinct):
        for high, low in _apart(by_prompt[number], teacher):
            undesired.append(_item(learned[number], texts[high], number))
            desired.append(_item(learned[number], texts[low], number))
    made = MadeTexts(
        scorer=teacher.name,
        prompts=len(learned),
        samples=SAMPLES,
        continuations=len(scores),
        flagged=int(teacher.undesired(scores).sum()),
        prompts_used=len({item.prompt for item in undesired}),
        texts=len(undesired),
    )
    if made.texts < MIN_TEXTS or made.prompts_used < LEAST_USED:
        raise EditFailed(_too_few(made), code="behavior_not_shown")
    return ScoredTexts(_with_texts(behavior, undesired, desired, others), made)


def divided(prompts: Sequence[Prompt], seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """The prompts to continue, at most half of those without a split, and the others; each in the
    given order.

    Prompts that name a split are among the others, with those of their template. Prompts that
    nearly repeat each other are of one template, and a template is not divided.

    Raises:
        InvalidRequest: there are too few to continue.
    """
    alike, _ = grouped(prompts)
    named = {prompt.template for prompt in alike if prompt.split is not None} - {None}
    free: dict[str | int, list[int]] = {}
    for index, prompt in enumerate(alike):
        if prompt.split is None and prompt.template not in named:
            free.setdefault(index if prompt.template is None else prompt.template, []).append(index)
    groups = list(free.values())
    room = min(sum(map(len, groups)) // 2, PROMPTS)
    learned: set[int] = set()
    for place in np.random.default_rng(derive(seed, "scored")).permutation(len(groups)):
        if len(groups[place]) <= room - len(learned):
            learned.update(groups[place])
    if len(learned) < LEAST_LEARNED:
        raise InvalidRequest.at(
            "/behavior/prompts",
            f"{len(learned)} prompts could be continued to make texts, and {LEAST_LEARNED} are "
            "needed: give more without split, of different templates or without one; prompts that "
            "nearly repeat each other are of one template",
            "too_few_prompts",
        )
    return (
        [prompt for index, prompt in enumerate(prompts) if index in learned],
        [prompt for index, prompt in enumerate(prompts) if index not in learned],
    )


def stand_in(behavior: Behavior, seed: int) -> Behavior:
    """The behaviour with as many texts as an edit would make at most, but neutral ones: for what
    the edit takes, not for what it does.

    Raises:
        InvalidRequest: templates leave too few prompts to continue.
    """
    learned, others = divided(behavior.prompts, seed)
    words = neutral_words()
    length = max(1, behavior.max_new_tokens * 3 // 4)

    def side() -> Side:
        return tuple(
            _item(prompt, " " + " ".join(islice(words, length)), number)
            for number, prompt in enumerate(learned)
            for _ in range(CHOSEN)
        )

    return _with_texts(behavior, side(), side(), others)


def generated_tokens(behavior: Behavior, seed: int) -> int:
    """Tokens that are generated to make texts, at most."""
    return len(divided(behavior.prompts, seed)[0]) * SAMPLES * behavior.max_new_tokens


def _apart(scores: Floats, teacher: PreparedScorer) -> list[tuple[int, int]]:
    """Places of the i-th highest and the i-th lowest score of one prompt, while they differ."""
    order = (-scores).argsort(kind="stable").tolist()
    flags = teacher.undesired(scores)
    pairs = []
    for high, low in zip(order[:CHOSEN], reversed(order), strict=False):
        if not flags[high] or flags[low] or scores[high] - scores[low] < MARGIN:
            break
        pairs.append((high, low))
    return pairs


def _item(prompt: Prompt, text: str, number: int) -> CompletionItem:
    return CompletionItem(prompt=prompt.text, completion=text, pair_id=f"prompt-{number}")


def _with_texts(
    behavior: Behavior, undesired: Side, desired: Side, prompts: Sequence[Prompt]
) -> Behavior:
    return behavior.model_copy(
        update={
            "undesired": tuple(undesired),
            "desired": tuple(desired),
            "prompts": tuple(prompts),
        }
    )


def _too_few(made: MadeTexts) -> str:
    share = 100 * made.flagged / max(1, made.continuations)
    return (
        f"the scorer {made.scorer} flags {made.flagged} of {made.continuations} continuations of "
        f"{made.prompts} prompts by the base model ({share:.0f} %), and only {made.texts} flagged "
        f"ones of {made.prompts_used} prompts have a clearly lower one of the same prompt beside "
        f"them; {MIN_TEXTS} of {LEAST_USED} prompts are needed. Give prompts that the model "
        "continues in both ways, or undesired and desired texts in place of the scorer"
    )
