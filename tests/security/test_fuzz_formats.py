"""Files and names that others hand over: whatever they hold, there is a clear error, or none."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.variants.names import InvalidVariant, TermName, VariantName, parse
from app.request.form import Form
from app.routes.behaviors.upload import MAX_LINE_BYTES, BehaviorLines
from models_store.errors import (
    BaseModelUnavailable,
    CorruptArtifact,
    InvalidRequest,
    Malformed,
    ScalpelError,
    TooLarge,
)
from models_store.schemas.records import DeltaRef
from models_store.weights.delta import dump_delta, load_delta
from models_store.weights.foreign import ForeignFile, check_delta, recognise
from models_store.weights.peft import read_peft
from models_store.weights.safetensors import MAX_HEADER_BYTES, load_tensors
from tests.app.support.worker import small_delta
from tests.models_store.make import FINGERPRINT
from tests.security.malformed import file_of, malformed_files
from workers.runtime.base_models.weights import stored_tensors
from workers.runtime.pinned import published_terms

FILES = list(malformed_files(small_delta(), 200))
_MOST_BYTES = 64 * 2**20


def test_malformed_deltas_are_refused_in_little_memory() -> None:
    assert len(FILES) == 200
    tracemalloc.start()
    passed = []
    try:
        for name, data in FILES:
            with contextlib.suppress(CorruptArtifact):
                load_delta(data)
                passed.append(name)
        assert tracemalloc.get_traced_memory()[1] < _MOST_BYTES
    finally:
        tracemalloc.stop()
    assert passed == []


def test_malformed_weights_are_refused(tmp_path: Path) -> None:
    passed = []
    for name, data in FILES:
        (tmp_path / "model.safetensors").write_bytes(data)
        try:
            stored_tensors(tmp_path)
        except (BaseModelUnavailable, InvalidRequest):
            continue
        passed.append(name)
    assert passed == []


def test_a_delta_of_other_bytes_than_published_is_not_even_parsed() -> None:
    data = small_delta()
    ref = DeltaRef(edit_id="e", path="p", sha256=hashlib.sha256(data).hexdigest(), strength=1)
    for _, other in FILES[:20]:
        with pytest.raises(CorruptArtifact, match="not the one that was published"):
            published_terms(other, ref, "any")


def test_a_header_over_the_limit_is_not_parsed() -> None:
    huge = b"{" + b" " * (MAX_HEADER_BYTES + 8) + b"}"
    with pytest.raises(CorruptArtifact, match="header is too large"):
        load_tensors(file_of(huge, b""))


@given(st.binary(max_size=400))
@settings(max_examples=500, deadline=None)
def test_bytes_are_a_delta_or_a_clear_error(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        load_delta(data)


@given(st.integers(0, len(small_delta()) * 8 - 1))
@settings(max_examples=500, deadline=None)
def test_a_delta_with_one_bit_turned_is_another_delta_or_an_error(bit: int) -> None:
    data = bytearray(small_delta())
    data[bit // 8] ^= 1 << bit % 8
    try:
        found = load_delta(bytes(data))
    except CorruptArtifact:
        return
    assert dump_delta(found)  # it can be read and written; its digest is another one's


edits = st.one_of(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
    st.from_regex(r"edit_[0-9A-Z]{26}", fullmatch=True),
)
strengths = st.integers(-4_000, 4_000).map(lambda number: number / 1000)
terms = st.builds(TermName, edits, st.none() | st.integers(0, 999_999), strengths)
names = st.builds(
    VariantName,
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,62}", fullmatch=True),
    st.lists(terms, max_size=8, unique_by=lambda term: term.edit).map(tuple),
)


@given(names)
@settings(max_examples=500, deadline=None)
def test_a_variants_name_is_read_as_it_was_written(name: VariantName) -> None:
    assert parse(str(name)) == name


@given(st.text(max_size=100) | st.text("abc09:+~@.-_", max_size=60))
@example("a:b@" + "9" * 5_000)
@example("a:" + "b+" * 5_000)
@example("a:b@-0")
@settings(max_examples=1_000, deadline=None)
def test_any_text_is_a_variant_or_a_clear_error(text: str) -> None:
    try:
        found = parse(text)
    except InvalidVariant:
        return
    assert parse(str(found)) == found


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
items = st.fixed_dictionaries(
    {"label": st.sampled_from(["undesired", "desired", "prompt"]) | json_values},
    optional=dict.fromkeys(("text", "prompt", "messages", "pair_id"), json_values),
)
lines = st.lists(
    st.one_of(items.map(json.dumps), json_values.map(json.dumps), st.text(max_size=30)),
    max_size=30,
)


@given(lines | st.binary(max_size=200), st.integers(1, 64))
@settings(max_examples=500, deadline=None)
def test_an_upload_of_lines_is_a_behavior_or_a_clear_error(
    given: list[str] | bytes, size: int
) -> None:
    data = given if isinstance(given, bytes) else "\n".join(given).encode("utf-8", "replace")

    def read(pieces: Iterable[bytes]) -> Any:
        upload = BehaviorLines("any")
        try:
            _feed(upload, pieces)
            return upload.end(), upload.sent
        except Malformed as error:
            return str(error)
        except InvalidRequest as error:
            return error.errors

    cut = [data[start : start + size] for start in range(0, len(data), size)]
    assert read(cut) == read([data])


@pytest.mark.parametrize(
    ("piece", "error", "detail"),
    [
        (b'{"text": "a", "label": "prompt"}\n', InvalidRequest, "line 2001: prompt: at most 2000 "),
        (b'{"text": "a", "label": "odd"}\n', InvalidRequest, "line 1: label must be one of "),
        (b"x" * 1000, TooLarge, "line 1 has more than 1048576 bytes"),
        (b"not json\n", Malformed, "line 1 is not JSON"),
        (b"\n", TooLarge, "more than 100000 lines"),
    ],
)
def test_an_upload_without_end_is_refused_on_the_way(
    piece: bytes, error: type[ScalpelError], detail: str
) -> None:
    upload = BehaviorLines("any")
    with pytest.raises(error, match=detail):
        _feed(upload, itertools.repeat(piece))
    assert upload.size <= MAX_LINE_BYTES + len(piece)


def _feed(upload: BehaviorLines, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        upload.feed(piece)


@pytest.mark.parametrize("spaces", [0, 20_000])
def test_an_upload_takes_no_more_memory_on_its_way_than_its_bytes(spaces: int) -> None:
    upload = BehaviorLines("any")
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 20
    line = json.dumps({"label": "desired", "messages": chat}).encode() + b" " * spaces + b"\n"
    tracemalloc.start()
    for _ in range(300):
        upload.feed(line)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 300 * (len(line) - spaces)


@given(data=st.binary(max_size=400))
@example(data=b"GGUF" + b"\xff" * 40)
@example(data=(2).to_bytes(8, "little") + b"{}")
@example(data=(14).to_bytes(8, "little") + b'{"a":{"shape":')
def test_any_file_is_recognised_or_a_clear_error(data: bytes) -> None:
    for name in ("adapter_model.safetensors", "adapter.zip", "x"):
        files = {name: ForeignFile(io.BytesIO(data), len(data))}
        with contextlib.suppress(InvalidRequest):
            kind, _ = recognise(files)
            assert kind == "control_vector"


def test_malformed_deltas_are_no_imports() -> None:
    for _, data in FILES:
        with contextlib.suppress(InvalidRequest):
            file = ForeignFile(io.BytesIO(data), len(data))
            kind, _ = recognise({"x.safetensors": file})
            assert kind == "native"
            check_delta(file, FINGERPRINT)
            # Its header is in order, so the rest is for the editor to find.
            with pytest.raises(CorruptArtifact):
                load_delta(data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
_SETTINGS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "bias", "use_dora")


@given(
    changes=st.dictionaries(st.sampled_from(_SETTINGS) | st.text(max_size=12), _JSON, max_size=3),
    shapes=st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=2, max_size=2),
)
def test_any_configuration_is_read_or_a_clear_error(
    changes: dict[str, Any], shapes: list[list[int]]
) -> None:
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    tensors = {
        name.format(one): ("F32", tuple(shape)) for one, shape in zip("AB", shapes, strict=True)
    }
    with contextlib.suppress(InvalidRequest):
        (pair,) = read_peft({"peft_type": "LORA", "r": 8, "lora_alpha": 8, **changes}, tensors, 2)
        assert pair.shape == (shapes[1][0], shapes[0][1])


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=5))
@example(body=b"--x--", cuts=[])
@example(body=b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--", cuts=[30])
def test_any_bytes_are_a_form_or_a_clear_error(body: bytes, cuts: list[int]) -> None:
    def read(*places: int) -> dict[str, str] | str:
        form: Form[bytes] = Form("multipart/form-data; boundary=x", lambda name: _InMemory())
        try:
            for start, stop in itertools.pairwise([0, *sorted(places), len(body)]):
                form.feed(body[start:stop])
            form.end()
        except ScalpelError as error:
            return error.code
        return {**form.fields, "files": repr(form.files)}

    assert read(*cuts) == read()


class _InMemory:
    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> None:
        self._data += data

    def end(self) -> bytes:
        return self._data
