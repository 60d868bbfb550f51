"""Imported edits are what their own libraries make of the files, on pico models of every family."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor

from app.domain.edits.idempotency import Sender
from app.domain.edits.imports import Received
from app.domain.edits.requests import ImportBody
from models_store.cards import CARD_NAME
from models_store.errors import EditFailed
from models_store.schemas.catalogue import HubSource
from models_store.weights.delta import load_delta
from models_store.work.store import Place
from tests.support.adapters import ATTENTION, configured, make_adapter
from tests.workers.conftest import Bench
from tests.workers.runtime.base_models.test_hub import COMMIT, REPO
from tests.workers.runtime.base_models.test_hub import hub as hub
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.runtime.pinned import published_terms
from workers.surgery.terms import Mixture

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

IDS = torch.tensor([[1, 20, 21, 22, 300, 9, 40, 41]])
FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def received(path: Path) -> Received:
    data = path.read_bytes()
    return Received(path.name, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def submit(bench: Bench, *paths: Path, base_model: str = "pico", **options: Any) -> Place:
    body = ImportBody(base_model=base_model, **options)
    sender = Sender("default", bench.actor)
    files = [received(path) for path in paths]
    work = bench.store.submission.imported(sender, body, None, files).work
    return Place("edit", "default", work.id)


def parts(folder: Path) -> list[Path]:
    return [folder / "adapter_config.json", folder / "adapter_model.safetensors"]


def brought(bench: Bench, folder: Path) -> str:
    """The id of an edit that was imported from an adapter."""
    place = submit(bench, *parts(folder))
    bench.do(place)
    return place.id


def mixture(bench: Bench, name: str) -> Mixture:
    """The variant of that name, as a generator loads it."""
    variant = bench.store.variants.resolve("default", name, actor=None)
    return [
        (published_terms(bench.store.objects.read(ref.path), ref, variant.base_fingerprint), s)
        for ref in variant.terms
        for s in [ref.strength]
    ]


@torch.no_grad()
def served(base: LoadedModel, edits: Mixture) -> Tensor:
    with SidePath(base).rows([edits]):
        logits: Tensor = base.model(IDS).logits
    return logits


@contextmanager
def by_peft(base: LoadedModel, *folders: Path, scale: float = 1.0) -> Iterator[None]:
    """PEFT's own model, with the adapters of all folders added up."""
    adapted = PeftModel.from_pretrained(base.model, folders[0], adapter_name="0")
    for number, folder in enumerate(folders[1:], 1):
        adapted.load_adapter(folder, adapter_name=str(number))
    adapted.base_model.set_adapter([str(number) for number in range(len(folders))])
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            module.scaling = {name: scale * value for name, value in module.scaling.items()}
    try:
        yield
    finally:
        adapted.unload()


@torch.no_grad()
def expected(base: LoadedModel, *folders: Path, scale: float = 1.0) -> Tensor:
    with by_peft(base, *folders, scale=scale):
        logits: Tensor = base.model(IDS).logits
    return logits


def same(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, atol=2e-5, rtol=1e-5))


@pytest.mark.parametrize(
    "model_type",
    ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "smollm3", "phi3", "mixtral"],
)
def test_an_adapter_is_served_as_peft_runs_it(
    empty_bench: Bench,
    make_pico: Callable[..., Path],
    load_pico: Callable[..., LoadedModel],
    tmp_path: Path,
    model_type: str,
) -> None:
    empty_bench.register(make_pico(model_type))
    base = load_pico(model_type)
    names = {"phi3": FUSED, "mixtral": ATTENTION}.get(model_type)
    folder = make_adapter(base, tmp_path / "adapter", *([names] if names else []))
    id = brought(empty_bench, folder)

    whole, half = (served(base, mixture(empty_bench, f"pico:{id}{at}")) for at in ("", "@0.5"))

    assert same(whole, expected(base, folder))
    assert same(half, expected(base, folder, scale=0.5))
    assert not torch.allclose(whole, served(base, []), atol=1e-2)


