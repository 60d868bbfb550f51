"""The verdict: what the figures say, in one sentence and a few marks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from models_store.schemas.measurements import (
    Control,
    ControlKind,
    Damage,
    Effect,
    Interval,
    ScorerCard,
    relied_on,
)
from models_store.schemas.methods import Limits
from models_store.schemas.report import SECOND_LOOK, Conclusion, Verdict
from workers.evaluation.context.plan import TEST_CONFIDENCE
from workers.evaluation.damage.limits import exceeded, judged
from workers.evaluation.statistics import FEWEST_UNITS, units_to_show

LEAST_PROMPTS = 40
"""Test prompts below which an edit is underpowered; those of one template count as one."""

LEAST_SHARE_OF_KL = 0.5
"""Of the edit's KL, that a random direction must have reached for success to rest on it."""

_LIMITED: Mapping[str, str] = {
    "max_kl": "KL",
    "max_perplexity_ratio": "perplexity ratio",
    "max_domain": "domain damage",
    "max_fluency": "loss of fluency",
    "max_kl_p95": "KL at the 95th percentile",
    "max_changed_choices": "share of changed first choices",
    "max_loops": "rise of loops in long texts",
    "max_repetition": "rise of repetition in long texts",
    "max_harmless_refusals": "rise of refusals of harmless requests",
}
_ALWAYS_TOLD: frozenset[ControlKind] = frozenset({"random_direction", "permuted_labels"})
"""Noise: success hangs on the first, and the second is what an edit should be told from."""
_BASELINES: Mapping[ControlKind, str] = {
    "random_direction": "a random direction",
    "permuted_labels": "a fit on permuted labels",
    "random_region": "a random region",
    "prompt_only": "a prompt alone",
    "paper_alpha": "the paper's setting at its own strength",
    "paper_equal_kl": "the paper's method with a converged probe",
}


def verdict(
    effects: Sequence[Effect],
    scorers: Sequence[ScorerCard],
    damage: Damage,
    controls: Sequence[Control],
    *,
    limits: Limits,
    prompts: int,
    units: int,
    visible: float,
    looks: int = 1,
) -> Verdict:
    """Judge an edit.

    It is a success when every scorer's interval excludes zero on the desired side, at least one of
    them can be relied on and did not choose the texts, and the edit does more than every random
    direction that was drawn, none of which stayed far below the edit's KL. The sentence tells rates
    by the first scorer that can be relied on, by the leading one where none can.

    Args:
        effects: by scorer, the leading one first; `scorers` in the same order.
        prompts: number of test prompts.
        units: number of those that are independent: prompts of one template count as one.
        visible: smallest change of the leading rate that would have been seen.
        looks: the test was looked at so often.
    """
    over = exceeded(limits, damage)
    underpowered = units < LEAST_PROMPTS
    relied = relied_on(card.headline for card in scorers)
    distinguishable = all(effect.improved for effect in effects) and _proves(scorers)
    drawn = [control for control in controls if control.kind == "random_direction"]
    beats_random = all(map(_beaten, drawn)) if drawn else None
    success = distinguishable and beats_random is True and all(map(_is_a_match, drawn))
    conclusion = "confirmed" if success else _unless_confirmed(effects, scorers, drawn)
    needed, how = None, "would tell"
    if conclusion == "unconfirmed":
        needed = _prompts_needed(effects, scorers, drawn, prompts=prompts, units=units)
        if any(fall.value >= 0 for fall, _ in _undecided(effects, drawn)):
            how = "would show a halving"
    clauses = [_effect(effects, scorers, relied), *_baselines(controls, relied)]
    clauses += [_cost(damage, limits, over), *weak_scorers(scorers)]
    if needed is not None:
        clauses.append(f"unconfirmed: about {needed} test prompts {how}, {prompts} were used")
    if looks > 1:
        clauses.append(f"looked at again with {SECOND_LOOK} times the samples of each prompt")
    if underpowered:
        clauses.append(f"with {counted(prompts, units)}, {_unseen(units, visible)}")
    return Verdict(
        sentence="; ".join(clauses) + ".",
        conclusion=conclusion,
        prompts_needed=needed,
        looks=looks,
        success=success,
        distinguishable=distinguishable,
        beats_random_direction=beats_random,
        within_limits=not over,
        exceeded=over,
        underpowered=underpowered,
        smallest_visible=visible,
    )


