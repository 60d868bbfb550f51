"""How long the parts of an evaluation take, as a sum that can be done before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from models_store.presets import structured_requests
from models_store.schemas.measurements import ControlKind
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import fewer
from workers.evaluation.controls.baselines import PERMUTED_TEXTS
from workers.evaluation.damage.damage import DamagePlan
from workers.evaluation.damage.generation_meter import LONG_TOKENS, REFUSAL_TOKENS
from workers.evaluation.damage.long_form import FOLLOW_UPS
from workers.evaluation.damage.neutral import MAX_TOKENS
from workers.evaluation.extras.basics import STRUCTURED_TOKENS
from workers.evaluation.extras.composition import MAX_PROMPTS as COMPOSED_PROMPTS
from workers.evaluation.extras.doses import STRENGTHS

GENERATED = 259.0
"""Tokens a second that SmolLM2 generates on two idle cores, 64 rows at a time, in bf16."""
READ = 1246.0
"""Tokens a second that it reads."""
HEAD = 3000.0
"""Positions a second over which its head gives log-probabilities."""
HARM_SECONDS = 2 * 64 * (32 + 24) / GENERATED
"""Answers of two models to what harm is measured on, at the default of the operator's policy."""
_PROMPT = 12.0
"""Tokens of a prompt, about."""
_TEXT = 40.0
"""Tokens of a behaviour's own text, about."""
_STEPS = 3.0
"""KL measurements that scale a baseline, usually."""
_REFIT = 3.3
"""Forward passes that a pass forward and backward takes: labels that are permuted are fitted on
with one."""
_BASICS = 5_200.0
"""Tokens of the easy questions with their choices."""
_SUITE = 120.0
"""A standard suite; nobody knows how many items the operator's data have."""


def expected_seconds(context: EvaluationContext, kinds: Sequence[ControlKind]) -> dict[str, float]:
    """By part, for SmolLM2 on two idle cores; for other models the shares are about the same.

    Args:
        kinds: the controls that are measured.
    """
    plan, length = context.plan, context.behavior.max_new_tokens
    new, prompts = float(length), len(context.prompts)
    text = prompts * plan.samples * new / GENERATED
    controlled = min(fewer(plan.control_prompts, length), prompts) * new / GENERATED
    wordings = 3 * min(fewer(plan.wording_prompts, length), len(context.splits.validate))
    dosed = (len(STRENGTHS) - 1) * min(fewer(plan.dose_prompts, length), prompts)
    pairs = min(plan.damage.fluency_pairs, prompts * plan.samples)
    damage, dose = _Meter(plan.damage, context), _Meter(plan.dose_damage, context)
    neutral, heads = _neutral(2 * plan.control_neutral_each)
    kl = neutral + 2 * heads
    parts = {
        "base_text": text,
        "edited_text": text,
        "scores": 3.0,
        "damage_base": damage.base,
        "damage": damage.all
        + 2 * generation_meter_tokens(context, plan.damage) / GENERATED
        + 2 * pairs * ((_PROMPT + new) / READ + new / HEAD),
        "doses": (len(STRENGTHS) - 1) * dose.quick
        + dosed * (new / GENERATED + (_PROMPT + new) / READ + new / HEAD),
        "side_effects": 4.0,
    }
    if plan.selectivity:
        tokens = _TEXT * min(plan.damage.heldout_texts, len(context.splits.heldout.undesired))
        parts["selectivity"] = 2 * tokens / READ + 2 * tokens / HEAD
    if plan.basics:
        parts["basics"] = 2 * _BASICS * (1 / READ + 1 / HEAD)
        if context.model.loaded.has_chat_template:
            requests = len(structured_requests())
            parts["basics"] += 2 * requests * STRUCTURED_TOKENS / GENERATED
    if plan.long_form is not None:
        long = plan.long_form
        turns = (
            (len(FOLLOW_UPS) + 1) * long.turn_tokens
            if context.model.loaded.has_chat_template
            else 0
        )
        parts["long_form"] = 2 * min(long.prompts, prompts) * (long.long_tokens + turns) / GENERATED
    if context.model.mixture or len(context.given) > 1:
        # Of an edit's own trait two arms are there already.
        arms = 4 * len(context.parents) + (0 if context.given else 2)
        parts["composition"] = arms * min(COMPOSED_PROMPTS, prompts) * new / GENERATED
    if kinds:
        parts["controls_kl"] = neutral + kl
    refitted = min(PERMUTED_TEXTS, len(context.splits.fit)) * _TEXT
    scaling = {
        "paper_alpha": kl,
        "permuted_labels": _REFIT * refitted / READ + _STEPS * kl,
        "prompt_only": wordings * new / GENERATED + 2 * kl,
    }
    for kind in kinds:
        texts = text if kind == "random_direction" else controlled
        times = plan.draws if kind in ("random_direction", "random_region") else 1
        parts[kind] = times * (scaling.get(kind, _STEPS * kl) + texts)
    if context.suites is not None:
        parts["suites"] = len(context.suites.names) * _SUITE
    return parts


def generation_meter_tokens(context: EvaluationContext, plan: DamagePlan) -> float:
    """That a model generates, at most, for what its users notice."""
    requests = plan.harmless_requests if context.model.loaded.has_chat_template else 0
    return plan.long_texts * LONG_TOKENS + requests * REFUSAL_TOKENS


def _neutral(texts: int) -> tuple[float, float]:
    """Seconds to read neutral texts, and of one pass of the head over them."""
    return texts * MAX_TOKENS / READ, texts * MAX_TOKENS / HEAD


class _Meter:
    """What a damage meter takes, in seconds."""

    def __init__(self, plan: DamagePlan, context: EvaluationContext) -> None:
        new = float(context.behavior.max_new_tokens)
        neutral, heads = _neutral(2 * plan.neutral_each)
        samples = min(plan.own_samples, len(context.prompts) * context.plan.samples)
        generated = samples * ((_PROMPT + new) / READ + new / HEAD)
        texts = _TEXT * (1 / READ + 1 / HEAD)
        heldout = min(plan.heldout_texts, len(context.splits.heldout.desired)) * texts
        preserved = min(plan.preserved, len(context.preserve)) * texts
        self.base = neutral + generated + heldout + preserved
        """To read the model without the edit."""
        self.quick = neutral + 2 * heads + generated + preserved
        """To measure an edit at one strength."""
        self.all = self.quick + heldout
        """To measure everything but fluency."""
