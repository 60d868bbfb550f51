"""The pure parts of the benchmark of growth: fits, points, texts, pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.scaling import by_length
from benchmarks.scaling.page import claims, measured, section
from benchmarks.scaling.plot import Curve, plot
from benchmarks.scaling.points import Point, PointFile
from benchmarks.scaling.power_law import fit_power_law
from benchmarks.scaling.texts import made_sides
from models_store.schemas.items import text_of

SIZES = (10, 100, 1_000, 10_000)


def powers(exponent: float) -> list[Point]:
    return [Point("work", size, 0.002 * size**exponent) for size in SIZES]


def test_an_exact_power_law_is_found_without_an_error() -> None:
    law = fit_power_law(SIZES, [0.5 * size**1.5 for size in SIZES])
    assert law.exponent == pytest.approx(1.5)
    assert law.factor == pytest.approx(0.5)
    assert law.error == pytest.approx(0, abs=1e-9)
    assert law(20) == pytest.approx(0.5 * 20**1.5)


def test_the_error_is_the_spread_of_exponents_over_noisy_measurements() -> None:
    random = np.random.default_rng(0)
    laws = [
        fit_power_law(SIZES, [size * factor for size, factor in zip(SIZES, noise, strict=True)])
        for noise in np.exp(0.1 * random.normal(size=(4_000, len(SIZES))))
    ]
    assert np.mean([law.exponent for law in laws]) == pytest.approx(1, abs=0.005)
    spread = np.std([law.exponent for law in laws])
    assert np.mean([law.error**2 for law in laws]) ** 0.5 == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("sizes", [(1, 2), (3, 3, 3)])
def test_too_few_sizes_have_no_exponent(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="three points"):
        fit_power_law(sizes, [1.0] * len(sizes))


def test_points_are_found_again_and_only_missing_ones_are_left(tmp_path: Path) -> None:
    file = PointFile("texts", tmp_path / "new")
    assert file.missing("work", SIZES) == list(SIZES)
    file.append(Point("work", 1_000, 0.5))
    file.append(Point("work", 10, 0.25))
    file.append(Point("rest", 100, 1.0))
    again = PointFile("texts", tmp_path / "new")
    assert again.missing("work", SIZES) == [100, 10_000]
    (_, work), (_, rest) = again.series()
    assert work == [Point("work", 10, 0.25), Point("work", 1_000, 0.5)]
    assert rest == [Point("rest", 100, 1.0)]


@pytest.mark.parametrize(("exponent", "met"), [(1.0, True), (1.2, False)])
def test_a_claim_is_met_up_to_its_exponent(tmp_path: Path, exponent: float, met: bool) -> None:
    file = PointFile("texts", tmp_path)
    for point in powers(exponent):
        file.append(point)
    (claim,) = claims([measured("texts", tmp_path)])
    assert claim.ratio == pytest.approx(exponent)
    assert claim.met is met


def test_the_section_has_a_row_for_each_series_and_a_picture_for_each_part(tmp_path: Path) -> None:
    file = PointFile("edits", tmp_path)
    for point in powers(0.5):
        file.append(point)
    made = section([measured("edits", tmp_path), measured("texts", tmp_path)])
    assert "| work | 10 to 10,000 edits | 0.50 ± 0.00 |" in made
    assert made.count("![") == 1
    assert "(performance/edits.svg)" in made


def test_made_up_texts_are_of_their_side_and_of_the_length_that_is_wanted() -> None:
    sides = made_sides(50, words=30)
    assert (len(sides.undesired), len(sides.desired)) == (25, 25)
    assert {len(text.split()) for text in sides.texts} == {30}
    assert len(set(sides.texts)) == 50
    assert sides == made_sides(50, words=30)
    assert text_of(made_sides(4).undesired[0]) != text_of(made_sides(4, seed=1).undesired[0])


def test_attention_explains_little_at_short_lengths() -> None:
    ratio = by_length.operations(512) / by_length.operations(16)
    assert 1.1 < ratio < 1.2


def test_a_picture_has_all_points_and_a_line_for_each_curve() -> None:
    curves = [Curve("a < b", powers(1.0), fit_power_law(SIZES, [1, 2, 3, 4])) for _ in range(2)]
    drawn = ElementTree.fromstring(plot("Growth", "texts", curves))
    names = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert names.count("circle") == 8
    assert "a < b: exponent 0.20 ± 0.03" in [element.text for element in drawn.iter()]


def test_a_picture_of_a_narrow_range_says_where_it_begins_and_ends() -> None:
    points = [Point("work", size, seconds) for size, seconds in ((16, 14), (64, 15), (512, 19))]
    law = fit_power_law([16, 64, 512], [14, 15, 19])
    drawn = ElementTree.fromstring(plot("Growth", "tokens", [Curve("work", points, law)]))
    assert {"16", "512", "14 s", "19 s"} <= {element.text for element in drawn.iter()}