def more_samples_may_tell(verdict: Verdict, prompts: int) -> bool:
    """Whether the test is undecided, and three times the samples may make up for the prompts that
    are missing."""
    needed = verdict.prompts_needed
    return needed is not None and needed <= SECOND_LOOK * prompts


def _unless_confirmed(
    effects: Sequence[Effect], scorers: Sequence[ScorerCard], drawn: Sequence[Control]
) -> Conclusion:
    """Whether the test contradicts an edit that is no success."""
    trusted = [effect for effect, card in zip(effects, scorers, strict=True) if card.headline]
    worsens = any(effect.contradicts for effect in trusted)
    outdone = any(control.versus_edit.low > 0 for control in drawn)
    return "contradicted" if worsens or outdone else "unconfirmed"


def _prompts_needed(
    effects: Sequence[Effect],
    scorers: Sequence[ScorerCard],
    drawn: Sequence[Control],
    *,
    prompts: int,
    units: int,
) -> int | None:
    """Test prompts that would tell, of as many templates each as these, in two digits; for what
    does not fall, those that would show a halving. None where these are enough for that."""
    if not drawn or not all(map(_is_a_match, drawn)) or not _proves(scorers):
        return None
    falls = [
        fall if fall.value < 0 else fall.model_copy(update={"value": halving})
        for fall, halving in _undecided(effects, drawn)
    ]
    wanted = [units_to_show(fall, units, TEST_CONFIDENCE) for fall in falls]
    known = [number for number in wanted if number is not None]
    if not known or len(known) < len(wanted):
        return None
    needed = max(FEWEST_UNITS, *known) * prompts / units
    step = int(10 ** max(0, math.floor(math.log10(needed)) - 1))
    rounded = math.ceil(needed / step) * step
    return rounded if rounded > prompts else None


def _undecided(
    effects: Sequence[Effect], drawn: Sequence[Control]
) -> Iterator[tuple[Interval, float]]:
    """Differences that are not significant, each with what a halving of the base's rate is."""
    for effect in effects:
        if not effect.improved:
            yield effect.rate.difference, -effect.rate.base / 2
    for control in drawn:
        if not _beaten(control):
            yield control.versus_edit, -effects[0].rate.base / 2


def counted(prompts: int, units: int) -> str:
    """How many test prompts there are, and of how many templates where some share one."""
    text = f"{prompts} test prompt{'' if prompts == 1 else 's'}"
    if units == prompts:
        return text
    return f"{text} of {units} template{'' if units == 1 else 's'}"


def _unseen(units: int, visible: float) -> str:
    if units < FEWEST_UNITS:
        return "no change can be significant"
    return f"a change of less than {_points(visible)} would mostly go unseen"


def _is_a_match(control: Control) -> bool:
    """Whether a control came near enough to the edit's KL that beating it says something."""
    target = control.target_kl
    return target is None or control.kl >= LEAST_SHARE_OF_KL * target


