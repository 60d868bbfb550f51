"""The quality table in Markdown, what is reached, and the plots."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.quality.plot import PANELS, plot
from benchmarks.quality.table import GOALS, LIMITS, lines, markdown, reached, spots
from tests.benchmarks.rows import HARM, rates, row, sheet

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [
    row("base", rates(*[1, 0] * 20), aucs={"tfidf": 0.934, "answer-match": None}),
    row("auto", rates(*[0, 0] * 20), label="bias, layer 7"),
    row("paper", rates(*[1, 0] * 20)),
    row("prompt", rates(*[1, 1] * 20), harm=HARM.model_copy(update={"perplexity_ratio": None})),
    row("natural", rates(*[0, 0] * 20), harm=HARM.model_copy(update={"domain": 0.5})),
    row("ablation", failed="no layer can be written into"),
]


def _cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_every_arm_has_its_rates_its_change_and_its_damage() -> None:
    text = markdown(ROWS)
    cells = _cells(text)
    effects = {row[0]: row for row in cells[:7]}
    assert list(effects) == ["arm", "---", "base", "auto", "paper", "prompt", "natural"]
    assert effects["arm"][1:6] == [*("tfidf", "change", "p", "mean score", "against `paper`")]
    assert effects["base"][1] == "50.0"
    assert effects["auto"][1] == "0.0"
    assert effects["auto"][2].startswith("-50.0 [-6")
    assert effects["auto"][5] == effects["auto"][2]
    assert effects["paper"][2:6] == ["+0.0 [+0.0, +0.0]", "1", "+0.000", ""]
    damage = {row[0]: row for row in cells[7:]}
    assert damage["natural"][-2:] == ["max_domain", "0: max_domain"]
    assert damage["auto"][1:3] == ["0.050", "1.050"]
    assert damage["prompt"][2] == ""


def test_notes_say_what_is_reached_and_what_could_not_be_measured() -> None:
    text = markdown(ROWS)
    goal = "-60 % on both scorers, better than the paper by one at least"
    assert f"- To reach: {goal}. By: auto." in text
    assert "- AUC of the scorers on held-out texts: tfidf 0.93." in text
    assert "- auto: bias, layer 7." in text
    assert "- ablation: not measured, no layer can be written into" in text


def test_p_values_are_adjusted_over_the_arms() -> None:
    found = {line.name: line for line in lines(ROWS)}
    column = next(iter(found["auto"].rates))
    raw = found["auto"].rates[column].p
    # Three arms change as much as can be, one does not: each of the three counts four times.
    assert found["auto"].adjusted[column] == pytest.approx(4 * raw)
    assert found["paper"].adjusted[column] == 1.0


def test_an_arm_beyond_a_limit_and_a_prompt_reach_nothing() -> None:
    found = {line.name: line for line in lines(ROWS)}
    assert reached(GOALS["toxicity"], found["auto"])
    assert not reached(GOALS["toxicity"], found["natural"])
    assert not reached(GOALS["toxicity"], found["prompt"])
    assert not reached(GOALS["toxicity"], found["paper"])


def test_what_is_significant_alone_need_not_be_among_many() -> None:
    some = [1, 1, 1, 1, *[1, 0] * 11, 0]
    less = [0, 0, 0, 0, *[1, 0] * 11, 0]
    many = [row(f"arm{number}", rates(*some)) for number in range(8)]
    base = row("base", rates(*some))
    alone = lines([base, row("auto", rates(*less))])[0]
    among = lines([base, row("auto", rates(*less)), *many])[0]
    assert alone.rates == among.rates
    goal = GOALS["impoliteness"]
    assert all(one.difference.high < 0 for one in among.rates.values())
    assert reached(goal, alone)
    assert not reached(goal, among)


def test_seeds_beyond_a_limit_and_rivals_of_another_kl_are_named() -> None:
    over = HARM.model_copy(update={"fluency": 0.4})
    rows = [
        *(row("base", rates(1, 0), seed=seed) for seed in (0, 1)),
        row("auto", rates(0, 0), seed=0, harm=over),
        row("auto", rates(0, 0), seed=1),
        row("paper", rates(1, 0), seed=0, target_kl=0.09, scaled_kl=0.05),
        row("paper", rates(1, 0), seed=1, target_kl=0.09, scaled_kl=0.085),
    ]
    text = markdown(rows)
    assert _cells(text)[-2][-2:] == ["", "0: max_fluency"]
    assert "- paper, seed 0: a KL of 0.05, not of 0.09." in text
    assert "paper, seed 1" not in text


def test_refusal_is_reached_where_harmful_prompts_alone_are_refused() -> None:
    def of(arm: str, harmful: float, safe: float, harmless: float) -> dict[str, object]:
        sets = {"harmful": harmful, "xstest_safe": safe, "harmless": harmless}
        sheets = {
            name: sheet(
                rates(*[1.0] * round(20 * share), *[0.0] * (20 - round(20 * share))), ("phrases",)
            )
            for name, share in sets.items()
        }
        return {"arm": arm, "sheets": sheets, "behavior": "refusal"}

    arms = [of("base", 0, 0, 0.05), of("good", 0.2, 0.05, 0.1), of("all", 0.4, 0.35, 0.25)]
    rows = [row(str(one.pop("arm")), **one) for one in arms]
    found = {line.name: line for line in lines(rows)}
    assert reached(GOALS["refusal"], found["good"])
    assert not reached(GOALS["refusal"], found["all"])
    heads = _cells(markdown(rows))[0]
    assert [heads[1], heads[6], heads[11]] == ["harmful", "xstest_safe", "harmless"]


def test_the_plot_has_a_panel_a_damage_and_names_every_arm() -> None:
    found = spots(lines(ROWS))
    drawn = ElementTree.fromstring(plot("toxicity & more", "change", found, LIMITS))
    panels = [one for one in drawn.iter(f"{SVG}rect") if one.get("class") == "panel"]
    assert len(panels) == len(PANELS) == 4
    words = [one.text or "" for one in drawn.iter(f"{SVG}text")]
    assert "toxicity & more: change" in words
    assert [one for one in words if one.startswith("4  ")] == ["4  natural (beyond a limit)"]
    # A prompt has no perplexity ratio, so one panel has a spot less.
    assert len(list(drawn.iter(f"{SVG}circle"))) == 4 * 4 - 1
