"""Which of the recorded curves a server's answers lie on, and how surely.

Every outcome is as likely as another beforehand. An answer is a recorded one plus an error: of its
log-probabilities, normal with a size that is not known beforehand; of its text, another text with
a chance that is not known beforehand. What is not known is summed over, and what remains is the
probability of each outcome.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from app.domain.canaries.answers import Answer, same_text
from app.domain.canaries.curves import Curve, are_bare, effect, plain_tokens
from models_store.schemas.canary import STRENGTHS, CanarySheet

Outcome = Literal["applied", "not_applied", "other_strength", "something_else", "undecided"]

NEAR = 0.15 + 1e-9
"""Strengths so close to 0 or 1 count as these."""
SURE = 0.9
"""A verdict is given from this probability on."""
_MOST_CERTAIN = 0.999
"""What the model of the errors leaves out keeps it from being surer."""
_SHARE, _MOST = 1 / 2, 0.3
"""An error that is a larger share of the effect at the strength (near 0: of half the effect), or
has more nats, is none of rounding."""
ROUNDING = 0.15
"""Nats that rounding and quantization may move log-probabilities by: below it a difference that
fits no strength is not taken for another model."""
_ROUNDED_NEAR, _ROUNDED_SHARE, _ROUNDED_MOST = 0.35, 2 / 3, 0.5
"""The same where weights were rounded more coarsely and the server's own base model is compared
with: measured in 4 bits, an edit does 0.7 to 0.85 of what it does otherwise, and further errors are
a third of that."""
_FEWEST = 4
"""Prompts that are needed to say that answers have nothing to do with them."""
_UNRELATED = 0.85
"""Answers that are not nearer than this to those expected, as a share of how near they are to those
of other prompts, are of another model; measured, 4 bits keep below 0.8."""
_ERRORS = tuple(0.005 * 1.2**i for i in range(46))
_ENOUGH = 1 / 3
"""Share of a text at its beginning by which another one is taken for it."""
_CHANCES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""That something else says a recorded text."""
_MISSES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
_STEP = 0.05
_OBSERVATIONS = 3
"""That the tokens of a prompt count as: their errors have some of their causes in common."""


@dataclass(frozen=True)
class Verdict:
    """What a server was found to serve."""

    outcome: Outcome
    certainty: float
    """Probability of the outcome; of the likeliest one where it is undecided."""
    strength: float | None
    """Multiple of the strengths in the export; None where it serves something else."""
    low: float | None
    """The strength lies between these with 95 %."""
    high: float | None
    reason: str


@dataclass(frozen=True)
class _Case:
    """A way in which the answers may have come about."""

    outcome: Outcome
    strength: float | None
    log_likelihood: float


@dataclass(frozen=True)
class _Seen:
    """What a server says to one prompt."""

    curve: Curve
    top: Mapping[str, float]
    base: Mapping[str, float] | None
    """What its base model says; None: that was not asked."""

    def distance(self, strength: float) -> float | None:
        """From what is recorded at that strength; None: it cannot be told."""
        if self.base is None:
            return self.curve.distance(self.top, strength)
        return self.curve.change_distance(self.top, self.base, strength)


@dataclass(frozen=True)
class _Limits:
    """What an answer may be off by."""

    near: float = NEAR
    """In strength."""
    share: float = _SHARE
    """Of the edit's effect."""
    most: float = _MOST
    """In nats."""
    beyond: Outcome = "something_else"
    """What an answer is of that is further off."""

    def outcome(self, strength: float, error: float, size: float) -> Outcome:
        if error <= min(self.most, self.share * size * max(0.5, abs(strength))):
            return _near(strength, self.near)
        return self.beyond if error > ROUNDING else "undecided"


