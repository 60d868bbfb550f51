"""The delta as a file: it comes back as it went, and nothing malformed comes in."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st

from models_store.errors import CorruptArtifact
from models_store.weights.architectures import GATE, MatrixKey
from models_store.weights.delta import FORMAT, Delta, DeltaTerm, dump_delta, load_delta
from tests.support.edits import random_edit
from workers.runtime.edits.deltas import from_delta, to_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Term, canonical, make_term


def delta_of(*terms: DeltaTerm) -> Delta:
    return Delta("sha256:ab", "model_surgery", terms)


def delta_term(layer: int = 0, direction: float = 1.0, rows: int = 3) -> DeltaTerm:
    return DeltaTerm(
        layer=layer,
        module=GATE,
        expert=None,
        direction=np.full(4, direction, np.float32),
        rows=np.arange(rows, dtype=np.int32) * 2,
        coefficients=np.linspace(0.5, 1, rows, dtype=np.float32),
    )


def repacked(
    delta: Delta,
    change: Callable[[dict[str, np.ndarray], dict[str, Any]], None],
) -> bytes:
    """The delta's file after `change` of its tensors and metadata (terms as a list)."""
    data = dump_delta(delta)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors, metadata = safetensors.numpy.load(data), dict(header["__metadata__"])
    metadata["terms"] = json.loads(metadata["terms"])
    change(tensors, metadata)
    if "terms" in metadata:
        metadata["terms"] = json.dumps(metadata["terms"])
    return bytes(safetensors.numpy.save(tensors, metadata=metadata))


def test_a_delta_of_a_model_comes_back_term_by_term(pico: LoadedModel) -> None:
    terms = random_edit(pico)
    delta = to_delta(reversed(terms), pico.fingerprint, "bias")
    back = load_delta(dump_delta(delta))
    assert (back.base_fingerprint, back.method) == (pico.fingerprint, "bias")
    assert [t.digest for t in from_delta(back)] == [t.digest for t in canonical(terms)]
    assert back.terms_sha256 == delta.terms_sha256


LARGE = 2.0**100
vectors = st.lists(st.floats(-LARGE, LARGE, width=32), min_size=1, max_size=6)


@st.composite
def any_terms(draw: st.DrawFn) -> list[Term]:
    directions = draw(st.lists(vectors, min_size=1, max_size=3))
    terms = []
    for _ in range(draw(st.integers(0, 6))):
        rows = draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8, unique=True))
        size = len(rows)
        coefficients = draw(
            st.lists(st.floats(-LARGE, LARGE, width=32), min_size=size, max_size=size)
        )
        key = MatrixKey(
            draw(st.integers(0, 200)),
            draw(st.sampled_from([GATE, "mlp.down_proj"])),
            draw(st.one_of(st.none(), st.integers(0, 100))),
        )
        direction = torch.tensor(draw(st.sampled_from(directions)))
        terms.append(make_term(key, direction, torch.tensor(rows), torch.tensor(coefficients)))
    return terms


@given(terms=any_terms())
def test_any_delta_makes_the_round_trip(terms: list[Term]) -> None:
    delta = to_delta(terms, "sha256:ab", "model_surgery")
    data = dump_delta(delta)
    assert [t.digest for t in from_delta(load_delta(data))] == [t.digest for t in canonical(terms)]
    assert dump_delta(load_delta(data)) == data


def test_a_shared_direction_is_stored_once_and_loaded_once() -> None:
    delta = delta_of(delta_term(0), delta_term(1), delta_term(2, direction=2.0))
    tensors = safetensors.numpy.load(dump_delta(delta))
    assert sorted(name for name in tensors if name.endswith("direction")) == [
        "shared.0.direction",
        "terms.2.direction",
    ]
    first, second, third = from_delta(load_delta(dump_delta(delta)))
    assert first.direction.data_ptr() == second.direction.data_ptr()
    assert third.direction[0] == 2.0


def test_the_file_is_an_ordinary_safetensors_file_with_the_format_s_names() -> None:
    data = dump_delta(delta_of(delta_term()))
    tensors = safetensors.numpy.load(data)
    assert {name: (str(t.dtype), t.shape) for name, t in tensors.items()} == {
        "terms.0.direction": ("float32", (4,)),
        "terms.0.rows": ("int32", (3,)),
        "terms.0.coefficients": ("float32", (3,)),
    }
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"]["format"] == FORMAT == "scalpel-delta/1"
    assert json.loads(header["__metadata__"]["terms"]) == [
        {"layer": 0, "module": "mlp.gate_proj", "expert": None, "direction": "terms.0"}
    ]


