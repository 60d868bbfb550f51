"""Text of a choice: whole characters, and nothing of a stop string."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from tests.support.pico import pico_tokenizer
from workers.generator.engine.text import StopMatcher, TextStream

TOKENIZER: Any = pico_tokenizer().backend_tokenizer


def tokens(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def run(text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], str]:
    stream = TextStream(TOKENIZER, stop)
    pieces = [stream.push(token) for token in tokens(text)]
    return pieces, "".join(pieces) + stream.flush()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_the_pieces_together_are_the_text(text: str) -> None:
    assert run(text)[1] == text


def test_a_character_of_many_tokens_comes_whole() -> None:
    pieces, _ = run("ok 🙂 yes")

    assert len(tokens("🙂")) > 1
    assert any("🙂" in piece for piece in pieces)
    assert all("\ufffd" not in piece for piece in pieces)


def test_a_stop_string_across_tokens_never_shows() -> None:
    pieces, text = run("one two STOP three", ("STOP",))

    assert text == "one two "
    assert len(tokens("STOP")) > 1
    assert all("S" not in piece for piece in pieces)


def test_the_beginning_of_a_stop_string_shows_when_it_goes_on_otherwise() -> None:
    assert run("a STOVE", ("STOP",))[1] == "a STOVE"


def test_the_earliest_of_several_stop_strings_ends_the_text() -> None:
    assert run("abcdef", ("ef", "cd"))[1] == "ab"


@pytest.mark.parametrize("stop", [(), ("",)])
def test_without_a_stop_string_nothing_is_held_back(stop: tuple[str, ...]) -> None:
    stream = TextStream(TOKENIZER, stop)

    assert [stream.push(token) for token in tokens("abc")] == ["a", "b", "c"]


@given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=3))
def test_the_text_ends_where_the_stop_string_first_stands(text: str, stop: str) -> None:
    assert run(text, (stop,))[1] == text.split(stop)[0]


def test_bytes_that_make_no_character_do_not_end_the_stream() -> None:
    vocabulary = {"<unk>": 0, "\u2581kind": 1, "ly": 2}
    vocabulary |= {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    newline, broken, word = 0x0A + 3, 0xFF + 3, 1
    stream = TextStream(backend)
    text = "".join(stream.push(token) for token in [newline, broken, word, word] * 3)
    assert (text + stream.flush()).count("kind") >= 5


@given(
    st.lists(st.text("ab", max_size=8), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4),
)
def test_what_is_found_in_pieces_is_what_is_found_in_the_whole(
    pieces: list[str], stops: list[str]
) -> None:
    for stop in stops:
        matcher, read, found = StopMatcher(stop), "", None
        for piece in pieces:
            read += piece
            found = matcher.push(piece)
            assert found == (read.index(stop) if stop in read else None)
            if found is not None:
                break
            ends = [n for n in range(len(stop)) if read.endswith(stop[:n])]
            assert matcher.matched == max(ends)


def test_the_worst_stop_string_takes_time_in_proportion_to_the_text() -> None:
    """Of a string that almost repeats itself every beginning is looked at again and again."""

    class Counted(str):
        looks = 0

        def __getitem__(self, at: object) -> str:  # type: ignore[override]
            Counted.looks += 1
            return super().__getitem__(at)  # type: ignore[index]

    matcher = StopMatcher(Counted("a" * 255 + "b"))
    Counted.looks = 0
    assert matcher.push("a" * 10_000) is None
    assert Counted.looks < 3 * 10_000
