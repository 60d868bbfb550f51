"""A behaviour from one sentence: the instructions to a model, and which responses are kept.

The model responds to neutral questions twice, once as the sentence says and once the opposite way.
Pairs that are of no use are dropped, each for one reason, and what is left is a behaviour for a
person to look at. Nothing of it is stored.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.domain.bodies import RequestBody
from models_store.presets import load_preset, neutral_texts
from models_store.schemas.behaviors import MIN_TEXTS, Behavior
from models_store.schemas.estimates import Distinction
from models_store.schemas.items import CompletionItem

MAX_SENTENCE = 300
MAX_COUNT = 120
MAX_ANSWER_TOKENS = 80
LEAST_WORDS = 4
"""A response of fewer shows nothing."""
ALIKE = 0.7
"""Share of words that two responses have in common from which on they are nearly the same."""
SEPARABLE = 0.75
"""AUC below which the sides are not separable."""
SHOWN = 5
FOLDS = 5
_NEW_TOKENS = 32
"""Length of the generations that an edit of the draft is scored on."""

_WORD = re.compile(r"\w+(?:'\w+)?")
_FOLLOW = (
    'Answer the question below. In the way you answer, follow this instruction: "{sentence}". Do '
    "not mention the instruction. Write one to three sentences.\n\nQuestion: {question}"
)
_OPPOSE = (
    "Answer the question below. In the way you answer, do the opposite of this instruction, as "
    'clearly as you can: "{sentence}". Do not mention the instruction. Write one to three '
    "sentences.\n\nQuestion: {question}"
)

Reason = Literal["empty", "too_short", "mentions_the_sentence", "near_identical", "wrong_way"]


def _sentence(value: str) -> str:
    if not _WORD.search(value):
        raise ValueError("must say what the model should do, such as: stop hedging")
    return value.strip()


class DraftBody(RequestBody):
    """Draft a behaviour."""

    sentence: Annotated[
        str,
        Field(max_length=MAX_SENTENCE, examples=["stop hedging"]),
        AfterValidator(_sentence),
    ]
    """What the edited model should do; the desired texts follow it."""
    base_model: Annotated[str, Field(max_length=200)]
    """The base model of the behaviour; it writes the texts, unless the operator has configured
    another model."""
    count: Annotated[int, Field(ge=MIN_TEXTS, le=MAX_COUNT)] = 60
    """Questions that are answered both ways."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Of all that is random."""


class DroppedPairs(RequestBody):
    """Number of dropped pairs by reason; each counts once, for the first reason."""

    empty: int = 0
    """A response is empty."""
    too_short: int = 0
    """A response is too short."""
    mentions_the_sentence: int = 0
    """A response speaks of the sentence."""
    near_identical: int = 0
    """The two responses have most of their words in common."""
    wrong_way: int = 0
    """Both classifiers, trained on other pairs, confuse the two responses."""


class DraftSamples(RequestBody):
    """Some of the texts, drawn at random by the seed."""

    undesired: tuple[CompletionItem, ...]
    """That show the behaviour."""
    desired: tuple[CompletionItem, ...]
    """That do as the sentence says."""


class Draft(RequestBody):
    """Texts for a person to accept: send `behavior` to `POST /v1/behaviors`, or in an edit."""

    object: Literal["draft"] = "draft"
    """What kind of thing this is: always the same word."""
    sentence: str
    """As it was given."""
    base_model: str
    """Id of the base model."""
    written_by: str
    """The model that wrote the texts."""
    behavior: Behavior | None
    """Null where too few pairs are left."""
    separability: Distinction | None
    """Before reversed pairs were dropped, which would raise it; null with too few pairs."""
    asked: int
    """Questions that were answered both ways."""
    kept: int
    """Pairs that are in `behavior`."""
    dropped: DroppedPairs
    """Pairs that are not, by reason."""
    samples: DraftSamples
    """Some of the texts."""
    note: str | None
    """What to make of it; null: nothing."""


@dataclass(frozen=True)
class ResponsePair:
    """One question, answered both ways."""

    question: str
    undesired: str
    """By a model instructed to do the opposite."""
    desired: str


def questions(body: DraftBody) -> list[str]:
    """Neutral questions, as many as requested, in an order that the seed decides."""
    _, chat = neutral_texts()
    return [item.prompt for item in _rng(body).sample(chat, body.count)]


def instructions(body: DraftBody, questions: Sequence[str]) -> list[str]:
    """The instructions of the writer: for each question the opposite first, then the right one."""
    return [
        wording.format(sentence=body.sentence.rstrip(" ."), question=question)
        for question in questions
        for wording in (_OPPOSE, _FOLLOW)
    ]


def pairs_of(questions: Sequence[str], responses: Sequence[str]) -> list[ResponsePair]:
    """The responses to `instructions` as pairs."""
    cleaned = [response.strip().removeprefix("Answer:").strip() for response in responses]
    return [
        ResponsePair(question, undesired, desired)
        for question, undesired, desired in zip(questions, cleaned[::2], cleaned[1::2], strict=True)
    ]


def usable(
    sentence: str, pairs: Sequence[ResponsePair]
) -> tuple[list[ResponsePair], Counter[Reason]]:
    """The pairs that could show a difference, and why the others cannot."""
    kept: list[ResponsePair] = []
    dropped: Counter[Reason] = Counter()
    for pair in pairs:
        reason = _flaw(sentence, pair)
        if reason is None:
            kept.append(pair)
        else:
            dropped[reason] += 1
    return kept, dropped