def _effect(effects: Sequence[Effect], scorers: Sequence[ScorerCard], relied: int) -> str:
    """Told by the scorer at `relied`; only one that learned from none of the texts, and did not
    choose them, confirms it."""
    lead = effects[relied]
    others = [effect for index, effect in enumerate(effects) if index != relied]
    chose = {card.info.name for card in scorers if card.chose_texts}
    partial = {card.info.name for card in scorers if card.info.learns or card.chose_texts}
    figures = (
        f"from {_percent(lead.rate.base)} to {_percent(lead.rate.edited)} of generations by "
        f"{lead.scorer} ({_range(lead)})"
    )
    if lead.scorer in chose:
        figures += ", which chose the behaviour's texts"
    if lead.improved:
        agreeing = [effect for effect in others if effect.improved]
        doubting = [effect for effect in others if not effect.improved]
        confirming = [effect for effect in agreeing if effect.scorer not in partial]
        choosing = [effect for effect in agreeing if effect.scorer in chose]
        seeing = [effect for effect in agreeing if effect.scorer in partial - chose]
        text = f"Undesired text falls {figures}"
        if confirming:
            text += ", confirmed by " + " and ".join(map(_short, confirming))
        if seeing:
            text += ", seen by " + " and ".join(map(_short, seeing))
            text += " too, which learned from other texts of the behaviour"
        if choosing:
            text += ", seen by " + " and ".join(map(_short, choosing))
            text += " too, which chose the behaviour's texts"
        if doubting:
            text += ", not confirmed by " + " and ".join(map(_short, doubting))
        return text
    if lead.worsened:
        return f"Undesired text rises {figures}: the edit does the opposite of what it should"
    text = f"No significant change: undesired text goes {figures}"
    seen = [effect for effect in others if effect.improved or effect.worsened]
    return text + "".join(f", though {_short(effect)}" for effect in seen)


def _short(effect: Effect) -> str:
    rate = effect.rate
    return f"{effect.scorer} ({_percent(rate.base)} to {_percent(rate.edited)}, {_range(effect)})"


def _range(effect: Effect) -> str:
    change = effect.rate.difference
    digits = 0 if abs(change.value) >= 0.1 else 1
    value, low, high = (
        f"{100 * value:+.{digits}f}" for value in (change.value, change.low, change.high)
    )
    return f"{value} points, 95 % interval {low} to {high}"


def _baselines(controls: Sequence[Control], relied: int) -> Iterator[str]:
    """What is always told; others where they are not beaten."""
    for control in controls:
        beaten = _beaten(control)
        if beaten and control.kind not in _ALWAYS_TOLD:
            continue
        rate = _percent(control.effects[relied].rate.edited)
        name = _BASELINES[control.kind]
        if control.target_kl is not None:
            name += " of the same KL" if control.matched else " of another KL"
        if beaten:
            if control.kind == "random_direction" and not _is_a_match(control):
                name += f" ({control.kl:.2g}, too little for success to rest on it)"
            yield f"{name} leaves {rate}"
        else:
            much = "more" if control.versus_edit.low > 0 else "about as much"
            yield f"{name} does {much} ({rate})"


def _proves(scorers: Sequence[ScorerCard]) -> bool:
    """Whether one of them can be relied on. One that chose the behaviour's texts tells the sides
    apart by construction."""
    return any(card.headline and not card.chose_texts for card in scorers)


def _beaten(control: Control) -> bool:
    return control.versus_edit.high < 0


def _cost(damage: Damage, limits: Limits, over: Sequence[str]) -> str:
    text = (
        f"the cost is a KL of {damage.kl:.3f} nats a token on neutral text and "
        f"{damage.perplexity_ratio.value:.2f} times its perplexity"
    )
    if not over:
        return text
    figures, allowed = judged(damage), limits.model_dump()
    figures_over = [
        f"{_LIMITED[name]} {figures[name]:.3g} (limit {allowed[name]:g})" for name in over
    ]
    return f"{text}, above the limit in " + " and ".join(figures_over)


def weak_scorers(scorers: Sequence[ScorerCard]) -> list[str]:
    """A clause that names those that nothing is proved by; none where all can be relied on."""
    weak = [
        f"{card.info.name} (AUC {card.auc:.2f})"
        for card in scorers
        if card.auc is not None and not card.headline
    ]
    if not weak:
        return []
    return [f"not to be relied on, for telling held-out texts apart badly: {', '.join(weak)}"]


def _percent(share: float) -> str:
    digits = 0 if share == 0 or share >= 0.1 else 1
    return f"{100 * share:.{digits}f} %"


def _points(share: float) -> str:
    return f"{100 * share:.0f} points"
