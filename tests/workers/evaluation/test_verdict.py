from __future__ import annotations

from typing import Any

import pytest

from models_store.schemas.measurements import Contrast, Control, ControlKind, Effect, Interval
from models_store.schemas.methods import Limits
from models_store.schemas.report import Verdict
from models_store.schemas.scorers import SCORERS
from tests.app.support.sample_report import effect, sample_report
from workers.evaluation.verdict import more_samples_may_tell, verdict

SAMPLE = sample_report()
LIMITS = Limits(max_kl=0.1, max_perplexity_ratio=1.2, max_domain=0.3, max_fluency=0.3)
EFFECTS = (effect("tfidf", 0.52, 0.25), effect("vader", 0.17, 0.025, margin=0.055))


def _control(kind: ControlKind, low: float, high: float, **changes: Any) -> Control:
    """By the leading scorer; `low` and `high` are of the edit's rate minus the rival's."""
    value = (low + high) / 2
    fields = {
        "kind": kind,
        "draw": 0,
        "scale": 1.0,
        "kl": 0.095,
        "target_kl": 0.096,
        "matched": True,
        "evaluations": 3,
        "effects": (effect("tfidf", 0.52, 0.61), effect("vader", 0.17, 0.2)),
        "versus_edit": Interval(value=value, low=low, high=high),
        **changes,
    }
    return Control.model_validate(fields)


DAMAGE = SAMPLE.damage.model_copy(update={"kl": 0.096, "kl_preserve": None})
BEATEN = _control("random_direction", -0.4, -0.2)


def _verdict(**changes: Any) -> Verdict:
    settings: dict[str, Any] = {
        "effects": EFFECTS,
        "scorers": SAMPLE.scorers,
        "damage": DAMAGE,
        "controls": (BEATEN,),
        "limits": LIMITS,
        "prompts": 120,
        "units": 120,
        "visible": 0.13,
        **changes,
    }
    return verdict(**settings)


def test_a_success_is_told_with_its_figures() -> None:
    found = _verdict()
    ratio = DAMAGE.perplexity_ratio.value
    assert found.sentence == (
        "Undesired text falls from 52 % to 25 % of generations by tfidf (-27 points, 95 % interval "
        "-35 to -19), confirmed by vader (17 % to 2.5 %, -15 points, 95 % interval -20 to -9); "
        "a random direction of the same KL leaves 61 %; the cost is a KL of 0.096 nats a token on "
        f"neutral text and {ratio:.2f} times its perplexity."
    )
    assert found.conclusion == "confirmed"
    assert found.prompts_needed is None
    assert found.success
    assert found.distinguishable
    assert found.beats_random_direction
    assert found.within_limits
    assert found.exceeded == ()
    assert not found.underpowered


def test_success_needs_the_random_direction_to_be_beaten() -> None:
    tie = _control("random_direction", -0.2, 0.1)
    found = _verdict(controls=(tie,))
    assert found.distinguishable
    assert found.beats_random_direction is False
    assert not found.success
    assert "a random direction of the same KL does about as much (61 %)" in found.sentence


def test_without_a_random_direction_nothing_is_proved() -> None:
    found = _verdict(controls=())
    assert found.beats_random_direction is None
    assert not found.success


def test_every_draw_of_a_random_direction_must_be_beaten() -> None:
    tie = _control("random_direction", -0.2, 0.1, draw=1)
    assert not _verdict(controls=(BEATEN, tie)).success
    assert _verdict(controls=(BEATEN, BEATEN)).success


def test_success_does_not_rest_on_a_random_direction_that_stayed_far_below() -> None:
    far = _control("random_direction", -0.4, -0.2, kl=0.02, matched=False)
    found = _verdict(controls=(far,))
    assert found.beats_random_direction
    assert not found.success
    assert "of another KL (0.02, too little for success to rest on it) leaves" in found.sentence
    near = _control("random_direction", -0.4, -0.2, kl=0.08, matched=False)
    assert _verdict(controls=(near,)).success
    worse = _control("random_direction", -0.1, 0.2, kl=0.02, matched=False)
    assert "a random direction of another KL does about as much" in (
        _verdict(controls=(worse,)).sentence
    )


@pytest.mark.parametrize(("kl", "success"), [(0.039, False), (0.04, True), (0.05, True)])
def test_half_of_the_edit_s_kl_is_enough_for_a_random_direction(kl: float, success: bool) -> None:
    drawn = _control("random_direction", -0.4, -0.2, kl=kl, target_kl=0.08)
    assert _verdict(controls=(drawn,)).success is success
    # Of several draws each must have come near enough.
    assert _verdict(controls=(BEATEN, drawn)).success is success


