"""Compare the receipt of an edit with that of the one it repeats."""

from __future__ import annotations

from collections.abc import Iterator

from models_store.schemas.measurements import Figure, Interval, interval_of
from models_store.schemas.report import Report, Reproduction

_UNKNOWN = "unknown"


def compare_reports(earlier: Report, new: Report) -> Reproduction:
    """Whether the two edits are the same to the bit, and if not, how far apart they are.

    The same texts, seed, threads, batches, dtype and instruction set give the same bits. Where
    one of these differs, rounding does too, and the figures of the new receipt are expected
    inside the 95 % intervals of the earlier one: not every one of them, since an interval is
    missed one time in twenty by chance alone.

    Returns:
        `inside` and `outside` hold the names of figures, such as `effects.tfidf.rate`; a figure
        that the new receipt lacks is outside.
    """
    figures = dict(_figures(new))
    inside: list[str] = []
    outside: list[str] = []
    for name, interval in _figures(earlier):
        measured = figures.get(name)
        held = measured is not None and interval.low <= measured.value <= interval.high
        (inside if held else outside).append(name)
    return Reproduction(
        edit_id=earlier.provenance.edit_id,
        bit_equal=earlier.provenance.terms_sha256 == new.provenance.terms_sha256,
        terms_sha256=earlier.provenance.terms_sha256,
        environment=tuple(_differences(earlier, new)),
        inside=tuple(inside),
        outside=tuple(outside),
    )


def _figures(report: Report) -> Iterator[tuple[str, Interval]]:
    """Everything that was measured with an interval, by name."""
    for effect in report.effects:
        yield f"effects.{effect.scorer}.rate", effect.rate.difference
        yield f"effects.{effect.scorer}.score", effect.score.difference
    damage = report.damage
    figures: tuple[tuple[str, Figure], ...] = (
        ("kl_plain", damage.kl_plain),
        ("kl_chat", damage.kl_chat),
        ("perplexity_ratio", damage.perplexity_ratio),
        ("domain", damage.domain),
        ("fluency", damage.fluency),
        ("kl_preserve", damage.kl_preserve),
        ("kl_p95", damage.kl_p95),
        ("changed_choices", damage.changed_choices),
        ("loops", damage.loops),
        ("repetition", damage.repetition),
        ("harmless_refusals", damage.harmless_refusals),
    )
    for name, figure in figures:
        if (interval := interval_of(figure)) is not None:
            yield f"damage.{name}", interval
    for control in report.controls:
        yield f"controls.{control.kind}.{control.draw}", control.versus_edit


def _differences(earlier: Report, new: Report) -> Iterator[str]:
    """What of the machine and the programs is not as it was, in words."""
    then, now = _environment(earlier), _environment(new)
    for name in [*then, *(name for name in now if name not in then)]:
        before, after = then.get(name, _UNKNOWN), now.get(name, _UNKNOWN)
        if before != after:
            yield f"{name}: {before} then, {after} now"


def _environment(report: Report) -> dict[str, str]:
    cost = report.cost
    return {
        "threads": str(cost.threads),
        "dtype": cost.dtype,
        "device": cost.device,
        "cpu_capability": cost.cpu_capability or _UNKNOWN,
        "batch_tokens": str(cost.batch_tokens or _UNKNOWN),
        "batch_rows": str(cost.batch_rows or _UNKNOWN),
        "fluency_reader": report.damage.fluency_reader or _UNKNOWN,
        **{f"version of {name}": version for name, version in report.provenance.versions.items()},
    }
