"""How figures and texts are written in receipts: the filters of the templates."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from models_store.schemas.measurements import Contrast, Control, Interval, SideEffect
from models_store.schemas.report import HARMFUL, ProbeReport, Report

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&])")
_NOTED = ("length_alone", "not_separable")
"""Remarks that `separability.note` makes as well: the first of them that a receipt has."""
_MINUS = "\N{MINUS SIGN}"
_DASH = "\N{EN DASH}"
Writer = Callable[[float, int], str]
"""Writes a number with so many digits after the point."""


def plain(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}"


def maybe(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where it was not measured."""
    return _DASH if value is None else plain(value, digits)


def maybe_signed(value: float | None, digits: int = 3) -> str:
    """A difference, or a dash where it was not measured."""
    return _DASH if value is None else signed(value, digits)


def percent(share: float) -> str:
    """`0.274` as `27 %`; small shares keep a digit, so that 0.4 % is not nothing."""
    digits = 0 if share == 0 or abs(share) >= 0.1 else 1
    return f"{100 * share:.{digits}f} %"


def points(of: Interval) -> str:
    """A difference of shares with its interval, in percentage points."""
    digits = 0 if abs(of.value) >= 0.1 else 1
    value, low, high = (signed(100 * bound, digits) for bound in (of.value, of.low, of.high))
    return f"{value} points [{low}, {high}]"


def change(of: Interval, digits: int = 3) -> str:
    """A difference with its interval."""
    value, low, high = (signed(bound, digits) for bound in (of.value, of.low, of.high))
    return f"{value} [{low}, {high}]"


def measured(of: Interval, digits: int = 3) -> str:
    """A value with its interval."""
    return f"{of.value:.{digits}f} [{of.low:.{digits}f}, {of.high:.{digits}f}]"


def seconds(value: float) -> str:
    """`0.83` as `0.8 s`, `95` as `1 min 35 s`."""
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def size(value: int) -> str:
    """Bytes in the largest unit that leaves at least 1."""
    amount = float(value)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def moment(unix: int) -> str:
    """UTC, to the minute."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")


_CONTROLS = {
    "random_direction": "random direction",
    "permuted_labels": "a fit on permuted labels",
    "random_region": "random region",
    "prompt_only": "a prompt alone",
    "paper_alpha": "the paper's setting",
    "paper_equal_kl": "the paper's setting at equal KL",
}
_CONVERGED = "the paper's method with a converged probe at equal KL"
_LONG = {"long": "one long text", "three_turns": "third answer of a conversation"}


def control_name(control: Control) -> str:
    return _CONVERGED if control.probe == "converged" else _CONTROLS[control.kind]


def trained(probe: ProbeReport) -> str:
    """How a probe was trained, and how far that has brought it where it is known."""
    figures = {
        "cosine to its start": probe.cosine_to_start,
        "norm over that of its start": probe.norm_ratio,
        "cosine between its two rows": probe.antisymmetry,
        "cosine between seeds": probe.cosine_between_seeds,
    }
    told = [f"{name} {value:.2f}" for name, value in figures.items() if value is not None]
    how = {"converged": "from zero to the optimum", "paper": "as in the paper"}[probe.kind]
    return ", ".join([how, *told]).replace("-", _MINUS)


def long_name(kind: str) -> str:
    return _LONG[kind]


def words(name: str) -> str:
    """An identifier as words."""
    return name.replace("_", " ")


def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def curl(report: Report) -> str:
    """The command that requests the same edit, or the same measurement, again."""
    made = report.provenance
    path, body = "edits" if made.measures is None else "receipts", pretty_json(made.request)
    return (
        f"curl -s http://127.0.0.1:8080/v1/{path} \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(body)}"
    )


def has_inline_texts(report: Report) -> bool:
    """Whether texts came in the request itself, so that the command lacks them."""
    return isinstance(report.provenance.request.get("behavior"), dict)


def markdown(text: str) -> str:
    """Text for a paragraph or a heading of Markdown, all of it literal, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def code_block(text: str) -> str:
    """Text as an indented block of Markdown: whatever it holds, it cannot leave the block."""
    lines = re.split(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)
    return "\n".join("    " + line for line in lines)


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; 0 where nothing is left of it."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def written(value: float) -> str:
    """`-1.0` as `−1`, `0.25` as it is: a number with no more digits than it needs."""
    return f"{value:g}".replace("-", _MINUS)


def amount(value: float, unit: str) -> str:
    """A figure in its unit: a share in percent, tokens as they are."""
    return percent(value) if unit == "share" else f"{value:.1f}"


def amount_change(of: Interval, unit: str) -> str:
    """A difference with its interval, in percentage points or tokens."""
    return points(of) if unit == "share" else change(of, 1)


def direction(effect: SideEffect) -> str:
    """Which way something went, in words."""
    change = effect.of.difference
    more, less = ("longer", "shorter") if effect.unit == "tokens" else ("more of it", "less of it")
    if change.low > 0:
        return more
    return less if change.high < 0 else "no change shown"


def to_improve(report: Report) -> list[str]:
    """What the texts and prompts leave to be desired, but for what the note on them says."""
    remarks = [remark for remark in report.warnings if remark.code != HARMFUL]
    if report.separability.note is not None:
        noted = next((remark for remark in remarks if remark.code in _NOTED), None)
        remarks = [remark for remark in remarks if remark is not noted]
    return [remark.detail for remark in remarks]


def noticed(report: Report) -> list[tuple[str, Contrast, str]]:
    """What users of the model would notice: its name, the shares, and of what they are."""
    damage = report.damage
    texts = f"{damage.long_texts} long texts of each model, about neutral matters"
    requests = f"{damage.harmless_requests} harmless requests to each model"
    figures = (
        ("texts that loop", damage.loops, texts),
        ("pairs of words that repeat earlier ones", damage.repetition, texts),
        ("requests that are refused", damage.harmless_refusals, requests),
    )
    return [(name, of, place) for name, of, place in figures if of is not None]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "plain": plain,
    "signed": signed,
    "maybe": maybe,
    "maybe_signed": maybe_signed,
    "written": written,
    "amount": amount,
    "amount_change": amount_change,
    "direction": direction,
    "percent": percent,
    "points": points,
    "change": change,
    "measured": measured,
    "seconds": seconds,
    "size": size,
    "moment": moment,
    "words": words,
    "control_name": control_name,
    "trained": trained,
    "long_name": long_name,
    "pretty_json": pretty_json,
    "curl": curl,
    "has_inline_texts": has_inline_texts,
    "to_improve": to_improve,
    "noticed": noticed,
    "markdown": markdown,
    "code_block": code_block,
}