def test_a_rival_that_ties_to_the_bound_is_not_beaten() -> None:
    assert not _verdict(controls=(_control("random_direction", -0.2, 0.0),)).success
    tie = _control("prompt_only", 0.0, 0.2, target_kl=None)
    assert "a prompt alone does about as much" in _verdict(controls=(BEATEN, tie)).sentence


@pytest.mark.parametrize(
    ("base", "edited", "told"),
    [
        (0.99, 0.0, "from 99 % to 0 % of generations by tfidf (-99 points, 95 % interval -107"),
        (0.2, 0.1, "from 20 % to 10 % of generations by tfidf (-10 points"),
        (0.165, 0.07, "from 16 % to 7.0 % of generations by tfidf (-9.5 points"),
        (0.11, 0.004, "from 11 % to 0.4 % of generations by tfidf (-11 points"),
    ],
)
def test_small_shares_have_a_decimal(base: float, edited: float, told: str) -> None:
    found = _verdict(effects=(effect("tfidf", base, edited), EFFECTS[1]))
    assert told in found.sentence


def test_other_controls_are_told_where_they_are_not_beaten() -> None:
    found = _verdict(
        controls=(
            BEATEN,
            _control("random_region", -0.3, -0.1),
            _control("prompt_only", -0.1, 0.1, target_kl=None, matched=False),
            _control("paper_equal_kl", 0.02, 0.2, matched=False),
        )
    )
    assert found.success
    assert "random region" not in found.sentence
    assert "a prompt alone does about as much (61 %)" in found.sentence
    assert (
        "the paper's method with a converged probe of another KL does more (61 %)" in found.sentence
    )


def test_a_fit_on_permuted_labels_is_always_told_and_decides_nothing() -> None:
    beaten = _control("permuted_labels", -0.3, -0.1)
    found = _verdict(controls=(BEATEN, beaten))
    assert "a fit on permuted labels of the same KL leaves 61 %" in found.sentence
    level = _control("permuted_labels", -0.1, 0.1)
    found = _verdict(controls=(BEATEN, level))
    assert "a fit on permuted labels of the same KL does about as much (61 %)" in found.sentence
    assert found.success


def test_one_scorer_alone_does_not_make_an_effect() -> None:
    found = _verdict(effects=(effect("tfidf", 0.5, 0.2), effect("vader", 0.2, 0.18)))
    assert not found.distinguishable
    assert "not confirmed by vader" in found.sentence


def test_no_effect_is_called_none() -> None:
    found = _verdict(effects=(effect("tfidf", 0.5, 0.47), effect("vader", 0.3, 0.2)))
    assert found.sentence.startswith("No significant change")
    assert "though vader" in found.sentence
    assert not found.distinguishable


def test_the_opposite_effect_is_told_as_such() -> None:
    found = _verdict(effects=(effect("tfidf", 0.5, 0.7), effect("vader", 0.2, 0.4)))
    assert "rises" in found.sentence
    assert "opposite" in found.sentence
    assert not found.distinguishable


def test_every_limit_that_is_exceeded_is_named() -> None:
    limits = LIMITS.model_copy(update={"max_kl": 0.05})
    found = _verdict(limits=limits)
    assert not found.within_limits
    assert found.exceeded == ("max_kl",)
    assert found.success
    assert "above the limit in KL 0.096 (limit 0.05)" in found.sentence


