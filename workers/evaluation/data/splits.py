"""Split a behaviour once: texts for fitting, for scorers and held out; prompts to choose and test.

What is fitted on a text is never judged on it or its prompt, nor on one that nearly repeats them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import ChatItem, Item, Prompt, has_responses, prompt_of, text_of
from models_store.schemas.report import SplitCounts
from workers.evaluation.data.duplicates import (
    clusters,
    frame_of,
    join_by,
    repeats,
    runs_of,
    same_words,
    shares_run,
)
from workers.evaluation.seeds import derive

SHARES = (0.60, 0.25, 0.15)
"""Of the texts of each side: fit, scorer, held out."""
SHARED_RUN = 13
"""A prompt that has so many words in a row in common with a text that is fitted on is dropped."""
MADE_PROMPT_WORDS = 8
LEAST_PRESERVED = 16
"""Preserved responses to prompts, without which a search does not try `conditional`."""
MOST_PRESERVED = 400
"""Preserved items that are fitted on."""

T = TypeVar("T")
Leak = Literal["exact", "near", "run"]
"""How a prompt repeats a text that methods or scorers are fitted on, or what such a text answers:
the same words, most of them, or `SHARED_RUN` in a row."""


@dataclass(frozen=True)
class Sides:
    """Texts of both sides, each in the order of the behaviour."""

    undesired: tuple[Item, ...]
    desired: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.undesired) + len(self.desired)

    @property
    def items(self) -> tuple[Item, ...]:
        """Undesired ones first."""
        return (*self.undesired, *self.desired)

    @property
    def texts(self) -> list[str]:
        """Without prompts, in the order of `items`."""
        return [text_of(item) for item in self.items]

    @property
    def labels(self) -> list[int]:
        """1 is undesired, in the order of `items`."""
        return [1] * len(self.undesired) + [0] * len(self.desired)

    def share(self, place: int, of: int) -> Sides:
        """One of `of` shares that have no text in common."""
        return Sides(self.undesired[place::of], self.desired[place::of])

    @property
    def has_responses(self) -> bool:
        """Whether some of the texts are responses to prompts."""
        return has_responses(self.items)


@dataclass(frozen=True)
class Splits:
    """The parts of a behaviour; no text, near-duplicate or pair is in two of them.

    Prompts that nearly repeat each other are of one template, whatever they were given as.
    """

    fit: Sides
    """What methods see."""
    scorer: Sides
    """What scorers that learn are trained on."""
    heldout: Sides
    """What probes, scorers and likelihoods are judged on."""
    validate: tuple[Prompt, ...]
    """Prompts to choose between candidates, in random order, one of each template in turn."""
    test: tuple[Prompt, ...]
    """Prompts to measure the chosen one, likewise: the first of them are of all templates."""
    prompts_made: bool
    dropped: Counter[Leak]
    """Prompts that were left out; each counts once, for the first leak that it has."""
    prompt_clusters: int
    """Clusters of prompts that nearly repeat each other."""
    near_duplicates: int
    clusters_broken: bool
    seeds: Mapping[str, int]
    """By what they were used for."""

    @property
    def prompts_dropped(self) -> int:
        return self.dropped.total()

    def counts(self) -> SplitCounts:
        """The sizes of all parts, for the receipt."""
        return SplitCounts(
            fit_undesired=len(self.fit.undesired),
            fit_desired=len(self.fit.desired),
            scorer_undesired=len(self.scorer.undesired),
            scorer_desired=len(self.scorer.desired),
            heldout_undesired=len(self.heldout.undesired),
            heldout_desired=len(self.heldout.desired),
            validate_prompts=len(self.validate),
            test_prompts=len(self.test),
            prompts_made=self.prompts_made,
            prompts_dropped=self.prompts_dropped,
            dropped_exact=self.dropped["exact"],
            dropped_near=self.dropped["near"],
            dropped_runs=self.dropped["run"],
            prompt_clusters=self.prompt_clusters,
            near_duplicates=self.near_duplicates,
            clusters_broken=self.clusters_broken,
        )


def drawn(items: Sequence[T], most: int) -> list[T]:
    """So many of the items, drawn at random but always the same ones, in their own order: what
    stands side by side in a file is often of a kind, or every second one is."""
    if len(items) <= most:
        return list(items)
    order = np.random.default_rng(derive(0, "drawn")).permutation(len(items))
    return [items[place] for place in sorted(order[:most].tolist())]


@dataclass(frozen=True)
class PreservedSplit:
    """Preserved items, for methods that are fitted on them."""

    fit: tuple[Item, ...]
    heldout: tuple[Item, ...]
    """A quarter of the prompts with their responses, to measure what they feel of an edit."""


def split_preserved(preserve: Sequence[Item], seed: int) -> PreservedSplit:
    """Split preserved items; no prompt is in both parts, and plain texts are fitted on.

    At most `MOST_PRESERVED` items are used.
    """
    items = drawn(preserve, MOST_PRESERVED)
    prompts = list(dict.fromkeys(filter(None, map(_key, items))))
    order = np.random.default_rng(derive(seed, "preserve")).permutation(len(prompts))
    apart = {prompts[place] for place in order[: len(prompts) // 4]}
    return PreservedSplit(
        fit=tuple(item for item in items if _key(item) not in apart),
        heldout=tuple(item for item in items if _key(item) in apart),
    )


def enough_preserved(preserve: Sequence[Item]) -> bool:
    """Whether a search may try what depends on preserved prompts."""
    return len(set(filter(None, map(_key, preserve)))) >= LEAST_PRESERVED


def split_behavior(behavior: Behavior, seed: int) -> Splits:
    """Split the texts and prompts of a behaviour; the same seed gives the same parts.

    Texts go by clusters of near-duplicates, pairs and responses to one prompt, prompts by the split
    they name, else by template; those that nearly repeat each other are of one template. A
    behaviour without prompts gets those of held-out texts, or the first words of held-out texts.
    Prompts that leak, given or made, are left out.

    Raises:
        InvalidRequest: `pair_id`s join so many texts that they cannot be split, or no prompt is
            left to test on.
    """
    items = (*behavior.undesired, *behavior.desired)
    sides = [0] * len(behavior.undesired) + [1] * len(behavior.desired)
    seeds = {use: derive(seed, use) for use in ("split", "prompts")}
    similar = clusters([full_text(item) for item in items])
    parts, broken = _parts(items, similar, sides, seeds["split"])
    if parts is None:
        raise InvalidRequest.at(
            "/behavior/undesired",
            "pair_id joins so many texts that none are left to be held out: give each pair_id to "
            "a few texts only, such as two responses to one prompt",
            "pairs_too_large",
        )
    fit, scorer, heldout = (_part(behavior, parts, number) for number in range(len(SHARES)))
    made = not behavior.prompts
    given = made_prompts(heldout) if made else behavior.prompts
    kept, dropped = _without_leaks(given, (fit, scorer))
    alike, prompt_clusters = grouped(kept)
    validate, test = _split_prompts(alike, seeds["prompts"])
    if not test:
        origin = "made of held-out texts" if made else "given"
        raise InvalidRequest.at(
            "/behavior/prompts",
            f"no prompt is left to test on: {len(given)} {origin}; {left_out(dropped)}; for "
            f"validation: {len(validate)}. Give more prompts (200 work well) that no text answers "
            "or repeats, some without split or with the split test, or take those texts out",
            "no_test_prompts",
        )
    return Splits(
        fit=fit,
        scorer=scorer,
        heldout=heldout,
        validate=validate,
        test=test,
        prompts_made=made,
        dropped=dropped,
        prompt_clusters=prompt_clusters,
        near_duplicates=len(items) - len(set(similar)),
        clusters_broken=broken,
        seeds=seeds,
    )


def full_text(item: Item) -> str:
    """Prompt and response together: what makes two texts near-duplicates."""
    return f"{prompt_of(item)} {text_of(item)}".strip()


def _earlier(item: Item) -> list[str]:
    """What was said in a conversation before its last question, but for instructions to all."""
    if not isinstance(item, ChatItem):
        return []
    return [message.content for message in item.messages[:-1] if message.role != "system"]


def _parts(
    items: Sequence[Item], similar: Sequence[int], sides: Sequence[int], seed: int
) -> tuple[list[int] | None, bool]:
    """A part for each text, keeping together as much as can be.

    Where that leaves no parts, responses to one prompt are divided, then near-duplicates.

    Returns:
        The parts, None where pairs alone leave none; whether near-duplicates were divided.
    """
    pairs = [item.pair_id for item in items]
    paired = join_by(similar, pairs)
    parts = _assign(join_by(paired, _prompt_keys(items)), sides, seed)
    parts = parts or _assign(paired, sides, seed)
    if parts is not None:
        return parts, False
    return _assign(join_by(range(len(items)), pairs), sides, seed), True


def _prompt_keys(items: Sequence[Item]) -> list[str | None]:
    """The prompt of each text; None for a prompt of more texts than are held out in all."""
    keys = [_key(item) for item in items]
    texts = Counter(keys)
    return [key if texts[key] <= SHARES[2] * len(items) else None for key in keys]


def _key(item: Item) -> str | None:
    """The prompt, without regard to case; None for a plain text."""
    return prompt_of(item).casefold() or None


def _assign(groups: Sequence[int], sides: Sequence[int], seed: int) -> list[int] | None:
    """A part for each text: large groups first, each to where its texts are needed most.

    Returns:
        None when a part would get less than half of its share of a side.
    """
    members: dict[int, list[int]] = {}
    for text, group in enumerate(groups):
        members.setdefault(group, []).append(text)
    totals = np.bincount(sides, minlength=2)
    wanted = np.stack([np.round(share * totals) for share in SHARES])
    wanted[0] = totals - wanted[1:].sum(axis=0)
    got = np.zeros_like(wanted)
    shuffled = np.random.default_rng(seed).permutation(list(members)).tolist()
    parts = [0] * len(groups)
    for group in sorted(shuffled, key=lambda name: len(members[name]), reverse=True):
        counts = np.bincount([sides[text] for text in members[group]], minlength=2)
        missing = (wanted - got) / wanted.clip(min=1)
        best = int(np.argmax(missing @ counts))
        got[best] += counts
        for text in members[group]:
            parts[text] = best
    if bool((got < np.maximum(1, wanted / 2)).any()):
        return None
    return parts


def _part(behavior: Behavior, parts: Sequence[int], number: int) -> Sides:
    def chosen(texts: Sequence[Item], of: Sequence[int]) -> tuple[Item, ...]:
        return tuple(text for text, part in zip(texts, of, strict=True) if part == number)

    border = len(behavior.undesired)
    return Sides(
        chosen(behavior.undesired, parts[:border]), chosen(behavior.desired, parts[border:])
    )


def _without_leaks(
    prompts: Sequence[Prompt], parts: Sequence[Sides]
) -> tuple[list[Prompt], Counter[Leak]]:
    """The prompts that no text of the parts answers or repeats, and how the others do."""
    # Holding out the texts that answer prompts would keep more prompts, but few such texts fit into
    # the held-out part, which would no longer be a random share of the behaviour.
    items = [item for part in parts for item in part.items]
    said = [text for item in items for text in (prompt_of(item), text_of(item), *_earlier(item))]
    seen = list(dict.fromkeys(filter(None, said)))
    exact = set(map(same_words, seen))
    texts = [prompt.text for prompt in prompts]
    near = repeats(texts, seen, frame_of(texts))
    whole = (text for item in items for text in (full_text(item), *_earlier(item)))
    runs = frozenset(run for text in whole for run in runs_of(text, SHARED_RUN))

    def leak(place: int, text: str) -> Leak | None:
        if same_words(text) in exact:
            return "exact"
        if place in near:
            return "near"
        return "run" if shares_run(text, runs, SHARED_RUN) else None

    leaks = [leak(place, text) for place, text in enumerate(texts)]
    kept = [prompt for prompt, how in zip(prompts, leaks, strict=True) if how is None]
    return kept, Counter(how for how in leaks if how is not None)


def left_out(dropped: Counter[Leak]) -> str:
    """How many prompts leak, and how, as a clause."""
    told = f"left out because methods or scorers see them in texts: {dropped.total()}"
    how: dict[Leak, str] = {
        "exact": "word for word",
        "near": "nearly",
        "run": f"by {SHARED_RUN} words in a row",
    }
    counts = ", ".join(f"{dropped[leak]} {way}" for leak, way in how.items() if dropped[leak])
    return f"{told} ({counts})" if counts else told


def grouped(prompts: Sequence[Prompt]) -> tuple[list[Prompt], int]:
    """The same prompts with one template for all that nearly repeat each other, and for all of
    their templates.

    Returns:
        The prompts in their order, and the number of clusters of two or more.
    """
    texts = [prompt.text for prompt in prompts]
    near = clusters(texts, frame=frame_of(texts))
    groups = join_by(near, [prompt.template for prompt in prompts])
    names = {group: f"like {texts[group]}" for group, size in Counter(groups).items() if size > 1}
    for group, prompt in reversed(list(zip(groups, prompts, strict=True))):
        if prompt.template is not None:
            names[group] = prompt.template
    alike = [
        prompt.model_copy(update={"template": names.get(group)})
        for group, prompt in zip(groups, prompts, strict=True)
    ]
    return alike, sum(size > 1 for size in Counter(near).values())


def made_prompts(texts: Sides) -> tuple[Prompt, ...]:
    """The prompts of responses, or the first third of plain texts; each once."""
    return _each_once(prompt_of(item) or _first_third(item) for item in texts.items)


def beginnings(texts: Sides) -> tuple[Prompt, ...]:
    """The first words of responses and of plain texts, more of them than prompts are made of."""
    return _each_once(" ".join(text_of(item).split()[:MADE_PROMPT_WORDS]) for item in texts.items)


def _first_third(item: Item) -> str:
    words = text_of(item).split()
    return " ".join(words[: min(MADE_PROMPT_WORDS, max(2, len(words) // 3))])


def _each_once(texts: Iterable[str]) -> tuple[Prompt, ...]:
    prompts: dict[str, Prompt] = {}
    for text in texts:
        prompts.setdefault(text.casefold(), Prompt(text=text))
    return tuple(prompts.values())


def _split_prompts(
    prompts: Sequence[Prompt], seed: int
) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """A third of the prompts that name no split validates, a fifth when there are few.

    A prompt of a template that names a split goes there with it; where some name each, as prompts
    that nearly repeat each other may, all are tested on.
    """
    rng = np.random.default_rng(seed)
    shuffled = [prompts[index] for index in rng.permutation(len(prompts))]
    named = {
        prompt.template: split
        for split in ("validate", "test")
        for prompt in prompts
        if prompt.template is not None and prompt.split == split
    }
    splits = [named.get(prompt.template, prompt.split) for prompt in shuffled]
    free: dict[str | int, list[int]] = {}
    for index, prompt in enumerate(shuffled):
        if splits[index] is None:
            free.setdefault(index if prompt.template is None else prompt.template, []).append(index)
    total = sum(map(len, free.values()))
    wanted = total // (3 if total >= 60 else 5)
    validate = {index for index, split in enumerate(splits) if split == "validate"}
    room = wanted
    for group in free.values():
        if len(group) <= room:
            validate.update(group)
            room -= len(group)
    return (
        _in_turn(prompt for index, prompt in enumerate(shuffled) if index in validate),
        _in_turn(prompt for index, prompt in enumerate(shuffled) if index not in validate),
    )


def _in_turn(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    """The first prompt of every template, then the second ones: few are independent all the same.

    A prompt without a template is one of its own.
    """
    seen: Counter[str] = Counter()
    rounds: list[tuple[int, Prompt]] = []
    for prompt in prompts:
        if prompt.template is None:
            rounds.append((0, prompt))
        else:
            rounds.append((seen[prompt.template], prompt))
            seen[prompt.template] += 1
    return tuple(prompt for _, prompt in sorted(rounds, key=lambda entry: entry[0]))
