"""The parts of a receipt: limits, plots, and what only some receipts have."""

from __future__ import annotations

import pytest

from app.receipts import render
from app.receipts.plots import Plot, candidate_plot, dose_plots
from models_store.cards import formats
from models_store.cards.limits import GAUGE, limit_name, limits_of
from models_store.schemas.measurements import (
    Contrast,
    Dose,
    Interval,
    Safety,
    SafetyCheck,
    SideEffect,
)
from models_store.schemas.methods import Limits
from models_store.schemas.report import MadeTexts, Remark, Separability
from tests.app.support.sample_report import early_report, full_report, sample_report


@pytest.mark.parametrize(("format", "end"), [("html", " <"), ("markdown", "**:")])
def test_the_verdict_and_all_limits_come_before_all_else(format: str, end: str) -> None:
    text = render(full_report(), format)  # type: ignore[arg-type]
    names = [limit_name(field) for field in Limits.model_fields]
    assert names == [one.name for one in limits_of(full_report())]
    verdict = text.index("Undesired text falls")
    places = [text.index(name + end, verdict) for name in names]
    assert places == sorted(places)
    assert places[-1] < text.index("What it does")


def test_what_is_over_its_limit_is_marked() -> None:
    assert [one.name for one in limits_of(full_report()) if one.exceeded] == ["domain"]
    html, card = render(full_report(), "html"), render(full_report(), "markdown")
    assert html.count("over its limit") == 1
    assert "over the limit: domain" in html
    assert card.count("**over**") == 1
    assert "The edit is over its limit on domain." in card


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_fluency_against_answers_is_told_with_that_against_the_base(format: str) -> None:
    damage = full_report().damage
    assert damage.fluency_against_base is not None
    told = ("against held-out desired answers", formats.change(damage.fluency_against_base))
    for report, there in ((full_report(), True), (sample_report(), False)):
        text = render(report, format)  # type: ignore[arg-type]
        assert [part in text for part in told] == [there, there]


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_the_kind_of_text_that_moved_most_comes_first(format: str) -> None:
    text = render(sample_report(), format)  # type: ignore[arg-type]
    code, news = (text.index(kind) for kind in ("0.142 [0.119, 0.177]", "0.071 [0.060, 0.085]"))
    assert code < news
    assert "by kind" not in render(early_report(), format)  # type: ignore[arg-type]


def test_a_gauge_has_its_limit_in_the_middle() -> None:
    kl, perplexity, domain, fluency, *others = (one.gauge for one in limits_of(full_report()))
    assert None not in others
    assert kl is not None
    assert kl.value == pytest.approx(0.96 * GAUGE / 2)
    assert perplexity is not None
    assert perplexity.value == pytest.approx(0.098 / 0.12 * GAUGE / 2, abs=0.1)
    assert domain is not None
    assert domain.value > GAUGE / 2
    assert fluency is not None
    # Below zero there is no damage to show.
    assert fluency.low == 0


def test_a_damage_that_was_not_measured_is_not_called_within_its_limit() -> None:
    damage = full_report().damage.model_copy(update={"domain": None})
    verdict = full_report().verdict.model_copy(update={"within_limits": True, "exceeded": ()})
    assert "not measured" in render(full_report(damage=damage, verdict=verdict), "html")


@pytest.mark.parametrize("format", ["html", "markdown"])
@pytest.mark.parametrize(
    ("surely", "published", "said"),
    [
        (0.2, False, "not published"),
        (0.2, True, "published for a key that may do so"),
        (-0.1, True, "None beyond what the operator allows"),
    ],
)
def test_harm_is_told_with_what_became_of_the_edit(
    format: str, surely: float, published: bool, said: str
) -> None:
    of = Contrast(base=0.5, edited=0.2, difference=Interval(value=-0.3, low=-0.4, high=-surely))
    check = SafetyCheck(
        name="refused harmful requests", prompts=64, of=of, surely=surely, margin=0.05
    )
    report = full_report(safety=Safety(checks=(check,), published=published))
    text = render(report, format)  # type: ignore[arg-type]
    assert said in text
    assert "refused harmful requests" in text
    assert "refused harmful requests" not in render(full_report(), format)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_what_users_would_notice_is_told_with_what_the_base_does(format: str) -> None:
    text = render(full_report(), format)  # type: ignore[arg-type]
    damage = full_report().damage
    assert damage.loops is not None
    assert formats.points(damage.loops.difference) in text
    assert "24 long texts of each model" in text
    assert "32 harmless requests" in text
    assert "0.370 [0.330, 0.410]" in text
    early = render(early_report(), format)  # type: ignore[arg-type]
    assert "long texts of each" not in early
    assert "harmless requests" not in early