def decide_by_logprobs(
    sheet: CanarySheet,
    strengths: Sequence[float],
    answers: Sequence[Answer | None],
    beside: Sequence[Answer | None] | None = None,
) -> Verdict:
    """The verdict by the next tokens' log-probabilities.

    Args:
        answers: to each prompt; those without log-probabilities do not count.
        beside: those of the server's own base model, to which the edit's change is looked for.
    """
    bare = are_bare(answers)
    seen = []
    others = beside or [None] * len(answers)
    for prompt, answer, other in zip(sheet.prompts, answers, others, strict=True):
        top, base = (plain_tokens((each and each.top) or {}) for each in (answer, other))
        one = _Seen(Curve(prompt, strengths, bare=bare), top, None if beside is None else base)
        if top and one.distance(0.0) is not None:
            seen.append(one)
    size = effect(sheet, strengths)
    evidence = f"base model and edit are {size:.2g} nats apart on these prompts"
    if not seen:
        return Verdict("undecided", 0.0, None, None, None, "it lists none of the recorded tokens")
    if beside is not None and _unrelated(seen, [one.base or {} for one in seen], 0.0):
        reason = "what it serves as the base model is another one"
        return Verdict("something_else", _MOST_CERTAIN, None, None, None, reason)
    squares = {
        strength: [(one.distance(strength) or 0.0) ** 2 for one in seen]
        for strength in _grid(strengths)
    }
    limits = _limits(seen, min(squares, key=lambda strength: sum(squares[strength])))
    cases = []
    for strength, own in squares.items():
        for error in _ERRORS:
            likelihood = -len(own) * math.log(error) - sum(own) / (2 * error**2)
            outcome = limits.outcome(strength, error, size)
            cases.append(_Case(outcome, strength, _OBSERVATIONS * likelihood))
    return _verdict(cases, evidence, limits)


def _limits(seen: Sequence[_Seen], best: float) -> _Limits:
    """Args:
    best: the strength whose recorded answers are nearest.
    """
    if seen[0].base is None:
        # Coarse rounding moves answers as far as other edits do, and along an edit as well: prompts
        # on which an edit changes most are those on which any change of the weights does.
        unrelated = _unrelated(seen, [one.top for one in seen], best)
        return _Limits(beyond="something_else" if unrelated else "undecided")
    if _off(seen, [one.base or {} for one in seen], 0.0) <= ROUNDING:
        return _Limits()
    return _Limits(_ROUNDED_NEAR, _ROUNDED_SHARE, _ROUNDED_MOST)


def _unrelated(seen: Sequence[_Seen], tops: Sequence[Mapping[str, float]], best: float) -> bool:
    """Whether answers are hardly nearer to those expected than to those to other prompts; never
    where there are few."""
    if len(seen) < _FEWEST:
        return False
    others = math.hypot(*(_off(seen, [*tops[by:], *tops[:by]], 0.0) for by in (1, 2))) / 2**0.5
    return _off(seen, tops, best) >= _UNRELATED * others


def _off(seen: Sequence[_Seen], tops: Sequence[Mapping[str, float]], strength: float) -> float:
    """How far answers are from those recorded at a strength, in nats."""
    distances = [
        one.curve.distance(top, strength) for one, top in zip(seen, tops, strict=True) if top
    ]
    return math.hypot(*distances) / math.sqrt(len(distances))


def decide_by_texts(
    sheet: CanarySheet, strengths: Sequence[float], answers: Sequence[Answer | None]
) -> Verdict:
    """The verdict by greedy continuations.

    Args:
        answers: to each prompt; None: there is none.
    """
    seen = [
        (texts := tuple(map(same_text, prompt.texts)), _alike(same_text(answer.text), texts))
        for prompt, answer in zip(sheet.prompts, answers, strict=True)
        if answer is not None
    ]
    cases = [
        _Case(
            _near(strength),
            strength,
            sum(_text_likelihood(texts, place, like, missed) for texts, like in seen),
        )
        for place, strength in enumerate(strengths)
        for missed in _MISSES
    ]
    # Coarse rounding turns many texts into others, but hardly all.
    few = 3 * sum(bool(like) for _, like in seen) < len(seen)
    limits = _Limits(beyond="something_else" if few else "undecided")
    for chance in _CHANCES:
        unlike = (chance / len(set(texts)) if like else 1 - chance for texts, like in seen)
        cases.append(_Case(limits.beyond, None, sum(map(math.log, unlike))))
    places = strengths.index(0.0), strengths.index(1.0)
    differ = sum(texts[places[0]] != texts[places[1]] for texts, _ in seen)
    evidence = f"base model and edit continue {differ} of {len(seen)} prompts apart"
    return _verdict(cases, evidence, limits)


