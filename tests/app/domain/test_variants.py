"""Names of variants: the grammar, and what stands behind a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.variants.aliases import Aliases
from app.domain.variants.names import (
    InvalidVariant,
    TermName,
    UnknownVariant,
    VariantName,
    Variants,
    parse,
    suffix_key,
    variant_name,
)
from models_store.errors import Conflict, NotFound
from models_store.operator.policy import Policy
from models_store.work.base_models import BaseModels, registration
from models_store.work.reservations import Reservations
from models_store.work.store import WorkStore
from tests.models_store.make import edit_request, finished_edit, register, spec

EDIT = "edit_" + "0123456789ABCDEFGHJKMNPQRS"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pico", VariantName("pico")),
        ("a.b-1", VariantName("a.b-1")),
        ("pico:kinder", VariantName("pico", (TermName("kinder"),))),
        (f"pico:{EDIT}", VariantName("pico", (TermName(EDIT),))),
        ("pico:a@0.6", VariantName("pico", (TermName("a", None, 0.6),))),
        ("pico:a~3@-.5", VariantName("pico", (TermName("a", 3, -0.5),))),
        ("pico:a@4", VariantName("pico", (TermName("a", None, 4.0),))),
        (
            f"pico:a@0.7+{EDIT}~0+b-c@-1",
            VariantName(
                "pico", (TermName("a", None, 0.7), TermName(EDIT, 0), TermName("b-c", None, -1.0))
            ),
        ),
    ],
)
def test_names_are_read(name: str, expected: VariantName) -> None:
    assert parse(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        ":a",
        "pico:",
        "pico:a+",
        "pico:+a",
        "pico::a",
        "Pico",
        "pico:A",
        "pico:edit_1",
        "pico:a@",
        "pico:a@x",
        "pico:a@1e1",
        "pico:a@+1",
        "pico:a@4.001",
        "pico:a@-5",
        "pico:a@nan",
        "pico:a~",
        "pico:a~-1",
        "pico:a@1~2",
        "pico:a b",
        "pico:a+a@2",
        "pico:a\n",
        "pico/../x",
        "pico:" + "+".join("abcdefghi"),
        "x" * 64,
        "pico:" + "x" * 41,
    ],
)
def test_what_does_not_follow_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(InvalidVariant):
        parse(name)


suffixes = st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True)
strengths = st.integers(-4000, 4000).map(lambda n: n / 1000)
terms = st.builds(
    TermName, suffixes | st.just(EDIT), st.none() | st.integers(0, 999_999), strengths
)
names = st.builds(
    VariantName,
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True),
    st.lists(terms, max_size=8, unique_by=lambda term: term.edit).map(tuple),
)


@given(names)
def test_a_name_that_is_written_is_read_as_the_same(name: VariantName) -> None:
    assert parse(str(name)) == name


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = parse(text)
    except InvalidVariant:
        return
    assert parse(str(name)) == name


@pytest.fixture
def suffixes_held(work: WorkStore) -> Reservations:
    return Reservations(work, "edit", "suffixes", "suffix_taken")


@pytest.fixture
def variants(work: WorkStore, bases: BaseModels, suffixes_held: Reservations) -> Variants:
    register(work, bases)
    return Variants(work, bases, suffixes_held, Aliases(work.objects, work.audit), Policy())


def test_the_base_itself_has_no_terms(variants: Variants) -> None:
    found = variants.resolve("default", "pico", actor=None)
    assert (found.name, found.base_model, found.terms) == ("pico", "pico", ())


def test_terms_become_paths_and_digests_in_the_order_given(
    work: WorkStore, variants: Variants, suffixes_held: Reservations
) -> None:
    first = finished_edit(work, "delta", "point-2")
    second = finished_edit(work)
    suffixes_held.take("default", suffix_key("pico", "kinder"), second)
    found = variants.resolve("default", f"pico:kinder@-0.5+{first}~2@2", actor=None)
    assert found.name == f"pico:{second}@-0.5+{first}~2@2"
    assert [(term.edit_id, term.point, term.strength, term.path) for term in found.terms] == [
        (second, None, -0.5, "somewhere/delta"),
        (first, 2, 2.0, "somewhere/point-2"),
    ]


def test_at_strength_zero_a_term_is_named_but_not_loaded(
    work: WorkStore, variants: Variants
) -> None:
    id = finished_edit(work)
    found = variants.resolve("default", f"pico:{id}@0", actor=None)
    assert (found.name, found.terms) == (f"pico:{id}@0", ())


@pytest.mark.parametrize("name", ["nobody", "pico:nobody", f"pico:{EDIT}", f"other:{EDIT}"])
def test_what_is_not_there_is_unknown(variants: Variants, name: str) -> None:
    with pytest.raises(UnknownVariant):
        variants.resolve("default", name, actor=None)


def test_edits_of_others_other_bases_and_other_points_are_unknown(
    work: WorkStore, bases: BaseModels, variants: Variants
) -> None:
    register(work, bases, "other")
    id = finished_edit(work)
    for tenant, name in (("red", f"pico:{id}"), ("default", f"other:{id}")):
        with pytest.raises(UnknownVariant):
            variants.resolve(tenant, name, actor=None)
    with pytest.raises(UnknownVariant, match="no point 1"):
        variants.resolve("default", f"pico:{id}~1", actor=None)


def test_edits_without_a_delta_say_why(work: WorkStore, variants: Variants) -> None:
    queued = edit_request()
    work.submit(queued)
    with pytest.raises(Conflict) as conflict:
        variants.resolve("default", f"pico:{queued.id}", actor=None)
    assert conflict.value.code == "edit_not_finished"
    failed = finished_edit(work, outcome="failed")
    with pytest.raises(NotFound) as missing:
        variants.resolve("default", f"pico:{failed}", actor=None)
    assert missing.value.code == "no_delta"


def test_a_base_that_is_not_ready_or_failed_is_told_apart(
    work: WorkStore, bases: BaseModels, variants: Variants
) -> None:
    bases.register(registration(spec("new"), 3600))
    with pytest.raises(Conflict) as conflict:
        variants.resolve("default", "new", actor=None)
    assert conflict.value.code == "base_model_not_ready"


def test_an_edit_on_top_of_others_needs_them(work: WorkStore, variants: Variants) -> None:
    below = finished_edit(work)
    on_top_of = variants.resolve("default", f"pico:{below}@0.5", actor=None)
    above = finished_edit(work, on_top_of=on_top_of)
    assert variant_name(work.read("edit", "default", above), -1) == f"pico:{below}@0.5+{above}@-1"
    for lacking in (f"pico:{above}", f"pico:{below}@0+{above}"):
        with pytest.raises(Conflict) as conflict:
            variants.resolve("default", lacking, actor=None)
        assert conflict.value.code == "parents_missing"
    assert len(variants.resolve("default", f"pico:{above}+{below}@0.3", actor=None).terms) == 2
    assert (
        len(variants.resolve("default", f"pico:{above}", actor=None, without_parents=True).terms)
        == 1
    )
    # At strength 0 it does nothing, and needs nothing.
    assert variants.resolve("default", f"pico:{above}@0", actor=None).terms == ()