SETTINGS = {
    "rank 1": {"r": 1, "lora_alpha": 3},
    "rank-stabilised": {"use_rslora": True, "r": 6},
    "16 bits": {"dtype": torch.bfloat16},
    "patterns": {
        "rank_pattern": {"layers.1.self_attn.q_proj": 2, "down_proj": 7},
        "alpha_pattern": {r"^model\.layers\.0\.mlp\.up_proj": 1, "v_proj": 32.5},
    },
    "one layer": {"layers_to_transform": [1], "layers_pattern": "layers"},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_way_to_scale_a_rank_is_peft_s(
    bench: Bench, pico: LoadedModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = make_adapter(pico, tmp_path / "adapter", **options)

    edits = mixture(bench, f"pico:{brought(bench, folder)}")

    assert same(served(pico, edits), expected(pico, folder))


def test_imports_compose_with_each_other_and_with_edits(
    bench: Bench, body: Callable[..., dict[str, Any]], pico: LoadedModel, tmp_path: Path
) -> None:
    folders = [make_adapter(pico, tmp_path / str(seed), seed=seed) for seed in range(2)]
    one, two = (brought(bench, folder) for folder in folders)
    made, _ = bench.edit(**body())
    edit = mixture(bench, f"pico:{made}")

    both = served(pico, mixture(bench, f"pico:{one}+{two}"))
    with_edit = served(pico, mixture(bench, f"pico:{one}+{made}@-0.5"))

    assert same(both, expected(pico, *folders))
    with SidePath(pico).rows([[(terms, -0.5) for terms, _ in edit]]), torch.no_grad():
        together = expected(pico, folders[0])
    assert same(with_edit, together)


@pytest.mark.parametrize("format", ["native", "peft", "merged"])
def test_an_import_is_exported_again(
    bench: Bench, pico: LoadedModel, tmp_path: Path, format: str
) -> None:
    id = brought(bench, make_adapter(pico, tmp_path / "adapter"))

    outcome = bench.do(bench.submit_export(f"pico:{id}@0.5", format))

    proof = outcome.data["proof"]
    assert isinstance(proof, dict)
    assert proof["passed"] is True
    card = bench.file(outcome, CARD_NAME).decode()
    assert "It has none: the edit was imported, and nothing was measured." in card


def test_fused_modules_are_exported_again(
    empty_bench: Bench,
    make_pico: Callable[..., Path],
    load_pico: Callable[..., LoadedModel],
    tmp_path: Path,
) -> None:
    empty_bench.register(make_pico("phi3"))
    id = brought(empty_bench, make_adapter(load_pico("phi3"), tmp_path / "adapter", FUSED))
    for format in ("peft", "gguf", "merged"):
        proof = empty_bench.do(empty_bench.submit_export(f"pico:{id}", format)).data["proof"]
        assert isinstance(proof, dict)
        assert proof["passed"] is True


def test_a_delta_comes_back_as_it_left(
    bench: Bench, body: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    id, _ = bench.edit(**body())
    exported = bench.do(bench.submit_export(f"pico:{id}", "native"))
    path = tmp_path / "mine.safetensors"
    path.write_bytes(bench.file(exported, "delta.safetensors"))

    place = submit(bench, path)
    outcome = bench.do(place)

    there = load_delta(bench.file(outcome, "delta"))
    assert there.terms_sha256 == load_delta(path.read_bytes()).terms_sha256
    facts = outcome.data["imported"]
    assert isinstance(facts, dict)
    assert facts["kind"] == "native"
    assert facts["made_by"] == "mixture"


def test_an_import_says_what_it_is(bench: Bench, pico: LoadedModel, tmp_path: Path) -> None:
    folder = make_adapter(pico, tmp_path / "adapter", ("q_proj", "down_proj"), r=3)
    configured(folder, base_model_name_or_path="somebody/pico")

    facts = bench.do(submit(bench, *parts(folder))).data["imported"]

    assert isinstance(facts, dict)
    assert facts["modules"] == ["mlp.down_proj", "self_attn.q_proj"]
    assert (facts["layers"], facts["rank"], facts["terms"]) == ([0, 1], 3, 12)
    assert facts["made_for"] == "somebody/pico"
    assert facts["proof"]["loader"] == "peft"
    assert facts["proof"]["max_logit_diff"] <= facts["proof"]["tolerance"]
    assert [file["name"] for file in facts["files"]] == [path.name for path in parts(folder)]


def refused(bench: Bench, *paths: Path) -> str:
    """Why the editor refuses files that look right from outside."""
    with pytest.raises(EditFailed) as caught:
        bench.do(submit(bench, *paths))
    assert caught.value.code == "invalid_import"
    return caught.value.message


def changed(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> list[Path]:
    """The parts of the adapter, whose tensors `change` has changed in place."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return parts(folder)


def test_an_adapter_of_another_model_is_refused(
    bench: Bench, load_pico: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    wide = load_pico(hidden_size=48)
    message = refused(bench, *parts(make_adapter(wide, tmp_path / "wide")))
    assert "made for another base model" in message
    fused = make_adapter(load_pico("phi3"), tmp_path / "fused", FUSED)
    assert "gate_up_proj is no module of this llama model" in refused(bench, *parts(fused))


def test_what_changes_nothing_or_is_not_finite_is_refused(
    bench: Bench, pico: LoadedModel, tmp_path: Path
) -> None:
    def zero(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.zero_()

    def broken(tensors: dict[str, Tensor]) -> None:
        tensors["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"][0, 0] = float("nan")

    first, second = (make_adapter(pico, tmp_path / name) for name in ("zero", "broken"))
    assert "changes nothing" in refused(bench, *changed(first, zero))
    assert "layers.1.mlp.up_proj holds values that are not finite" in refused(
        bench, *changed(second, broken)
    )


def test_an_edit_can_be_fitted_on_top_of_an_import(
    bench: Bench, body: Callable[..., dict[str, Any]], pico: LoadedModel, tmp_path: Path
) -> None:
    id = brought(bench, make_adapter(pico, tmp_path / "adapter", ("v_proj",), lora_alpha=1))

    child, outcome = bench.edit(**body(on_top_of=f"pico:{id}"))

    assert {artifact.name for artifact in outcome.artifacts} >= {"delta", "report"}
    names = [
        ref.edit_id
        for ref in bench.store.variants.resolve("default", f"pico:{id}+{child}", actor=None).terms
    ]
    assert names == [id, child]


def use_hub(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `HF_ENDPOINT` would, which is read once a process."""
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def test_an_adapter_comes_from_the_hub(
    bench: Bench,
    pico: LoadedModel,
    hub: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_hub(hub, monkeypatch)
    hub.folder = make_adapter(pico, tmp_path / "adapter")

    place = submit(bench, source=HubSource(repo=REPO, revision=COMMIT))
    facts = bench.do(place).data["imported"]

    assert isinstance(facts, dict)
    assert facts["kind"] == "peft"
    assert [file["name"] for file in facts["files"]] == [path.name for path in parts(hub.folder)]
    edits = mixture(bench, f"pico:{place.id}")
    assert same(served(pico, edits), expected(pico, hub.folder))


def test_a_repository_without_an_edit_is_refused(
    bench: Bench, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(hub, monkeypatch)
    with pytest.raises(EditFailed, match="neither a delta") as caught:
        bench.do(submit(bench, source=HubSource(repo=REPO, revision=COMMIT)))
    assert caught.value.code == "invalid_import"
