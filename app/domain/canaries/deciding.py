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


def decide_by_logprobs(
    sheet: CanarySheet, strengths: Sequence[float], answers: Sequence[Answer | None]
) -> Verdict:
    """The verdict by the next tokens' log-probabilities.

    Args:
        answers: to each prompt; those without log-probabilities do not count.
    """
    bare = are_bare(answers)
    seen = [
        (Curve(prompt, strengths, bare=bare), top)
        for prompt, answer in zip(sheet.prompts, answers, strict=True)
        if answer is not None and answer.top and (top := plain_tokens(answer.top))
    ]
    size = effect(sheet, strengths)
    cases = []
    for strength in _grid(strengths):
        largest = min(_MOST, _SHARE * size * max(0.5, abs(strength)))
        squares = [curve.distance(top, strength) ** 2 for curve, top in seen]
        for error in _ERRORS:
            likelihood = -len(squares) * math.log(error) - sum(squares) / (2 * error**2)
            outcome = _by_error(strength, error, largest)
            cases.append(_Case(outcome, strength, _OBSERVATIONS * likelihood))
    return _verdict(cases, f"base model and edit are {size:.2g} nats apart on these prompts")


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
    for chance in _CHANCES:
        unlike = (chance / len(set(texts)) if like else 1 - chance for texts, like in seen)
        cases.append(_Case("something_else", None, sum(map(math.log, unlike))))
    places = strengths.index(0.0), strengths.index(1.0)
    differ = sum(texts[places[0]] != texts[places[1]] for texts, _ in seen)
    return _verdict(cases, f"base model and edit continue {differ} of {len(seen)} prompts apart")


def _by_error(strength: float, error: float, largest: float) -> Outcome:
    if error <= largest:
        return _near(strength)
    return "something_else" if error > ROUNDING else "undecided"


def _near(strength: float) -> Outcome:
    if abs(strength) <= NEAR:
        return "not_applied"
    return "applied" if abs(strength - 1) <= NEAR else "other_strength"


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


def _verdict(cases: Sequence[_Case], evidence: str) -> Verdict:
    weights = _weights(cases)
    chances: dict[Outcome, float] = {}
    for case, weight in zip(cases, weights, strict=True):
        chances[case.outcome] = chances.get(case.outcome, 0.0) + weight
    outcome = max(chances, key=lambda each: chances[each])
    chance = min(_MOST_CERTAIN, chances[outcome])
    if outcome == "undecided":
        reason = f"its answers are off every recorded one by what rounding may do, and {evidence}"
        return Verdict("undecided", chance, None, None, None, reason)
    alike = [
        (case.strength, weight)
        for case, weight in zip(cases, weights, strict=True)
        if case.strength is not None and case.outcome not in ("something_else", "undecided")
    ]
    strength, low, high = (None,) * 3 if outcome == "something_else" else _interval(alike)
    if outcome == "something_else" and chance >= SURE:
        evidence = (
            f"{evidence}, and its answers are further off; so may those of a base model be that is "
            "quantized more coarsely than this"
        )
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
