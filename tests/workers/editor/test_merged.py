"""Exports as complete models: made, proved and loaded by transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_store.errors import EditFailed
from models_store.schemas.records import Variant
from tests.support.edits import random_edit
from tests.support.pico import pico_tokenizer
from tests.workers.conftest import Bench
from workers.editor.formats import merged
from workers.editor.formats.protocol import Files
from workers.editor.jobs.inputs import base_of, mixture_of
from workers.editor.jobs.proof import prove
from workers.editor.jobs.scratch import scratch_folder
from workers.editor.jobs.task import Outcome
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture

Body = Callable[..., dict[str, Any]]
WEIGHTS = "model.safetensors"
PROMPT = "the food was very"


def unpacked(bench: Bench, outcome: Outcome, folder: Path) -> Path:
    """A folder with the files of an export, as somebody has who downloaded them."""
    folder.mkdir()
    for artifact in outcome.artifacts:
        (folder / artifact.name).write_bytes(bench.file(outcome, artifact.name))
    return folder


def continued(folder: Path, dtype: torch.dtype) -> list[int]:
    """What transformers alone generates with the model in a folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt").input_ids
    mask = torch.ones_like(ids)
    made = model.generate(ids, attention_mask=mask, max_new_tokens=24, do_sample=False)
    return [int(token) for token in made[0, ids.shape[1] :]]


def continued_by(base: LoadedModel, mixture: Mixture) -> list[int]:
    """What Scalpel generates with the variant."""
    prompt = base.tokenizer(PROMPT)["input_ids"]
    (made,) = EditedModel(base, mixture).generate([prompt], max_new_tokens=24)
    return list(made.ids)


def shard(folder: Path) -> None:
    """Put the weights of the model in a folder into several files."""
    AutoModelForCausalLM.from_pretrained(folder, dtype="auto").save_pretrained(
        folder, max_shard_size="20KB"
    )
    (folder / WEIGHTS).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("dtype", "shards", "tied"),
    [
        (torch.float32, False, False),
        (torch.bfloat16, True, False),
        (torch.bfloat16, False, True),
    ],
)
def test_a_merged_export_is_a_model_of_its_own(
    empty_bench: Bench,
    body: Body,
    make_pico: Callable[..., Path],
    tmp_path: Path,
    dtype: torch.dtype,
    shards: bool,
    tied: bool,
) -> None:
    bench, name = empty_bench, str(dtype).removeprefix("torch.")
    folder = shutil.copytree(make_pico(dtype=dtype, tie_word_embeddings=tied), tmp_path / "base")
    if shards:
        shard(folder)
    bench.register(folder)
    one, two = (bench.make_up(**body(seed=seed)) for seed in (0, 5))
    place = bench.submit_export(f"pico:{one}@0.5+{two}@-1", "merged")
    outcome = bench.do(place)
    variant = bench.read(place).request.settings.variant
    proof = outcome.data["proof"]
    assert isinstance(proof, dict)
    assert (proof["loader"], proof["dtype"], proof["passed"]) == ("transformers", name, True)
    names = {artifact.name for artifact in outcome.artifacts}
    assert ("model.safetensors.index.json" in names) == shards
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} < names
    mixture = mixture_of(bench.task(place), variant)
    base = base_of(bench.task(place), dtype="float32")
    exported = unpacked(bench, outcome, tmp_path / "exported")
    expected = continued_by(base, mixture)
    assert continued(exported, torch.float32)[: len(expected)] == expected
    # With tied embeddings a pico model repeats the last token, whatever is done to it.
    assert tied or expected != continued_by(base, [])
    assert not list((bench.settings.cache / "exports").glob("*/files"))


def test_edited_experts_are_merged(
    empty_bench: Bench, body: Body, make_pico: Callable[..., Path]
) -> None:
    empty_bench.register(make_pico("mixtral"))
    id = empty_bench.make_up(**body())
    outcome = empty_bench.do(empty_bench.submit_export(f"pico:{id}", "merged"))
    assert outcome.data["proof"]["passed"] is True  # type: ignore[index, call-overload]


def exported(base: LoadedModel, scratch: Path) -> tuple[Mixture, Files]:
    mixture = [(random_edit(base), 1.0)]
    variant = Variant(name="pico", base_model="pico", base_fingerprint=base.fingerprint)
    return mixture, merged.files(base, mixture, variant, scratch)


def reloaded(base: LoadedModel) -> Callable[[str], LoadedModel]:
    return lambda dtype: load_base(base.folder, device="cpu", dtype=dtype)


def undone(folder: Path, base: LoadedModel) -> None:
    shutil.copyfile(base.folder / WEIGHTS, folder / WEIGHTS)


def with_another_head(folder: Path, base: LoadedModel) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].flip(0).contiguous()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def cut_short(folder: Path, base: LoadedModel) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def one_matrix_lost(folder: Path, base: LoadedModel) -> None:
    """A hole of zeros, as after a write that never reached the disk."""
    tensors = load_file(folder / WEIGHTS)
    tensors["model.layers.1.mlp.down_proj.weight"].zero_()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def with_a_broken_tokenizer(folder: Path, base: LoadedModel) -> None:
    (folder / "tokenizer.json").write_text("{}")


def with_another_tokenizer(folder: Path, base: LoadedModel) -> None:
    pico_tokenizer(first_token=True).save_pretrained(folder)


@pytest.mark.parametrize(
    "damage",
    [
        undone,
        with_another_head,
        cut_short,
        one_matrix_lost,
        with_a_broken_tokenizer,
        with_another_tokenizer,
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_damaged_model_is_never_given_out(
    make_pico: Callable[..., Path],
    tmp_path: Path,
    damage: Callable[[Path, LoadedModel], None],
    dtype: torch.dtype,
) -> None:
    base = load_base(make_pico(dtype=dtype), device="cpu", dtype="float32")
    mixture, files = exported(base, tmp_path)
    assert prove(base, mixture, merged.loader(files), reloaded(base)).passed
    damage(tmp_path / "merged", base)
    with pytest.raises(EditFailed) as got:
        prove(base, mixture, merged.loader(files), reloaded(base))
    assert got.value.code == "export_mismatch"


def test_a_merged_model_is_proved_in_16_bits_too(
    make_pico: Callable[..., Path], tmp_path: Path
) -> None:
    """As on a machine that has no room for fp32."""
    base = load_base(make_pico(dtype=torch.bfloat16), device="cpu", dtype="bfloat16")
    mixture, files = exported(base, tmp_path)
    proof = prove(base, mixture, merged.loader(files), reloaded(base))
    assert (proof.dtype, proof.passed) == ("bfloat16", True)


def test_a_full_disk_is_said_to_be_one(pico: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    with pytest.raises(EditFailed, match="SCALPEL_CACHE"):
        exported(pico, tmp_path)


def test_what_a_dead_job_left_goes_with_the_next_one(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first:
        (first / "weights").write_bytes(b"1")
        dead = tmp_path / "exports" / "dead"
        (dead / "files").mkdir(parents=True)
        with scratch_folder(tmp_path) as second:
            assert first.exists()
            assert second.exists()
            assert not dead.exists()
        assert not second.exists()
    assert not first.exists()