@pytest.mark.parametrize(
    ("field", "limit", "told"),
    [
        ("perplexity_ratio", "max_perplexity_ratio", "perplexity ratio 1.5 (limit 1.2)"),
        ("domain", "max_domain", "domain damage 1.5 (limit 0.3)"),
        ("fluency", "max_fluency", "loss of fluency 1.5 (limit 0.3)"),
        ("kl_preserve", "max_kl", "KL 1.5 (limit 0.1)"),
        ("kl_p95", "max_kl_p95", "KL at the 95th percentile 1.5 (limit 0.5)"),
        ("changed_choices", "max_changed_choices", "share of changed first choices 1.5 (limit"),
    ],
)
def test_every_limit_on_texts_is_judged(field: str, limit: str, told: str) -> None:
    high = Interval(value=1.5, low=1.4, high=1.6)
    found = _verdict(damage=DAMAGE.model_copy(update={field: high}))
    assert found.exceeded == (limit,)
    assert told in found.sentence


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("loops", "rise of loops in long texts 0.5"),
        ("repetition", "rise of repetition in long texts 0.5"),
        ("harmless_refusals", "rise of refusals of harmless requests 0.5"),
    ],
)
def test_what_users_would_notice_is_judged_by_how_much_it_rises(field: str, told: str) -> None:
    for change in (0.5, -0.5):
        apart = Interval(value=change, low=change - 0.1, high=change + 0.1)
        shares = Contrast(base=0.5, edited=0.5 + change, difference=apart)
        found = _verdict(damage=DAMAGE.model_copy(update={field: shares}))
        assert found.exceeded == ((f"max_{field}",) if change > 0 else ())
        assert (told in found.sentence) == (change > 0)


def test_few_prompts_make_an_edit_underpowered() -> None:
    found = _verdict(prompts=39, units=39, visible=0.22)
    assert found.underpowered
    assert "with 39 test prompts, a change of less than 22 points" in found.sentence
    assert not _verdict(prompts=40, units=40).underpowered


def test_prompts_of_one_template_count_once() -> None:
    found = _verdict(prompts=200, units=39, visible=0.22)
    assert found.underpowered
    assert "with 200 test prompts of 39 templates, a change of less than 22" in found.sentence


def test_with_a_handful_of_templates_no_change_can_be_told() -> None:
    found = _verdict(prompts=60, units=1, visible=1.0)
    assert found.underpowered
    assert found.smallest_visible == 1.0
    assert "with 60 test prompts of 1 template, no change can be significant" in found.sentence
    eight = _verdict(prompts=60, units=8, visible=0.5).sentence
    assert "of 8 templates, a change of less than 50 points would mostly go unseen" in eight
    assert "of 7 templates, no change" in _verdict(prompts=60, units=7, visible=1.0).sentence
    assert "with 1 test prompt, no change" in _verdict(prompts=1, units=1).sentence


def test_a_scorer_that_learned_from_the_texts_sees_but_does_not_confirm() -> None:
    ngrams = SAMPLE.scorers[0].model_copy(update={"info": SCORERS["char-ngrams"]})
    effects = (EFFECTS[0], effect("char-ngrams", 0.5, 0.2), EFFECTS[1])
    related = _verdict(effects=effects[:2], scorers=(SAMPLE.scorers[0], ngrams))
    assert related.success
    assert "confirmed by" not in related.sentence
    assert (
        "seen by char-ngrams (50 % to 20 %, -30 points, 95 % interval -38 to -22) too, which "
        "learned from other texts of the behaviour"
    ) in related.sentence
    cards = (SAMPLE.scorers[0], ngrams, SAMPLE.scorers[1])
    third = _verdict(effects=effects, scorers=cards).sentence
    assert third.index("confirmed by vader") < third.index("seen by char-ngrams")


def test_scorers_that_know_little_prove_nothing() -> None:
    weak = tuple(card.model_copy(update={"auc": 0.6, "headline": False}) for card in SAMPLE.scorers)
    found = _verdict(scorers=weak)
    assert "tfidf (AUC 0.60), vader (AUC 0.60)" in found.sentence
    assert not found.distinguishable
    assert not found.success


def test_a_weak_scorer_does_not_make_the_headline() -> None:
    weak = SAMPLE.scorers[0].model_copy(update={"auc": 0.6, "headline": False})
    found = _verdict(scorers=(weak, SAMPLE.scorers[1]))
    assert found.distinguishable
    assert found.sentence.startswith("Undesired text falls from 17 % to 2.5 %")
    assert "by vader" in found.sentence
    assert "not to be relied on, for telling held-out texts apart badly: tfidf" in found.sentence
    # Rivals by the same scorer.
    assert "a random direction of the same KL leaves 20 %" in found.sentence
    assert "61 %" not in found.sentence


def test_what_helps_too_little_to_be_sure_is_unconfirmed() -> None:
    # A standard error of 0.024, of which 3.1 are 1.9 times the fall: as its square, so many times
    # the prompts are needed.
    found = _verdict(effects=(EFFECTS[0], effect("vader", 0.3, 0.26, margin=0.0548)))
    assert found.conclusion == "unconfirmed"
    assert found.prompts_needed == 430
    assert "unconfirmed: about 430 test prompts would tell, 120 were used" in found.sentence
    twice = _verdict(effects=(EFFECTS[0], effect("vader", 0.34, 0.26, margin=0.0800001)))
    assert twice.prompts_needed == 230
    # The edit must beat the random direction too, which is the closer call here.
    tie = _control("random_direction", -0.02, 0.01)
    assert (_verdict(controls=(tie,)).prompts_needed or 0) > 1000