@pytest.mark.slow
def test_other_processes_write_the_same_bytes() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from models_store.weights.delta import *\n"
        "t = DeltaTerm(0, 'mlp.gate_proj', None, np.ones(4, np.float32),"
        " np.arange(3, dtype=np.int32), np.ones(3, np.float32))\n"
        "print(hashlib.sha256(dump_delta(Delta('sha256:ab', 'bias', (t,)))).hexdigest())\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            timeout=280,
            env={"PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(3)
    }
    assert len(runs) == 1


def test_the_digest_is_of_the_terms_alone() -> None:
    one = delta_of(delta_term())
    other_base = Delta("sha256:cd", "bias", one.terms)
    assert other_base.terms_sha256 == one.terms_sha256
    different = [delta_term(layer=1), delta_term(direction=2.0), delta_term(rows=2)]
    assert len({delta_of(term).terms_sha256 for term in [delta_term(), *different]}) == 4


def test_terms_without_rows_are_left_out(pico: LoadedModel) -> None:
    empty = make_term(MatrixKey(0, GATE), torch.ones(32), torch.tensor([]), torch.tensor([]))
    assert to_delta([empty], "sha256:ab", "bias").terms == ()


def _set(name: str, array: Any) -> Callable[[dict[str, np.ndarray], dict[str, Any]], None]:
    return lambda tensors, metadata: tensors.__setitem__(name, np.asarray(array))


def _record(field: str, value: Any) -> Callable[[dict[str, np.ndarray], dict[str, Any]], None]:
    return lambda tensors, metadata: metadata["terms"][0].__setitem__(field, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("terms.0.rows", np.array([0, 2, 2], np.int32)), "ascending"),
        (_set("terms.0.rows", np.array([4, 2, 0], np.int32)), "ascending"),
        (_set("terms.0.rows", np.array([-1, 2, 4], np.int32)), "ascending"),
        (_set("terms.0.rows", np.array([0, 2], np.int32)), "2 rows and 3 coefficients"),
        (_set("terms.0.rows", np.array([0, 2, 4], np.int64)), "int64"),
        (_set("terms.0.rows", np.zeros(0, np.int32)), "non-empty"),
        (_set("terms.0.direction", np.ones((2, 2), np.float32)), "vector"),
        (_set("terms.0.direction", np.ones(4, np.float16)), "float16"),
        (_set("terms.0.direction", np.array([1, np.nan], np.float32)), "not finite"),
        (_set("terms.0.coefficients", np.array([1, 2, np.inf], np.float32)), "not finite"),
        (_set("terms.1.rows", np.ones(1, np.int32)), "no term"),
        (lambda tensors, metadata: tensors.pop("terms.0.rows"), "lacks the tensor"),
        (lambda tensors, metadata: metadata.pop("method"), "lacks method"),
        (lambda tensors, metadata: metadata.pop("terms"), "lacks terms"),
        (lambda tensors, metadata: metadata.update(format="scalpel-delta/2"), "not a delta"),
        (lambda tensors, metadata: metadata["terms"][0].pop("layer"), "malformed"),
        (lambda tensors, metadata: metadata.update(terms={"layer": 0}), "malformed"),
        (_record("layer", -1), "malformed"),
        (_record("layer", True), "malformed"),
        (_record("expert", 1.5), "malformed"),
        (_record("module", "../mlp"), "malformed"),
        (_record("direction", "terms.7"), "direction of another term"),
        (_record("direction", "shared.7"), "lacks the tensor"),
        (_record("extra", 1), "malformed"),
    ],
)
def test_malformed_deltas_are_refused(
    change: Callable[[dict[str, np.ndarray], dict[str, Any]], None], reason: str
) -> None:
    with pytest.raises(CorruptArtifact, match=reason):
        load_delta(repacked(delta_of(delta_term()), change))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 4,
        b"\xff" * 8 + b"{}",
        (2**40).to_bytes(8, "little") + b"{}" * 50,
        (2).to_bytes(8, "little") + b"{]",
        (6).to_bytes(8, "little") + b'"text"',
        (2).to_bytes(8, "little") + b"{}",
    ],
    ids=["empty", "short", "huge length", "length past the end", "no JSON", "no object", "no keys"],
)
def test_bytes_that_are_no_delta_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        load_delta(data)


@given(data=st.data())
def test_a_damaged_file_is_refused_or_still_a_delta(data: st.DataObject) -> None:
    """Cut anywhere it is refused; with one byte changed it never raises anything else."""
    good = dump_delta(delta_of(delta_term(), delta_term(1)))
    with pytest.raises(CorruptArtifact):
        load_delta(good[: data.draw(st.integers(0, len(good) - 1))])
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    with contextlib.suppress(CorruptArtifact):
        load_delta(bad)