def _near(strength: float, near: float = NEAR) -> Outcome:
    if abs(strength) <= near:
        return "not_applied"
    return "applied" if abs(strength - 1) <= near else "other_strength"


def _grid(strengths: Sequence[float]) -> list[float]:
    """Also beyond the recorded strengths: curves go on there as lines."""
    first = round(min(strengths[0], STRENGTHS[0]) / _STEP)
    last = round(max(strengths[-1], STRENGTHS[-1]) / _STEP)
    return [step * _STEP for step in range(first, last + 1)]


def _text_likelihood(texts: Sequence[str], place: int, like: set[str], missed: float) -> float:
    """Of one text, if the strength at `place` is served; up to a factor that all cases share.

    Args:
        like: the recorded texts that it is like.
    """
    if texts[place] in like:
        return math.log((1 - missed) / len(like))
    return math.log(missed * 0.5 / (len(set(texts)) - len(like)) if like else missed * 0.5)


def _alike(text: str, texts: Sequence[str]) -> set[str]:
    """The recorded texts that a text shares most of its beginning with, if it is enough: a token
    that ties with another may be chosen otherwise, and what follows is another text then."""
    shared = {each: _shared(text, each) for each in texts}
    most = max(shared.values())
    return {
        each
        for each, length in shared.items()
        if length == most and (each == text or 0 < _ENOUGH * len(each) <= length)
    }


def _shared(first: str, second: str) -> int:
    """Characters at the beginning that are the same."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _verdict(cases: Sequence[_Case], evidence: str, limits: _Limits | None = None) -> Verdict:
    weights = _weights(cases)
    chances: dict[Outcome, float] = {}
    for case, weight in zip(cases, weights, strict=True):
        chances[case.outcome] = chances.get(case.outcome, 0.0) + weight
    outcome = max(chances, key=lambda each: chances[each])
    chance = min(_MOST_CERTAIN, chances[outcome])
    if outcome == "undecided":
        if limits and limits.beyond == "undecided":
            reason = (
                "its weights are not the recorded ones, as those in 4 bits are not, with or "
                f"without the edit, or it serves something else: {evidence}; if it serves its base "
                "model as well, name that to know"
            )
        else:
            reason = (
                f"its answers are off every recorded one by what rounding may do, and {evidence}"
            )
        return Verdict("undecided", chance, None, None, None, reason)
    alike = [
        (case.strength, weight)
        for case, weight in zip(cases, weights, strict=True)
        if case.strength is not None and case.outcome not in ("something_else", "undecided")
    ]
    strength, low, high = (None,) * 3 if outcome == "something_else" else _interval(alike)
    if chance < SURE:
        names = sorted(chances, key=lambda each: -chances[each])[:2]
        first, second = (name.replace("_", " ") for name in names)
        reason = f"it may be {first} or {second}: {evidence}"
        return Verdict("undecided", chance, strength, low, high, reason)
    return Verdict(outcome, chance, strength, low, high, evidence)


def _weights(cases: Sequence[_Case]) -> list[float]:
    """Probabilities of the cases: each outcome is as likely as another, and so are its cases."""
    counts: dict[Outcome, int] = {}
    for case in cases:
        counts[case.outcome] = counts.get(case.outcome, 0) + 1
    logs = [case.log_likelihood - math.log(counts[case.outcome]) for case in cases]
    most = max(logs)
    weights = [math.exp(each - most) for each in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


def _interval(alike: Iterable[tuple[float, float]]) -> tuple[float, float, float]:
    """Mean and the range that holds 95 % of the strength."""
    weights: Mapping[float, float] = _summed(alike)
    total = sum(weights.values())
    mean = sum(strength * weight for strength, weight in weights.items()) / total
    below, low, high = 0.0, None, mean
    for strength in sorted(weights):
        below += weights[strength] / total
        if low is None and below > 0.025:
            low = strength
        high = strength
        if below >= 0.975:
            break
    return round(mean, 2) + 0.0, round(low or 0.0, 2), round(high, 2)


def _summed(pairs: Iterable[tuple[float, float]]) -> dict[float, float]:
    sums: dict[float, float] = {}
    for strength, weight in pairs:
        sums[strength] = sums.get(strength, 0.0) + weight
    return sums
