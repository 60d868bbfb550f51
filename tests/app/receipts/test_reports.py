from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.receipts import content_security_policy, render
from app.receipts.chart import chart_of
from models_store.cards import formats
from models_store.schemas.measurements import Interval, Preserved
from models_store.schemas.report import Remark, Report, Sample, Verdict
from models_store.schemas.report_views import point_of, summary_of
from tests.app.support.sample_report import early_report, effect, full_report, sample_report

HOSTILE = (
    "</pre></td><script>alert(1)</script> <img src=x onerror=alert(2)> & \"quotes\" 'and' more\n"
    "\n```\n# heading\n| a | b |\n[link](javascript:alert(3))\u2028- item"
)


class _Page(HTMLParser):
    """Every tag and attribute of a page, and whether the tags are balanced."""

    VOID = frozenset({"meta", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _hostile_report() -> Report:
    """Hostile text wherever a model, a user or an operator may have written something."""
    full = full_report()
    assert full.search is not None
    assert full.reproduction is not None
    return full_report(
        samples=(Sample(prompt=HOSTILE, base=HOSTILE, edited=HOSTILE),),
        provenance=full.provenance.model_copy(
            update={
                "behavior": full.provenance.behavior.model_copy(update={"name": HOSTILE}),
                "request": {"behavior": {"name": HOSTILE, "undesired": "20 items"}},
            }
        ),
        verdict=full.verdict.model_copy(update={"sentence": HOSTILE}),
        damage=full.damage.model_copy(
            update={"preserve_worst": (Preserved(text=HOSTILE, kl=1.0),)}
        ),
        controls=_each(full.controls, wording=HOSTILE),
        search=full.search.model_copy(
            update={
                "candidates": _each(full.search.candidates, label=HOSTILE),
                "skipped": (HOSTILE,),
            }
        ),
        composition=_each(full.composition, behavior=HOSTILE),
        suites=_each(full.suites, name=HOSTILE, protocol=HOSTILE, data=HOSTILE),
        scorers=_each(full.scorers, contamination=HOSTILE),
        warnings=(Remark(code="few_texts", pointer="/behavior", detail=HOSTILE),),
        separability=full.separability.model_copy(update={"note": HOSTILE}),
        reproduction=full.reproduction.model_copy(
            update={"environment": (HOSTILE,), "inside": (HOSTILE,), "outside": (HOSTILE,)}
        ),
    )


def _each(parts: Sequence[BaseModel], **update: Any) -> tuple[BaseModel, ...]:
    return tuple(part.model_copy(update=update) for part in parts)


@pytest.mark.parametrize("report", [sample_report(), full_report(), early_report()])
def test_the_page_is_well_formed_and_complete_in_itself(report: Report) -> None:
    page = _Page(render(report, "html"))
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not [name for name, _ in page.attributes if name in ("src", "href", "style")]


def test_what_the_model_or_a_user_wrote_is_shown_and_never_obeyed() -> None:
    text = render(_hostile_report(), "html")
    page = _Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_no_text_of_a_page_is_obeyed_wherever_it_stands() -> None:
    whole = full_report().model_dump(mode="json")
    free = [place for place in _texts(whole) if _can_hold(whole, place, HOSTILE)]
    assert len(free) > 100
    for *path, last in free:
        _at(whole, path)[last] = HOSTILE
    page = _Page(render(Report.model_validate(whole), "html"))
    assert page.open == []
    assert {"script", "img", "a"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def _texts(value: Any, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    """Where the texts in a JSON value stand."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, *path, step)


def _at(value: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        value = value[step]
    return value


def _can_hold(whole: dict[str, Any], place: Sequence[str | int], text: str) -> bool:
    """Whether the field takes any text, and not only one of a few words."""
    *path, last = place
    part = _at(whole, path)
    kept, part[last] = part[last], text
    try:
        Report.model_validate(whole)
    except ValidationError:
        return False
    finally:
        part[last] = kept
    return True


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    style = re.search(r"<style>(.*?)</style>", render(sample_report(), "html"), re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = content_security_policy()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_receipt_shows_effect_damage_controls_and_cost(format: str) -> None:
    text = render(sample_report(), format)  # type: ignore[arg-type]
    for part in (
        "Undesired text falls from 52 % to 25 % of generations",
        "−27 points [−35, −19]",
        "0.096 [0.083, 0.110]",
        "+0.026 [−0.012, +0.063]",
        "random direction",
        "2 min 11 s",
        "1.3 GB",
        "sha256:" + "ab" * 32,
        "The tea tasted like",
    ):
        assert part in text


@pytest.mark.parametrize("format", ["html", "markdown"])
def test_a_receipt_tells_how_far_the_training_of_its_probe_came(format: str) -> None:
    def told(report: Report) -> str:
        return unescape(render(report, format))  # type: ignore[arg-type]

    full = full_report()
    assert full.probe is not None
    figures = "cosine between its two rows −1.00, cosine between seeds 0.97"
    assert f"from zero to the optimum, {figures}" in told(full)
    assert "the paper's method with a converged probe at equal KL" in told(full)
    paper = {"kind": "paper", "cosine_to_start": 0.94, "norm_ratio": 1.1, "antisymmetry": 0.02}
    started = "cosine to its start 0.94, norm over that of its start 1.10"
    report = sample_report(probe=full.probe.model_copy(update=paper))
    assert f"as in the paper, {started}, cosine between its two rows 0.02" in told(report)
    early = told(early_report())
    assert "as in the paper" in early
    assert "cosine" not in early


def test_a_control_from_before_there_were_two_probes_is_the_papers_setting() -> None:
    controls = _each(full_report().controls, probe=None)
    text = render(full_report(controls=controls), "markdown")
    assert "the paper's setting at equal KL" in text
    assert "converged probe" not in text


def test_markdown_keeps_hostile_text_inside_indented_blocks() -> None:
    text = render(_hostile_report(), "markdown")
    lines = text.splitlines()
    for line in lines:
        if "<script>" in line or line.strip().startswith(("```", "[link]")):
            assert line.startswith("    ")
    assert not any(line.startswith(("# heading", "| a | b |", "- item", "```")) for line in lines)
    title = next(line for line in lines if line.startswith("# "))
    assert "\\<script\\>" in title


def test_the_model_card_names_its_base_model() -> None:
    lines = render(sample_report(), "markdown").splitlines()
    assert lines[0] == "---"
    assert "base_model: smollm2-135m-instruct" in lines[: lines.index("---", 1)]


def test_the_command_repeats_the_request() -> None:
    report = sample_report(
        provenance=sample_report().provenance.model_copy(
            update={"request": {"behavior": "it's", "metadata": {"a": "b\nc"}}}
        )
    )
    words = shlex.split(formats.curl(report).replace("\\\n", ""))
    assert json.loads(words[words.index("-d") + 1]) == report.provenance.request


def test_the_receipt_of_a_measurement_names_what_was_measured() -> None:
    request = {"variant": "pico:kinder@0.5"}
    provenance = sample_report().provenance.model_copy(
        update={"measures": "pico:edit_1@0.5", "request": request}
    )
    method = sample_report().method.model_copy(update={"type": "given"})
    report = sample_report(provenance=provenance, method=method)
    words = shlex.split(formats.curl(report).replace("\\\n", ""))
    assert words[2] == "http://127.0.0.1:8080/v1/receipts"
    assert json.loads(words[-1]) == request
    page, card = render(report, "html"), render(report, "markdown")
    heading, _, rest = page.partition("</header>")
    assert "<code>pico:edit_1@0.5</code> measured as it is" in heading
    assert rest.count("<dt>measured as it is</dt><dd><code>pico:edit_1@0.5</code></dd>") == 2
    assert "| measured as it is | `pico:edit_1@0.5` |" in card
    assert "given" not in re.sub(r"<style>.*?</style>", "", heading + card, flags=re.DOTALL)


def test_a_receipt_without_probe_chat_controls_and_domain_can_be_rendered() -> None:
    damage = sample_report().damage.model_copy(update={"kl_chat": None, "domain": None})
    report = sample_report(
        probe=None,
        controls=(),
        damage=damage,
        verdict=Verdict(
            sentence="No significant change.",
            distinguishable=False,
            within_limits=False,
            underpowered=True,
            smallest_visible=0.3,
        ),
    )
    html, markdown = render(report, "html"), render(report, "markdown")
    assert "underpowered" in html
    assert "over the limit" in html
    assert "Controls" not in html
    assert "neutral answers" not in html + markdown
    assert "The edit is over its limit on KL." in markdown


def test_a_report_survives_its_json() -> None:
    report = sample_report()
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_report_refuses_unknown_fields_and_numbers_that_are_none() -> None:
    written = json.loads(sample_report().model_dump_json())
    with pytest.raises(ValidationError):
        Report.model_validate({**written, "extra": 1})
    with pytest.raises(ValidationError):
        Interval(value=float("nan"), low=0, high=0)


def test_the_summary_and_the_point_tell_the_leading_effect() -> None:
    report = sample_report()
    summary, point = summary_of(report), point_of(report)
    assert (summary.scorer, summary.base, summary.edited) == ("tfidf", 0.52, 0.25)
    assert (summary.low, summary.high) == (point.effect.low, point.effect.high)
    assert point.selected
    assert point.damage.kl == 0.096
    assert point.damage.domain == 0.026


def test_the_summary_and_the_point_pass_over_a_weak_scorer_as_the_verdict_does() -> None:
    report = sample_report()
    weak = report.scorers[0].model_copy(update={"auc": 0.6, "headline": False})
    report = sample_report(scorers=(weak, report.scorers[1]))
    assert report.leading.scorer == "tfidf"
    for told in (summary_of(report), point_of(report).effect):
        assert told.scorer == "vader"
        assert (told.base, told.edited) == (
            report.effects[1].rate.base,
            report.effects[1].rate.edited,
        )


def test_the_picture_holds_every_mark_within_its_frame() -> None:
    report = sample_report(effects=(effect("tfidf", 1.0, 0.0, 0.3), effect("vader", 0.0, 0.0, 0.0)))
    chart = chart_of(report)
    assert len(chart.rows) == 3
    left, right = chart.ticks[0].at, chart.ticks[-1].at
    for row in chart.rows:
        assert all(left <= mark <= right for mark in (row.base, row.edited, row.low, row.high))
        assert chart.top < row.y < chart.bottom
    assert chart.rows[0].base == right
    assert chart.ticks[-1].label == "100 %"


def test_a_picture_of_nothing_has_a_scale_all_the_same() -> None:
    chart = chart_of(sample_report(effects=(effect("tfidf", 0.0, 0.0, 0.0),), controls=()))
    assert len(chart.ticks) >= 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (0.274, "27 %"), (0.025, "2.5 %"), (1.0, "100 %"), (0.0004, "0.0 %")],
)
def test_shares_read_as_percentages(value: float, text: str) -> None:
    assert formats.percent(value) == text


def test_figures_read_as_people_write_them() -> None:
    assert formats.points(Interval(value=-0.025, low=-0.05, high=0)) == "−2.5 points [−5.0, 0.0]"
    assert formats.seconds(0.83) == "0.8 s"
    assert formats.seconds(59.6) == "1 min 0 s"
    assert formats.seconds(95) == "1 min 35 s"
    assert formats.size(180_000) == "180 kB"
    assert formats.size(999) == "999 bytes"
    assert formats.size(2_400_000_000) == "2.4 GB"
    assert formats.moment(0) == "1970-01-01 00:00 UTC"
    assert formats.change(Interval(value=-0.0001, low=-0.2, high=0.1)) == "0.000 [−0.200, +0.100]"