def test_what_the_texts_leave_to_be_desired_is_shown() -> None:
    remark = Remark(code="few_texts", pointer="/behavior/desired", detail="20 desired <texts>")
    report = full_report(warnings=(remark,))
    assert "20 desired &lt;texts&gt;" in render(report, "html")
    assert "- to improve: 20 desired \\<texts\\>" in render(report, "markdown")
    assert "to improve" not in render(full_report(), "html") + render(full_report(), "markdown")


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_what_the_note_on_the_texts_says_is_not_said_again(format: str) -> None:
    remarks = tuple(
        Remark(code=code, pointer="/behavior/desired", detail=f"about {code}".replace("_", " "))
        for code in ("few_texts", "length_alone", "not_separable")
    )
    separability = Separability(words_auc=0.6, length_auc=0.9, note="Length alone tells.")
    report = full_report(warnings=remarks, separability=separability)
    text = render(report, format)  # type: ignore[arg-type]

    assert text.count("Length alone tells.") == 1
    assert "about length alone" not in text
    assert "about few texts" in text
    assert "about not separable" in text


def test_an_early_receipt_shows_its_one_limit() -> None:
    report = early_report()
    assert report.schema_version == 1
    assert [one.limit for one in limits_of(report)] == ["0.1", None, None, None]
    html = render(report, "html")
    assert 'class="verdict success"' in html
    assert html.count("no limit") == 3
    assert "Undesired text falls" in render(report, "markdown")


def test_an_early_receipt_over_its_limit_says_so() -> None:
    verdict = early_report().verdict.model_copy(update={"within_limits": False})
    report = early_report().model_copy(update={"verdict": verdict})
    assert "over the limit: KL" in render(report, "html")
    assert "over its limit on KL" in render(report, "markdown")


def test_only_a_success_within_the_limits_looks_like_one() -> None:
    success = 'class="verdict success"'
    assert success not in render(full_report(), "html")
    within = full_report().verdict.model_copy(update={"within_limits": True, "exceeded": ()})
    assert success in render(full_report(verdict=within), "html")
    placebo = within.model_copy(update={"success": False, "beats_random_direction": False})
    text = render(full_report(verdict=placebo), "html")
    assert success not in text
    assert "does no more than a random direction" in text


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_full_receipt_shows_every_part(format: str) -> None:
    text = render(full_report(), format)  # type: ignore[arg-type]
    for part in (
        "gemma-3-270m",
        "The invoice is due",
        "a prompt alone",
        "Write only in a warm and friendly way.",
        "not matched",
        "half of natural, with bias in layer 17",
        "layer 11 moves first tokens",
        "gives no numbers any more",
        "less of it",
        "more of it",
        "no change shown",
        "shorter",
        "third answer of a conversation",
        "+4.0 points [−5.0, +13.0]",
        "RealToxicityPrompts",
        "threads: 2, earlier 4",
        "This does not rank edits as generated text does.",
    ):
        assert part in text


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_part_that_is_not_there_has_no_heading(format: str) -> None:
    text = render(sample_report(), format)  # type: ignore[arg-type]
    for heading in (
        "How it was chosen",
        "At other strengths",
        "What else changed",
        "In longer text",
        "On top of other edits",
        "Suites",
        "Compared with",
        "to preserve",
    ):
        assert heading not in text


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_texts_that_a_scorer_made_are_told_with_how_much_it_flagged(format: str) -> None:
    made = MadeTexts(
        scorer="vader",
        prompts=60,
        samples=16,
        continuations=950,
        flagged=310,
        prompts_used=51,
        texts=140,
    )
    text = render(sample_report(made_texts=made), format)  # type: ignore[arg-type]
    assert "continued 60 prompts 16 times each; 310 of 950 different continuations" in text
    assert "texts made by" in text
    assert "texts made by" not in render(sample_report(), format)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_texts_that_the_base_model_made_are_told(format: str) -> None:
    made = MadeTexts(
        scorer=None,
        prompts=60,
        samples=1,
        continuations=60,
        flagged=0,
        prompts_used=51,
        texts=51,
    )
    text = render(sample_report(made_texts=made), format)  # type: ignore[arg-type]
    assert "undesired texts made by the base model" in text
    assert "own responses to 60 prompts of desired texts" in text
    assert "flagged" not in text


def test_a_repeated_edit_says_how_it_compares() -> None:
    again = full_report().reproduction
    assert again is not None
    same = again.model_copy(update={"bit_equal": True, "environment": ()})
    apart = again.model_copy(update={"outside": ("kl",)})
    for found, words in (
        (same, "bit-identical to the reproduced edit"),
        (again, "inside the intervals of the reproduced edit"),
        (apart, "figures outside the intervals of the reproduced edit"),
    ):
        assert words in render(full_report(reproduction=found), "html")
    assert "The same edit, bit for bit" in render(full_report(reproduction=same), "markdown")


