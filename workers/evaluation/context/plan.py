"""How much is measured, by effort: more takes longer and makes intervals narrower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from models_store.schemas.measurements import ControlKind
from models_store.schemas.methods import Effort
from workers.evaluation.damage.damage import REPORTED, DamagePlan
from workers.evaluation.damage.long_form import LongPlan
from workers.evaluation.statistics import RESAMPLES

USUAL_TOKENS = 32
"""Where answers are longer, those of controls come from fewer prompts."""
ALL_CONTROLS: tuple[ControlKind, ...] = get_args(ControlKind)


DOSE_DAMAGE = DamagePlan(neutral_each=20, own_samples=40, heldout_texts=30, preserved=30)
"""What an edit at other strengths is measured on: six of them are."""


TEST_CONFIDENCE = 0.975
"""Of the intervals that decide: an edit without effect that may be looked at twice passes with a
probability of 2.5 % at most, as by one look at 95 % (Bonferroni's correction)."""


@dataclass(frozen=True)
class EvaluationPlan:
    """How much is measured at one effort; the defaults are those of `standard`.

    SmolLM2 on two idle cores generates 259 tokens a second, reads 1,246, and its head judges 3,000
    positions a second. In seconds, for 200 prompts and answers of 24 tokens:

        text of base and edit      2 · 4,800 / 259                                   = 37
        damage: read the base      (4,200 + 3,600 + 1,800) / 1,246 + heads           = 10
        damage: the edit           the same, with two heads on neutral text          = 13
        fluency                    2 · 100 pairs · 36 tokens, read and judged        =  7
        long texts and requests    2 · (16 · 128 + 32 · 32) / 259                    = 24
        basics                     2 · 5,200 / 1,246 + heads + 2 · 32 · 64 / 259     = 26
        doses                      7 times about 3,400 tokens, read and judged       = 30
        selectivity, side effects, scorers                                           = 18
        random direction           4,800 / 259 + 3 measurements of KL at 2.3         = 25
        permuted labels            100 · 40 · 3.3 / 1,246, then as a random region   = 23
        random region              60 · 24 / 259 + 3 measurements                    = 12
        paper's method, twice      the same with 1 and with 3 measurements           = 20
        prompt                     3 · 30 and 60 answers, 2 measurements             = 18
        the edit's own KL                                                            =  4

    about 268 in all; 300 with answers of 32 tokens. `quick` takes 100 seconds, `thorough` 11 to 14
    minutes. `expected_seconds` does this sum for any behaviour.
    """

    test_prompts: int = 200
    """At most; see `generated_tokens`."""
    samples: int = 1
    """Continuations of each prompt; another prompt tells more than another sample of one."""
    generated_tokens: int = 6_400
    """Tokens that one model generates, about: long answers are taken from fewer prompts."""
    least_prompts: int = 60
    """However long the answers are: with fewer, only large effects are significant."""
    temperature: float = 0.8
    top_k: int = 40
    damage: DamagePlan = REPORTED
    dose_damage: DamagePlan = DOSE_DAMAGE
    dose_prompts: int = 0
    """Test prompts that each strength is tried on; 0: its damage is measured, not its effect."""
    selectivity: bool = True
    basics: bool = True
    """Easy questions, and requests for JSON and for calls of functions."""
    long_form: LongPlan | None = None
    """None: no longer texts are made."""
    controls: tuple[ControlKind, ...] = (
        "random_direction",
        "permuted_labels",
        "random_region",
        "prompt_only",
        "paper_equal_kl",
    )
    draws: int = 1
    """Random directions, and random regions, that are drawn."""
    control_prompts: int = 60
    """Test prompts of a control; a random direction, on which success hangs, gets them all."""
    control_neutral_each: int = 16
    """Calibration texts that controls are scaled on, so many of each kind."""
    wording_prompts: int = 30
    """Validation prompts that each wording of the control by prompt is tried on."""
    resamples: int = RESAMPLES
    shown: int = 8
    """Samples in the receipt."""

    def prompts_for(self, max_new_tokens: int) -> int:
        """How many test prompts to use for continuations of so many tokens."""
        affordable = self.generated_tokens // (self.samples * max_new_tokens)
        return min(self.test_prompts, max(self.least_prompts, affordable))


def fewer(prompts: int, max_new_tokens: int) -> int:
    """So many prompts, or as many as take the time of them with answers of the usual length."""
    return min(prompts, max(1, prompts * USUAL_TOKENS // max_new_tokens)) if prompts else 0


STANDARD = EvaluationPlan()

QUICK = EvaluationPlan(
    test_prompts=120,
    generated_tokens=2_880,
    least_prompts=40,
    damage=replace(REPORTED, own_samples=30, heldout_texts=12, preserved=30, fluency_pairs=60),
    dose_damage=DamagePlan(neutral_each=6, own_samples=20, heldout_texts=12, preserved=6),
    selectivity=False,
    basics=False,
    controls=("random_direction",),
    control_neutral_each=8,
)
"""Enough to see a large effect, too little to rank two edits."""

THOROUGH = EvaluationPlan(
    samples=3,
    generated_tokens=19_200,
    damage=DamagePlan(
        neutral_each=88,
        own_samples=300,
        heldout_texts=200,
        preserved=400,
        fluency_pairs=300,
        long_texts=48,
        harmless_requests=64,
    ),
    dose_prompts=100,
    controls=ALL_CONTROLS,
    long_form=LongPlan(),
    control_prompts=200,
    control_neutral_each=32,
    wording_prompts=60,
)
"""Three samples of each prompt, effects of all strengths, long texts."""

_PLANS: Mapping[Effort, EvaluationPlan] = {
    "quick": QUICK,
    "standard": STANDARD,
    "thorough": THOROUGH,
}


def plan_for(effort: Effort) -> EvaluationPlan:
    """How much is measured at an effort."""
    return _PLANS[effort]
