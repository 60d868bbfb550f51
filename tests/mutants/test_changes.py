"""What counts as a small change, and what does not."""

from __future__ import annotations

from tests.mutants.changes import mutants

TEXT = '''"""A module of 3 lines."""

LIMIT: float = 0.5


def over(value: int, limits: tuple[int, int] = (1, 2)) -> bool:
    """More than 1."""
    if not value <= max(limits) or value is None:
        raise ValueError(f"{value} is over {2}")
    return value + 1 > LIMIT
'''


def changed(text: str, **options: bool) -> set[str]:
    return {one.changed for one in mutants("a.py", text, **options)}


def test_every_comparison_operator_and_number_is_changed() -> None:
    found = changed(TEXT)
    assert {
        "LIMIT: float = (1.5)",
        "LIMIT: float = (0.25)",
        "def over(value: int, limits: tuple[int, int] = ((0), 2)) -> bool:",
        "if (not value <= max(limits) and value is None):",
        "if (value <= max(limits)) or value is None:",
        "if not (value < max(limits)) or value is None:",
        "if not (value > max(limits)) or value is None:",
        "if not value <= (min)(limits) or value is None:",
        "if not value <= max(limits) or (value is not None):",
        "pass",
        "return (value - 1) > LIMIT",
        "return (value + 1 >= LIMIT)",
        "return None",
    } <= found


def test_annotations_and_messages_stay_as_they_are() -> None:
    assert not any("is over" in one or one.startswith('"""') for one in changed(TEXT))
    assert not any("tuple[int, str]" in one for one in changed(TEXT))


def test_a_mutant_says_where_it_is_and_all_of_them_can_be_compiled() -> None:
    for one in mutants("a.py", TEXT):
        compile(one.after, one.path, "exec")
        assert one.before.splitlines()[one.line - 1] != one.after.splitlines()[one.line - 1]
        assert one.diff.startswith("--- a.py")


def test_letters_beyond_ascii_do_not_shift_a_change() -> None:
    assert 'σ = "σ" * (3)' in changed('σ = "σ" * 2\n')


def test_a_route_gets_another_scope_that_its_module_knows() -> None:
    text = "from a import Reader, Writer\n\n\ndef delete(who: Writer) -> int:\n    return 1\n"
    assert changed(text, scopes_only=True) == {"def delete(who: Reader) -> int:"}
    assert "def delete(who: Reader) -> int:" in changed(text)
    assert changed(
        "from a import Reader\n\n\ndef f(who: Reader) -> int: ...\n", scopes_only=True
    ) == (set())
