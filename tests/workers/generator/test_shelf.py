"""What a generator keeps in memory is bounded by number and by bytes."""

from __future__ import annotations

from workers.generator.shelf import _Recent


def test_the_oldest_go_when_all_together_are_too_large() -> None:
    made: list[str] = []
    kept: _Recent[str] = _Recent(3, most_bytes=10, size=len)

    def get(value: str) -> None:
        def make() -> str:
            made.append(value)
            return value

        assert kept.get(value, make) == value

    for value in ("aaaa", "bbbb", "aaaa", "cccc"):
        get(value)
    assert kept.keys() == ("aaaa", "cccc")
    get("d" * 50)  # alone it is kept, however large
    assert kept.keys() == ("d" * 50,)
    get("aaaa")
    assert kept.keys() == ("aaaa",)
    for value in "efgh":
        get(value)
    assert kept.keys() == ("f", "g", "h")
    assert made == ["aaaa", "bbbb", "cccc", "d" * 50, "aaaa", "e", "f", "g", "h"]
