"""Exports and their proofs, on pico models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from app.domain.canaries.curves import effect
from models_store.errors import EditFailed, InvalidRequest
from models_store.schemas.canary import NAME as CANARY
from models_store.schemas.canary import Canary
from models_store.schemas.records import Variant
from models_store.weights.architectures import GATE, MatrixKey
from models_store.weights.delta import load_delta
from models_store.weights.peft import WEIGHTS_NAME
from models_store.work.store import Place
from tests.workers.conftest import Bench, Made
from workers.editor.formats import peft
from workers.editor.formats.protocol import Loader, content
from workers.editor.jobs.canary import record
from workers.editor.jobs.proof import has_room, prove
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture, make_term

Body = Callable[..., dict[str, Any]]


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    return shared_bench


@pytest.fixture
def edited(made: Made) -> str:
    """The id of an edit of `pico`."""
    return made.id


def proof_of(outcome: Any) -> dict[str, Any]:
    proof = outcome.data["proof"]
    assert isinstance(proof, dict)
    return proof


def test_a_native_export_is_the_delta_with_its_strength_in_it(bench: Bench, edited: str) -> None:
    place = bench.submit_export(f"pico:{edited}@0.5", "native")
    outcome = bench.do(place)
    (original,) = bench.store.variants.resolve("default", f"pico:{edited}", actor=None).terms
    whole = load_delta(bench.store.objects.read(original.path))
    exported = load_delta(bench.file(outcome, "delta.safetensors"))
    for half, full in zip(exported.terms, whole.terms, strict=True):
        assert (half.coefficients == full.coefficients / 2).all()
    proof = proof_of(outcome)
    assert proof["passed"] is True
    assert proof["prompts"] == 32
    assert proof["max_logit_diff"] <= proof["tolerance"] < 1e-3


def test_a_peft_export_is_proved_by_peft(bench: Bench, edited: str) -> None:
    outcome = bench.do(bench.submit_export(f"pico:{edited}", "peft"))
    config = json.loads(bench.file(outcome, "adapter_config.json"))
    assert config["base_model_name_or_path"] == "pico"
    assert config["lora_alpha"] == config["r"]
    proof = proof_of(outcome)
    assert (proof["loader"], proof["passed"]) == ("peft", True)
    assert proof["max_logit_diff"] <= proof["tolerance"] < 1e-3


@pytest.mark.parametrize("format", ["native", "peft", "gguf", "merged"])
def test_an_export_has_a_canary_of_what_base_and_variant_say(
    bench: Bench, body: Body, edited: str, format: str
) -> None:
    outcome = bench.do(bench.submit_export(f"pico:{edited}@0.5", format))
    canary = Canary.model_validate_json(bench.file(outcome, CANARY))
    assert canary.variant == f"pico:{edited}@0.5"
    assert [(sheet.endpoint, len(sheet.prompts)) for sheet in canary.sheets] == [
        ("completions", 12),
        ("chat", 8),
    ]
    asked = {prompt.prompt for prompt in canary.sheets[0].prompts}
    behavior = body()["behavior"]
    own = [*behavior["prompts"], *behavior["undesired"], *behavior["desired"]]
    assert any(str(text).startswith(tuple(asked)) for text in own)
    assert all(effect(sheet, canary.strengths) > 0.05 for sheet in canary.sheets)


def test_an_edit_whose_texts_are_damaged_is_exported_with_neutral_prompts(
    bench: Bench, body: Body, edited: str
) -> None:
    path = Place("edit", "default", edited).texts
    data = bench.store.objects.read(path)
    bench.store.objects.put(path, data[:-20])
    try:
        outcome = bench.do(bench.submit_export(f"pico:{edited}", "native"))
    finally:
        bench.store.objects.put(path, data)
    canary = Canary.model_validate_json(bench.file(outcome, CANARY))
    asked = {prompt.prompt for sheet in canary.sheets for prompt in sheet.prompts}
    assert len(asked) >= 12
    assert not asked & set(body()["behavior"]["prompts"])


def test_a_canary_has_what_the_variant_says_at_every_strength(pico: LoadedModel) -> None:
    mixture = some_edit(pico)
    variant = Variant(name="v", base_model="pico", base_fingerprint=pico.fingerprint)
    canary = record(pico, mixture, variant, ["the food was"])
    sheet = canary.sheets[0]
    ids_of = {pico.tokenizer.decode([id]): id for id in range(len(pico.tokenizer))}
    for place, strength in enumerate(canary.strengths):
        with WeightEditor(pico).applied([(terms, strength) for terms, _ in mixture]):
            for prompt in sheet.prompts[:3]:
                ids = torch.tensor([pico.tokenizer(prompt.prompt)["input_ids"]])
                with torch.no_grad():
                    rows = torch.log_softmax(pico.model(ids).logits[0, -1], dim=-1)
                likeliest = {pico.tokenizer.decode([int(id)]) for id in rows.topk(4).indices}
                plain = {text for text in likeliest if "\ufffd" not in text and text[0] != "<"}
                assert plain <= set(prompt.tokens)
                for token, logprob in zip(prompt.tokens, prompt.logprobs[place], strict=True):
                    assert logprob == pytest.approx(float(rows[ids_of[token]]), abs=1e-3)


def test_a_composition_is_exported_as_one(bench: Bench, body: Body) -> None:
    one, other = (bench.make_up(**body(seed=seed)) for seed in (0, 5))
    outcome = bench.do(bench.submit_export(f"pico:{one}+{other}@-0.5", "peft"))
    config = json.loads(bench.file(outcome, "adapter_config.json"))
    assert config["r"] == 2
    assert proof_of(outcome)["passed"] is True


def test_an_adapter_whose_names_are_wrong_by_one_word_is_caught(
    pico: LoadedModel, tmp_path: Path
) -> None:
    mixture = some_edit(pico)
    variant = Variant(name="pico", base_model="pico", base_fingerprint=pico.fingerprint)
    right = peft.files(pico, mixture, variant, tmp_path)
    renamed = {
        name.replace("base_model.model.", "base_model."): tensor
        for name, tensor in load(content(right[WEIGHTS_NAME])).items()
    }
    wrong = {**right, WEIGHTS_NAME: save(renamed)}
    assert prove(pico, mixture, peft.loader(right), reloaded(pico)).passed
    with pytest.warns(UserWarning, match="missing adapter keys"), pytest.raises(EditFailed) as got:
        prove(pico, mixture, peft.loader(wrong), reloaded(pico))
    assert got.value.code == "export_mismatch"


def test_an_edit_of_routed_experts_has_no_adapter_but_a_delta(
    empty_bench: Bench, body: Body, make_pico: Callable[..., Any]
) -> None:
    empty_bench.register(make_pico("mixtral"))
    id = empty_bench.make_up(**body())
    with pytest.raises(InvalidRequest, match="routed experts"):
        empty_bench.do(empty_bench.submit_export(f"pico:{id}", "peft"))
    outcome = empty_bench.do(empty_bench.submit_export(f"pico:{id}", "native"))
    assert proof_of(outcome)["passed"] is True


def some_edit(base: LoadedModel, size: float = 1.0) -> Mixture:
    direction = torch.randn(base.hidden_size, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(10)
    return [([make_term(MatrixKey(0, GATE), direction, rows, size * torch.ones(10))], 1.0)]


def in_weights(mixture: Mixture) -> Loader:
    @contextmanager
    def loaded(base: LoadedModel) -> Iterator[LoadedModel]:
        with WeightEditor(base).applied(mixture):
            yield base

    return Loader("weights", "1", loaded)


def reloaded(base: LoadedModel) -> Callable[[str], LoadedModel]:
    return lambda dtype: load_base(base.folder, device="cpu", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_proof_passes_what_is_the_variant(
    load_pico: Callable[..., LoadedModel], dtype: str
) -> None:
    base = load_pico(load_dtype=dtype)
    mixture = some_edit(base)
    proof = prove(base, mixture, in_weights(mixture), reloaded(base))
    assert proof.passed
    assert proof.mean_kl < 0.01


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_proof_refuses_another_strength(
    load_pico: Callable[..., LoadedModel], dtype: str
) -> None:
    base = load_pico(load_dtype=dtype)
    ((terms, _),) = some_edit(base)
    with pytest.raises(EditFailed, match="is not the variant") as got:
        prove(base, [(terms, 1.0)], in_weights([(terms, 1.3)]), reloaded(base))
    assert got.value.code == "export_mismatch"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_proof_refuses_what_changes_nothing(
    load_pico: Callable[..., LoadedModel], dtype: str
) -> None:
    base = load_pico(load_dtype=dtype)
    nothing = Loader("nothing", "1", nullcontext)
    with pytest.raises(EditFailed, match="is not the variant"):
        prove(base, some_edit(base), nothing, reloaded(base))


def test_an_edit_lost_in_rounding_cannot_be_proved(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico(load_dtype="bfloat16")
    mixture = some_edit(base, size=1e-4)
    with pytest.raises(EditFailed, match="cannot be told from the base"):
        prove(base, mixture, in_weights(mixture), reloaded(base))


def test_a_model_too_large_for_two_more_copies_has_no_room() -> None:
    assert has_room(100_000, "cpu")
    assert not has_room(10**13, "cpu")
