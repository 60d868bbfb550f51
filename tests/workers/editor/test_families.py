"""Exports of every family, loaded by the libraries of their users; `docs/api.md` has the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from models_store.errors import InvalidRequest
from models_store.schemas.records import Variant
from models_store.weights.architectures import (
    ARCHITECTURES,
    DOWN,
    GATE,
    OUTPUT,
    SHARED_DOWN,
    SHARED_GATE,
    SHARED_UP,
    UP,
)
from models_store.weights.delta import load_delta
from tests.project.test_docs import table
from tests.support.edits import random_term
from workers.editor.formats import merged, native, peft
from workers.editor.formats.protocol import Files, content
from workers.runtime.edits.deltas import from_delta
from workers.runtime.loading import LoadedModel
from workers.surgery.terms import Mixture, Term

MODULES = (GATE, UP, DOWN, OUTPUT, SHARED_GATE, SHARED_UP, SHARED_DOWN)
FORMATS: dict[str, Any] = {"native": native, "peft": peft, "merged": merged}
IDS = torch.randint(4, 300, (2, 9), generator=torch.Generator().manual_seed(5))


def edit_of(base: LoadedModel, *, experts: bool) -> Mixture:
    """A term on every matrix, with or without those of routed experts."""
    keys = [key for key in base.architecture.matrices(*MODULES) if experts or key.expert is None]
    return [([random_term(base, key, seed=seed) for seed, key in enumerate(keys)], 0.5)]


def from_hub(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def written(base: LoadedModel, terms: Sequence[Term], strength: float) -> Any:
    """Transformers' own model, with W[rows] += strength · c vᵀ."""
    model = from_hub(base.folder)
    parameters = dict(model.named_parameters())
    for term in terms:
        slot = base.architecture.slot(term.key)
        weight = parameters[base.architecture.tensor(term.key)].data
        weight = weight if term.expert is None else weight[term.expert]
        start = len(weight) // 2 if slot.part == "second_half" else 0
        weight[start + term.rows] += strength * torch.outer(term.coefficients, term.direction)
    return model


@torch.no_grad()
def logits(model: Any) -> Tensor:
    given: Tensor = model(input_ids=IDS).logits
    return given


def loaded(format: str, files: Files, base: LoadedModel, folder: Path) -> Any:
    """The model, as its users load it."""
    for name, data in files.items():
        (folder / name).write_bytes(content(data))
    if format == "merged":
        return from_hub(folder)
    if format == "peft":
        return PeftModel.from_pretrained(from_hub(base.folder), folder)
    (data,) = files.values()
    return written(base, from_delta(load_delta(content(data))), 1.0)


def holds(format: str, base: LoadedModel, folder: Path) -> str:
    """What an export of that format holds, proved on the base: `all`, or all but experts."""
    variant = Variant(name="v", base_model="pico", base_fingerprint=base.fingerprint)
    folder.mkdir()
    (scratch := folder / "scratch").mkdir()
    (kept := folder / "kept").mkdir()
    held, mixture = "all", edit_of(base, experts=True)
    try:
        files = FORMATS[format].files(base, mixture, variant, scratch)
    except InvalidRequest:
        held, mixture = "not routed experts", edit_of(base, experts=False)
        files = FORMATS[format].files(base, mixture, variant, scratch)
    ((terms, strength),) = mixture
    right = logits(written(base, terms, strength))
    got = logits(loaded(format, files, base, kept))
    assert torch.allclose(got, right, atol=1e-4)
    assert (got - logits(from_hub(base.folder))).abs().max() > 0.1
    return held


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_export_is_the_edited_model_where_the_page_says_so(
    load_pico: Callable[..., LoadedModel], tmp_path: Path, model_type: str
) -> None:
    base = load_pico(model_type)
    found = [holds(format, base, tmp_path / format) for format in FORMATS]
    rows = {row[0]: row[2:] for row in table("api.md", "`model_type`")}
    assert rows.keys() == set(ARCHITECTURES)
    assert rows[model_type] == found


def test_an_adapter_of_a_fused_gate_leaves_the_other_half_alone(
    load_pico: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    base = load_pico("phi3")
    (key,) = [key for key in base.architecture.matrices(GATE) if key.layer == 1]
    variant = Variant(name="v", base_model="pico", base_fingerprint=base.fingerprint)
    files = peft.files(base, [([random_term(base, key, seed=0)], 1.0)], variant, tmp_path)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        merged_in = loaded("peft", files, base, tmp_path).merge_and_unload()
    before, after = (
        model.get_parameter(base.architecture.tensor(key)) for model in (base.model, merged_in)
    )
    changed = (before != after).any(dim=1)
    half = len(before) // 2
    assert changed[:half].any()
    assert not changed[half:].any()
