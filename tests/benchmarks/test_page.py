"""Sections of docs/performance.md that benchmarks write."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.page import write_section

PAGE = "# Title\n<!-- written by one -->\nold\n<!-- end of one -->\nbetween\n"


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE + PAGE.replace("one", "two"))
    write_section("two", "new", page)
    first, second = page.read_text().split("# Title\n")[1:]
    assert first == PAGE.removeprefix("# Title\n")
    assert second.startswith("<!-- written by two -->\nnew\n")
    assert "old" not in second
    assert second.endswith("<!-- end of two -->\nbetween\n")


def test_a_section_that_the_page_does_not_have_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(ValueError, match="no section of three"):
        write_section("three", "new", page)
    assert page.read_text() == PAGE