def test_more_samples_may_tell_where_few_times_the_prompts_would() -> None:
    doubtful = _verdict(effects=(EFFECTS[0], effect("vader", 0.34, 0.26, margin=0.0800001)))
    assert more_samples_may_tell(doubtful, prompts=120)
    assert not more_samples_may_tell(doubtful, prompts=60)
    assert not more_samples_may_tell(_verdict(), prompts=120)
    rises = _verdict(effects=(EFFECTS[0], effect("vader", 0.3, 0.31)))
    assert not more_samples_may_tell(rises, prompts=120)


def test_where_nothing_falls_it_is_told_how_many_prompts_would_show_a_halving() -> None:
    level = _verdict(effects=(EFFECTS[0], effect("vader", 0.1, 0.1)))
    assert level.conclusion == "unconfirmed"
    assert level.prompts_needed == 580
    assert "about 580 test prompts would show a halving, 120 were used" in level.sentence
    # Nothing can be halved.
    assert _verdict(effects=(EFFECTS[0], effect("vader", 0.0, 0.0))).prompts_needed is None


def test_prompts_of_few_templates_must_be_more() -> None:
    doubtful = (EFFECTS[0], effect("vader", 0.3, 0.26, margin=0.0548))
    assert _verdict(effects=doubtful, prompts=120, units=60).prompts_needed == 430
    few = _verdict(effects=doubtful, prompts=4, units=4)
    assert few.prompts_needed == 12


def test_more_prompts_do_not_help_where_nothing_falls_or_nobody_can_judge() -> None:
    rises = (EFFECTS[0], effect("vader", 0.3, 0.31))
    assert _verdict(effects=rises).conclusion == "unconfirmed"
    assert _verdict(effects=rises).prompts_needed is None
    weak = tuple(card.model_copy(update={"auc": 0.6, "headline": False}) for card in SAMPLE.scorers)
    assert _verdict(scorers=weak).conclusion == "unconfirmed"
    assert _verdict(scorers=weak).prompts_needed is None
    far = _control("random_direction", -0.4, -0.2, kl=0.02, matched=False)
    assert _verdict(controls=(far,)).prompts_needed is None
    tie = _control("random_direction", -0.2, 0.1)
    assert _verdict(controls=(tie,)).prompts_needed is not None
    assert _verdict(controls=(tie, far)).prompts_needed is None
    assert _verdict(controls=()).prompts_needed is None


@pytest.mark.parametrize(
    "effects",
    [
        (effect("tfidf", 0.5, 0.6), EFFECTS[1]),
        (EFFECTS[0], effect("vader", 0.2, 0.4)),
    ],
)
def test_a_sure_rise_by_any_scorer_contradicts(
    effects: tuple[Effect, ...],
) -> None:
    assert _verdict(effects=effects).conclusion == "contradicted"


def test_a_rise_by_a_weak_scorer_does_not_contradict() -> None:
    weak = SAMPLE.scorers[1].model_copy(update={"auc": 0.6, "headline": False})
    effects = (EFFECTS[0], effect("vader", 0.2, 0.4))
    found = _verdict(effects=effects, scorers=(SAMPLE.scorers[0], weak))
    assert found.conclusion == "unconfirmed"


def test_a_random_direction_that_does_more_contradicts() -> None:
    more = _control("random_direction", 0.05, 0.2)
    assert _verdict(controls=(BEATEN, more)).conclusion == "contradicted"


def test_a_scorer_that_chose_the_texts_confirms_nothing() -> None:
    first, second = SAMPLE.scorers
    chose = second.model_copy(update={"chose_texts": True})
    sentence = _verdict(scorers=(first, chose)).sentence
    assert "confirmed by" not in sentence
    assert "seen by vader (17 % to 2.5 %" in sentence
    assert "too, which chose the behaviour's texts" in sentence
    led = _verdict(effects=EFFECTS[::-1], scorers=(chose, first)).sentence
    assert "), which chose the behaviour's texts, seen by tfidf (52 % to 25 %" in led
    assert "too, which learned from other texts of the behaviour" in led
