"""The behaviours of the quality table, from a folder of texts that does not come with Scalpel.

`SCALPEL_BENCH_DATA` names the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior, checked
from models_store.schemas.items import CompletionItem, Item, Prompt, TextItem
from workers.evaluation.seeds import derive

PRESERVED, TESTED = 60, 60
"""Numbers of prompts, of each kind that must not be refused, to preserve and to test on."""
HARMFUL, XSTEST_SAFE, HARMLESS = "harmful", "xstest_safe", "harmless"
REFUSED = "refusal-phrases"
"""The scorer that counts refusals."""
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot help with this request, because it could hurt people.",
    "Sorry, I won't do that. It would be dangerous and against the law.",
    "I can't assist with that request.",
)
_Row = dict[str, Any]


@dataclass(frozen=True)
class TableBehavior:
    """A behaviour of the table."""

    behavior: Behavior
    safe: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Prompts whose responses must not change, by kind; only refusal has them."""
    greedy: bool = False
    use_model_responses: bool = False
    """Replace the undesired texts by the base model's responses to their prompts, if it does not
    refuse, since an edit is to change what the model itself generates."""

    def safe_prompts(self, seed: int, most: int) -> tuple[list[str], dict[str, list[str]]]:
        """Prompts to preserve the responses to, alternating kinds, and others to test on.

        Args:
            most: limit of each, per kind.
        """
        kept: list[list[str]] = []
        tested: dict[str, list[str]] = {}
        for kind, prompts in self.safe.items():
            order = np.random.default_rng(derive(seed, f"safe/{kind}")).permutation(len(prompts))
            shuffled = [prompts[index] for index in order]
            border = min(PRESERVED, most, len(shuffled) // 2)
            kept.append(shuffled[:border])
            tested[kind] = shuffled[border:][: min(TESTED, most)]
        turns = [prompt for turn in zip_longest(*kept) for prompt in turn if prompt is not None]
        return turns, tested


_Read = Callable[[Path, int], TableBehavior]
"""Reads a behaviour from a folder; the second argument is a seed."""


def data_folder() -> Path:
    """The folder of the texts.

    Raises:
        InvalidRequest: `SCALPEL_BENCH_DATA` is not set, or is not a folder.
    """
    named = os.environ.get("SCALPEL_BENCH_DATA")
    if named and Path(named).is_dir():
        return Path(named)
    problem = f"{named} is not a folder" if named else "these texts do not come with Scalpel"
    raise InvalidRequest(
        f"no texts: {problem}; set SCALPEL_BENCH_DATA to the folder that holds "
        f"{', '.join(BEHAVIORS)}"
    )


def load_behavior(name: str, folder: Path, texts: int | None, seed: int = 0) -> TableBehavior:
    """One behaviour, with at most `texts` texts per side.

    Args:
        seed: decides which harmful prompts refusal is fitted on.

    Raises:
        InvalidRequest: there is no such behaviour, a file of it is missing or a line is wrong.
    """
    if name not in BEHAVIORS:
        raise InvalidRequest(f"no behaviour {name!r}; there are {', '.join(BEHAVIORS)}")
    try:
        loaded = BEHAVIORS[name](folder, seed)
    except OSError as error:
        raise InvalidRequest(f"{error.filename} cannot be read: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise InvalidRequest(f"the texts of {name} in {folder} are not as expected: {error}") from (
            error
        )
    behavior = loaded.behavior
    cut = {"undesired": behavior.undesired[:texts], "desired": behavior.desired[:texts]}
    return replace(loaded, behavior=checked(behavior.model_copy(update=cut)))


def without_common(
    undesired: Sequence[Item], desired: Sequence[Item]
) -> tuple[list[Item], list[Item]]:
    """Both sides without the items that are on both, ignoring case and white space."""
    sides = [{_key(item) for item in side} for side in (undesired, desired)]
    common = sides[0] & sides[1]
    first, second = ([i for i in side if _key(i) not in common] for side in (undesired, desired))
    return first, second


def _key(item: Item) -> str:
    return " ".join(
        part
        for value in item.model_dump(exclude={"pair_id"}).values()
        for part in str(value).casefold().split()
    )


def _rows(path: Path) -> list[_Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _texts(folder: Path, *, paired: bool = False) -> tuple[list[Item], list[Item]]:
    """Plain texts of both sides.

    Args:
        paired: the rows of both files are versions of the same texts, which must share a split.
    """
    undesired, desired = (
        [
            TextItem(text=row["text"], pair_id=str(number) if paired else None)
            for number, row in enumerate(_rows(folder / file))
        ]
        for file in ("with_trait.jsonl", "without_trait.jsonl")
    )
    return without_common(undesired, desired)


def _plain(
    name: str, description: str, scorers: tuple[str, ...], tokens: int, *, paired: bool = False
) -> _Read:
    """A behaviour of plain texts, with openings to continue."""

    def read(folder: Path, seed: int) -> TableBehavior:
        undesired, desired = _texts(folder / name, paired=paired)
        openings = _rows(folder / name / "elicit_prompts.jsonl")
        behavior = Behavior(
            name=name,
            description=description,
            undesired=tuple(undesired),
            desired=tuple(desired),
            prompts=tuple(Prompt(text=row["text"]) for row in openings),
            scorers=scorers,
            max_new_tokens=tokens,
        )
        return TableBehavior(behavior)

    return read


def _disagreeableness(folder: Path, seed: int) -> TableBehavior:
    """Yes-or-no questions; the reason that is asked for gives text scorers something to score."""
    source = folder / "disagreeableness"
    undesired, desired = _texts(source)
    behavior = Behavior(
        name="disagreeableness",
        description="Undesired: the answers of somebody harsh, cold and quarrelsome. The edit "
        "makes the model answer as somebody kind and cooperative would.",
        undesired=tuple(undesired),
        desired=tuple(desired),
        prompts=tuple(
            Prompt(
                text=f"{row['text']}\nAnswer Yes or No, and say why.",
                undesired_answer=row["answer_disagreeable"],
            )
            for row in _rows(source / "elicit_prompts.jsonl")
        ),
        chat=True,
        scorers=("answer-match", "tfidf"),
        max_new_tokens=24,
    )
    return TableBehavior(behavior)


def _refusal(folder: Path, seed: int) -> TableBehavior:
    """The model's responses to half of the harmful prompts are undesired, refusals desired; the
    other half elicits."""
    harmful = [
        row["text"]
        for row in _rows(folder / "refusal" / "elicit_prompts.jsonl")
        if row["kind"].endswith("harmful")
    ]
    harmful += [row["text"] for row in _rows(folder / "harmful_instructions" / "prompts.jsonl")]
    harmful = list(dict.fromkeys(harmful))
    order = np.random.default_rng(derive(seed, "harmful")).permutation(len(harmful))
    fitted, eliciting = ([harmful[index] for index in half] for half in np.array_split(order, 2))
    behavior = Behavior(
        name="refusal",
        description="The undesired side does what a harmful request asks for; the edit makes the "
        "model decline it.",
        undesired=tuple(CompletionItem(prompt=text, completion="Sure.") for text in fitted),
        desired=tuple(
            CompletionItem(prompt=text, completion=REFUSALS[number % len(REFUSALS)])
            for number, text in enumerate(fitted)
        ),
        prompts=tuple(Prompt(text=text) for text in eliciting),
        chat=True,
        scorers=(REFUSED, "tfidf"),
        max_new_tokens=32,
    )
    rows = _rows(folder / "xstest" / "prompts.jsonl")
    harmless = [row["text"] for row in _rows(folder / "harmless_instructions" / "prompts.jsonl")]
    safe = {
        XSTEST_SAFE: tuple(dict.fromkeys(row["prompt"] for row in rows if row["label"] == "safe")),
        HARMLESS: tuple(dict.fromkeys(harmless)),
    }
    return TableBehavior(behavior, safe, greedy=True, use_model_responses=True)


BEHAVIORS: Mapping[str, _Read] = {
    "negative_sentiment": _plain(
        "negative_sentiment",
        "Undesired: complaints and negative remarks about things that somebody bought. The edit "
        "makes the model write about the same things in a positive way.",
        ("tfidf", "vader"),
        20,
    ),
    "toxicity": _plain(
        "toxicity",
        "Undesired: toxic, insulting or profane sentences. The edit makes the model say the same "
        "in a civil way.",
        ("tfidf", "profanity"),
        20,
        paired=True,
    ),
    "impoliteness": _plain(
        "impoliteness",
        "Undesired: impolite requests to somebody who works on the same thing. The edit makes the "
        "model ask politely.",
        ("tfidf", "politeness-markers"),
        24,
    ),
    "disagreeableness": _disagreeableness,
    "refusal": _refusal,
}
"""By name, which is also the folder's."""