def items_of(pairs: Sequence[ResponsePair]) -> tuple[list[CompletionItem], list[CompletionItem]]:
    """The undesired and the desired items; `pair_id` joins the two of a pair."""
    undesired, desired = [], []
    for number, pair in enumerate(pairs):
        fields = {"prompt": pair.question, "pair_id": f"question-{number}"}
        undesired.append(CompletionItem(completion=pair.undesired, **fields))
        desired.append(CompletionItem(completion=pair.desired, **fields))
    return undesired, desired


@dataclass(frozen=True)
class Judged:
    """How undesired a classifier that did not see a pair calls its two texts."""

    undesired: tuple[float, ...]
    """By pair; the larger the more."""
    desired: tuple[float, ...]

    @property
    def auc(self) -> float:
        """Chance that an undesired text is called more undesired than a desired one."""
        wins = sum(
            (score > other) + 0.5 * (score == other)
            for score in self.undesired
            for other in self.desired
        )
        return wins / (len(self.undesired) * len(self.desired))

    @property
    def wrong(self) -> list[bool]:
        """Whether it takes the one text of a pair for the other, by pair."""
        return [score <= other for score, other in zip(self.undesired, self.desired, strict=True)]


def judged_by_words(pairs: Sequence[ResponsePair], seed: int) -> Judged:
    """By bags of words (tf-idf and logistic regression), cross-validated over pairs."""
    # scikit-learn takes a second to load, which nothing else here needs.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    texts = [pair.undesired for pair in pairs] + [pair.desired for pair in pairs]
    labels = [1] * len(pairs) + [0] * len(pairs)
    classifier = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, token_pattern=_WORD.pattern),
        LogisticRegression(C=10.0, max_iter=1000),
    )
    margins = cross_val_predict(
        classifier,
        texts,
        labels,
        groups=[*range(len(pairs)), *range(len(pairs))],
        cv=GroupKFold(FOLDS, shuffle=True, random_state=seed),
        method="decision_function",
    )
    scores = tuple(map(float, margins))
    return Judged(scores[: len(pairs)], scores[len(pairs) :])


def judged_by_length(pairs: Sequence[ResponsePair]) -> Judged:
    """By the number of words, in whichever direction separates better."""
    undesired = tuple(float(len(_words(pair.undesired))) for pair in pairs)
    desired = tuple(float(len(_words(pair.desired))) for pair in pairs)
    longer = Judged(undesired, desired)
    if longer.auc >= 0.5:
        return longer
    return Judged(tuple(-words for words in undesired), tuple(-words for words in desired))


def distinction(words: Judged, length: Judged, probe: Judged | None) -> Distinction:
    """How separable the two kinds of responses are."""
    best = max(words.auc, probe.auc if probe is not None else 0.0)
    note = None
    if length.auc >= SEPARABLE and length.auc >= best - 0.02:
        note = (
            f"Length alone separates the sides (AUC {length.auc:.2f}): an edit may learn to "
            "write shorter or longer texts and nothing else."
        )
    elif best < SEPARABLE:
        note = (
            f"The two kinds of responses are hardly separable (AUC {best:.2f}): the model may not "
            "have understood the sentence. Say it in other words, or let a larger model write."
        )
    return Distinction(
        probe_auc=None if probe is None else probe.auc,
        words_auc=words.auc,
        length_auc=length.auc,
        heldout_texts=2 * len(words.desired),
        note=note,
    )


def draft(
    body: DraftBody,
    *,
    written_by: str,
    chat: bool,
    kept: Sequence[ResponsePair],
    dropped: Mapping[Reason, int],
    separability: Distinction | None,
) -> Draft:
    """The draft of the pairs that are left, with prompts that elicit ordinary responses."""
    undesired, desired = items_of(kept)
    behavior, note = None, separability.note if separability is not None else None
    if len(kept) >= MIN_TEXTS:
        behavior = Behavior(
            name=body.sentence[:100],
            description=f"Drafted by {written_by} from the sentence: {body.sentence}",
            undesired=tuple(undesired),
            desired=tuple(desired),
            prompts=load_preset("verbosity").prompts,
            chat=chat,
            max_new_tokens=_NEW_TOKENS,
        )
    else:
        note = (
            f"Only {len(kept)} of {body.count} pairs are left, and {MIN_TEXTS} are needed: ask for "
            "more with `count`, say it in other words, or let a larger model write."
        )
    shown = _rng(body).sample(range(len(kept)), min(SHOWN, len(kept)))
    return Draft(
        sentence=body.sentence,
        base_model=body.base_model,
        written_by=written_by,
        behavior=behavior,
        separability=separability,
        asked=body.count,
        kept=len(kept),
        dropped=DroppedPairs.model_validate(dict(dropped)),
        samples=DraftSamples(
            undesired=tuple(undesired[index] for index in shown),
            desired=tuple(desired[index] for index in shown),
        ),
        note=note,
    )


def _rng(body: DraftBody) -> random.Random:
    return random.Random(body.seed)  # noqa: S311 - nothing secret


def _flaw(sentence: str, pair: ResponsePair) -> Reason | None:
    first, second = _words(pair.undesired), _words(pair.desired)
    if not first or not second:
        return "empty"
    if min(len(first), len(second)) < LEAST_WORDS:
        return "too_short"
    instruction = " ".join(_words(sentence))
    if any(f" {instruction} " in f" {' '.join(words)} " for words in (first, second)):
        return "mentions_the_sentence"
    common, all_words = set(first) & set(second), set(first) | set(second)
    return "near_identical" if len(common) >= ALIKE * len(all_words) else None


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
