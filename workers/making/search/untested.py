"""The receipt's figures where a search finds no edit: what came nearest, on validation prompts."""

from __future__ import annotations

from collections.abc import Sequence

from models_store.schemas.measurements import ScorerCard
from models_store.schemas.report import Verdict
from workers import progress
from workers.evaluation.damage.damage import REPORTED
from workers.evaluation.damage.limits import exceeded
from workers.evaluation.evaluate import Evaluation, decoding_of, shown_samples
from workers.evaluation.extras.extras import Extras
from workers.evaluation.verdict import LEAST_PROMPTS, weak_scorers
from workers.making.search.search import SearchResult
from workers.making.search.validation import Validation


def untested(validation: Validation, result: SearchResult) -> Evaluation:
    """Measure the damage of the best candidate; the test prompts stay unseen.

    Raises:
        EditFailed: its logits are not finite.
    """
    context, best = validation.context, result.best
    with progress.step("evaluation") as whole:
        with progress.step("damage_base", 0.5):
            meter = validation.meter(REPORTED)
        scored = validation.scored(best.arm)
        before = validation.before.first(best.prompts)
        with progress.step("damage"):
            damage = meter.measure(best.terms, (before, best.arm), scored.desired)
    over = exceeded(context.limits, damage)
    card = validation.scorer.card(1.0)
    return Evaluation(
        scorers=(card,),
        effects=(best.effect,),
        damage=damage,
        controls=(),
        samples=shown_samples(context, validation.prompt_texts, validation.before, best.arm),
        verdict=Verdict(
            sentence=_sentence(result, card, over),
            success=False,
            distinguishable=best.effect.improved and validation.scorer.headline,
            within_limits=not over,
            exceeded=over,
            underpowered=scored.units < LEAST_PROMPTS,
            smallest_visible=scored.smallest_visible(),
        ),
        extras=Extras((), (), (), None, (), ()),
        decoding={
            **decoding_of(context, validation.decoding, best.prompts),
            "split": "validate",
        },
        seeds={**context.seeds, "validation": validation.decoding.seed},
        seconds=whole.seconds,
    )


def _sentence(result: SearchResult, card: ScorerCard, over: Sequence[str]) -> str:
    best = result.best
    rate = best.effect.rate
    low, value, high = (
        f"{100 * value:+.1f}"
        for value in (rate.difference.low, rate.difference.value, rate.difference.high)
    )
    problem = (
        "No edit stays within the limits at any scale"
        if any(not trial.effect.contradicts for trial in result.trials)
        else "Every edit makes undesired text likelier, beyond chance"
    )
    text = (
        f"{problem}: of {len(result.trials)} that were tried on {best.prompts} validation "
        f"prompts, the nearest ({best.candidate.label}) takes it from "
        f"{100 * rate.base:.1f} % to {100 * rate.edited:.1f} % of generations by "
        f"{best.effect.scorer} ({value} points, 95 % interval {low} to {high})"
    )
    if over:
        text += f" and exceeds {', '.join(over)}"
    return "; ".join([text, *weak_scorers([card]), "none was tested."])
