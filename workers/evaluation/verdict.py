"""The verdict: what the figures say, in one sentence and a few marks."""

from __future__ import annotations

from collections.abc import Sequence

from models_store.report import Control, Damage, Effect, ScorerCard, Verdict

LEAST_PROMPTS = 40
"""Test prompts below which an edit is underpowered."""


def verdict(
    effects: Sequence[Effect],
    scorers: Sequence[ScorerCard],
    damage: Damage,
    controls: Sequence[Control],
    *,
    max_kl: float,
    prompts: int,
    visible: float,
) -> Verdict:
    """Judge an edit.

    Args:
        effects: by scorer, the leading one first; `scorers` in the same order.
        prompts: number of test prompts.
        visible: smallest change of the leading rate that would have been seen.
    """
    within = damage.kl <= max_kl
    underpowered = prompts < LEAST_PROMPTS
    clauses = [_effect(effects), _cost(damage, max_kl, within)]
    clauses += _weak_scorers(scorers)
    clauses += [_rival(control) for control in controls if not _beaten(control)]
    if underpowered:
        clauses.append(
            f"with {prompts} test prompts, a change of less than {_points(visible)} would mostly "
            "go unseen"
        )
    return Verdict(
        sentence="; ".join(clauses) + ".",
        distinguishable=all(effect.improved for effect in effects)
        and any(card.headline for card in scorers),
        within_limits=within,
        underpowered=underpowered,
        smallest_visible=visible,
    )


def _effect(effects: Sequence[Effect]) -> str:
    lead, others = effects[0], effects[1:]
    figures = (
        f"from {_percent(lead.rate.base)} to {_percent(lead.rate.edited)} of generations by "
        f"{lead.scorer} ({_range(lead)})"
    )
    if lead.improved:
        agreeing = [effect for effect in others if effect.improved]
        doubting = [effect for effect in others if not effect.improved]
        text = f"Undesired text falls {figures}"
        if agreeing:
            text += ", confirmed by " + " and ".join(map(_short, agreeing))
        if doubting:
            text += ", not confirmed by " + " and ".join(map(_short, doubting))
        return text
    if lead.worsened:
        return f"Undesired text rises {figures}: the edit does the opposite of what it should"
    text = f"No change can be told from chance: undesired text goes {figures}"
    seen = [effect for effect in others if effect.improved or effect.worsened]
    return text + "".join(f", though {_short(effect)}" for effect in seen)


def _short(effect: Effect) -> str:
    rate = effect.rate
    return f"{effect.scorer} ({_percent(rate.base)} to {_percent(rate.edited)}, {_range(effect)})"


def _range(effect: Effect) -> str:
    change = effect.rate.difference
    digits = 0 if abs(change.value) >= 0.1 else 1
    value, low, high = (
        f"{100 * one:+.{digits}f}" for one in (change.value, change.low, change.high)
    )
    return f"{value} points, 95 % interval {low} to {high}"


def _cost(damage: Damage, max_kl: float, within: bool) -> str:
    text = (
        f"the cost is a KL of {damage.kl:.3f} nats a token on neutral text and "
        f"{damage.perplexity_ratio.value:.2f} times its perplexity"
    )
    return text if within else f"{text}, above the limit of {max_kl:g}"


def _weak_scorers(scorers: Sequence[ScorerCard]) -> list[str]:
    weak = [f"{card.info.name} (AUC {card.auc:.2f})" for card in scorers if not card.headline]
    if not weak:
        return []
    return [f"not to be relied on, for telling held-out texts apart badly: {', '.join(weak)}"]


def _beaten(control: Control) -> bool:
    return control.versus_edit.high < 0


def _rival(control: Control) -> str:
    name = control.kind.replace("_", " ")
    return (
        f"a {name} of {'the same' if control.matched else 'another'} size does about as much "
        f"({_percent(control.effects[0].rate.edited)})"
    )


def _percent(share: float) -> str:
    digits = 0 if share == 0 or share >= 0.1 else 1
    return f"{100 * share:.{digits}f} %"


def _points(share: float) -> str:
    return f"{100 * share:.0f} points"