def _inside(plot: Plot) -> bool:
    return all(
        plot.left <= dot.x <= plot.right and plot.top <= dot.high <= dot.y <= dot.low <= plot.bottom
        for dot in plot.dots
    )


def test_plots_hold_every_mark_within_their_frame() -> None:
    plots = [*dose_plots(full_report()), candidate_plot(full_report())]
    assert len(plots) == 3
    for plot in plots:
        assert plot is not None
        assert _inside(plot)
        assert plot.x_ticks[0].at == plot.left
        assert plot.x_ticks[-1].at == plot.right


def test_the_plot_of_doses_passes_through_the_base_at_strength_zero() -> None:
    kl, rate = dose_plots(full_report())
    zero = next(tick.at for tick in kl.x_ticks if tick.label == "0")
    assert f"{zero},{kl.bottom}" in kl.line.split()
    assert f"{zero},{rate.guides[0].y1}" in rate.line.split()


def test_a_dose_over_the_limit_is_drawn_so_and_a_broken_one_not_at_all() -> None:
    (kl, _) = dose_plots(full_report(limits={"max_kl": 0.05}))
    assert [dot.kind for dot in kl.dots] == ["over", "edit", "edit", "over", "over"]
    broken = tuple(Dose(strength=one, damage=None) for one in (-1.0, 1.25))
    assert dose_plots(full_report(doses=broken)) == ()
    assert "gives no numbers any more" in render(full_report(doses=broken), "html")


def test_the_chosen_candidate_stands_out() -> None:
    plot = candidate_plot(full_report())
    assert plot is not None
    assert [dot.kind for dot in plot.dots] == ["edit", "edit", "over", "selected", "edit"]
    assert [dot.label for dot in plot.dots] == ["0", "1", "2", "3", "4"]


def test_labels_that_would_lie_on_one_another_stand_on_different_sides() -> None:
    plot = candidate_plot(full_report())
    assert plot is not None
    assert plot.dots[0].label_left != plot.dots[2].label_left


def test_a_plot_of_nothing_but_zeros_has_a_scale_all_the_same() -> None:
    still = full_report().doses[1]
    assert still.damage is not None
    damage = still.damage.model_copy(update={"kl": 0.0})
    nothing = still.model_copy(update={"strength": 0.0, "damage": damage, "effects": ()})
    (plot,) = dose_plots(full_report(doses=(nothing,), limits={}))
    assert _inside(plot)
    assert len(plot.y_ticks) >= 2


@pytest.mark.parametrize(
    ("low", "high", "unit", "words"),
    [
        (0.1, 0.3, "share", "more of it"),
        (-0.3, -0.1, "share", "less of it"),
        (-0.1, 0.1, "share", "no change shown"),
        (1.0, 2.0, "tokens", "longer"),
        (-2.0, -1.0, "tokens", "shorter"),
    ],
)
def test_directions_are_told_in_words(low: float, high: float, unit: str, words: str) -> None:
    change = Interval(value=(low + high) / 2, low=low, high=high)
    one = SideEffect(
        name="x",
        measures="y",
        unit="tokens" if unit == "tokens" else "share",
        of=Contrast(base=0.5, edited=0.5 + change.value, difference=change),
    )
    assert formats.direction(one) == words


def test_the_page_begins_with_whether_to_use_the_edit_and_shows_harm_in_red() -> None:
    change = Interval(value=-0.173, low=-0.26, high=-0.083)
    worse = Contrast(base=0.22, edited=0.047, difference=change)
    check = SafetyCheck(name="refused requests", prompts=64, of=worse, surely=0.083, margin=0.05)
    harm = Safety(checks=(check,), published=True)
    within = full_report().verdict.model_copy(update={"within_limits": True, "exceeded": ()})
    text = render(full_report(verdict=within, safety=harm), "html")
    assert 'class="verdict failure"' in text
    assert "<strong>Use it?</strong> No: it does more harm than the operator" in text
    assert '<li class="bad">harmful: refused requests fall from 22 % to 4.7 %' in text
    assert text.index("Use it?") < text.index(within.sentence[:40])
    safe = check.model_copy(update={"surely": 0.01})
    text = render(
        full_report(verdict=within, safety=Safety(checks=(safe,), published=True)), "html"
    )
    assert "<strong>Use it?</strong> Yes: " in text
    assert '<li class="good">no harm beyond the margins</li>' in text
    assert '<li class="soft">harm not measured</li>' in render(full_report(), "html")
