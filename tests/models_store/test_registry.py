"""What packages bring, found by their entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models_store.registry import Registry

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Leaves what `pip install` leaves of a package with entry points of `scalpel.tests`."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(package: str, **points: str) -> None:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[scalpel.tests]\n{lines}\n")

    return installed


def test_names_are_known_without_an_import(install: Install) -> None:
    install("one", b="absent.module:thing", a="json:dumps")
    found: Registry[object] = Registry("scalpel.tests")

    assert list(found) == ["a", "b"]
    assert "b" in found
    assert "c" not in found
    assert found["a"] is sys.modules["json"].dumps
    with pytest.raises(KeyError):
        found["c"]


def test_what_cannot_be_imported_is_named(install: Install) -> None:
    install("one", b="absent.module:thing")

    with pytest.raises(ModuleNotFoundError) as caught:
        Registry[object]("scalpel.tests")["b"]
    assert caught.value.__notes__ == ["while loading 'b' (absent.module:thing) of scalpel.tests"]


def test_a_part_of_what_is_named_can_be_picked(install: Install) -> None:
    install("one", a="json")

    assert Registry[str]("scalpel.tests", lambda module: module.__name__)["a"] == "json"


def test_two_packages_cannot_bring_the_same_name(install: Install) -> None:
    install("one", a="json:dumps")
    install("two", a="json:loads")

    with pytest.raises(RuntimeError, match=r"two packages bring 'a': json:\w+ and json:\w+"):
        list(Registry[object]("scalpel.tests"))
