"""What is remembered is what was computed, or is computed anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models_store.objects.store import ObjectStore, open_store
from models_store.settings import Settings
from models_store.weights.architectures import DOWN, MatrixKey
from models_store.weights.safetensors import dump_tensors
from models_store.work.store import SHARED_TENANT
from tests.support.pico import HIDDEN, INTERMEDIATE
from workers.evaluation.effect.generations import Arm, DecodingSettings, generate_arm
from workers.making.cache import Cache
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import make_term

DECODING = DecodingSettings(max_new_tokens=4, seed=3, samples=2)
TENSORS = {"a": torch.tensor([[0.1, -2.5], [1e-30, 7.0]]), "b": torch.arange(3, dtype=torch.int32)}


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
def cache(objects: ObjectStore, pico: LoadedModel) -> Cache:
    return Cache(objects, "default", EditedModel(pico))


def prompts_of(base: LoadedModel) -> list[list[int]]:
    return [list(encode_prompt(base, f"the day {i}", chat=False)) for i in range(3)]


def arm_of(base: LoadedModel) -> Arm:
    return generate_arm(EditedModel(base), prompts_of(base), DECODING)


def only_file(objects: ObjectStore, folder: str) -> str:
    (info,) = objects.files(folder)
    return info.path


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_statistics_come_back_bit_by_bit(cache: Cache) -> None:
    assert cache.tensors("moments", [1]) is None
    cache.save_tensors("moments", [1], TENSORS)
    found = cache.tensors("moments", [1])
    assert found is not None
    assert same(found, TENSORS)
    assert cache.tensors("moments", [2]) is None
    assert cache.tensors("others", [1]) is None


def test_only_what_is_missing_is_made(cache: Cache) -> None:
    asked: list[Sequence[int]] = []

    def make(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        asked.append(missing)
        return {layer: {"x": torch.full((2,), float(layer))} for layer in missing}

    cache.each("layers", {1: 1, 2: 2}, make)
    assert cache.reused == []
    found = cache.each("layers", {1: 1, 2: 2, 3: 3}, make)
    assert asked == [[1, 2], [3]]
    assert {layer: float(tensors["x"][0]) for layer, tensors in found.items()} == {1: 1, 2: 2, 3: 3}
    cache.each("layers", {3: 3}, make)
    assert cache.reused == ["layers"]


def test_filling_makes_what_is_missing_and_reads_nothing(
    cache: Cache, objects: ObjectStore
) -> None:
    asked: list[Sequence[int]] = []

    def make(missing: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        asked.append(missing)
        return dict.fromkeys(missing, TENSORS)

    cache.fill("layers", {1: 1}, make)
    objects.put(only_file(objects, "cache/statistics/_"), b"broken, which nobody notices")
    cache.fill("layers", {1: 1, 2: 2}, make)
    cache.fill("layers", {1: 1, 2: 2}, make)
    assert asked == [[1], [2]]
    assert (cache.made, cache.reused) == (["layers", "layers"], ["layers"])
    assert same(cache.each("layers", {2: 2}, make)[2], TENSORS)


@pytest.mark.parametrize(
    "broken",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: dump_tensors({"a": TENSORS["a"].numpy() + 1}, {"name": "moments"}),
    ],
    ids=["empty", "cut short", "a flipped bit", "other numbers"],
)
def test_a_broken_file_is_made_anew(
    cache: Cache, objects: ObjectStore, broken: Callable[[bytes], bytes]
) -> None:
    cache.save_tensors("moments", [1], TENSORS)
    path = only_file(objects, "cache/statistics/_")
    objects.put(path, broken(objects.read(path)))
    assert cache.tensors("moments", [1]) is None
    cache.save_tensors("moments", [1], TENSORS)
    found = cache.tensors("moments", [1])
    assert found is not None
    assert same(found, TENSORS)


def test_a_file_that_is_whole_is_not_written_again(cache: Cache, objects: ObjectStore) -> None:
    cache.save_tensors("moments", [1], TENSORS)
    cache.save_tensors("moments", [1], {"a": torch.zeros(1)})
    found = cache.tensors("moments", [1])
    assert found is not None
    assert same(found, TENSORS)


def test_generations_come_back_as_they_were_made(cache: Cache, pico: LoadedModel) -> None:
    made = arm_of(pico)
    assert cache.arm(prompts_of(pico), DECODING) is None
    cache.save_arm(made, DECODING)
    assert cache.arm(prompts_of(pico), DECODING) == made
    assert cache.arm(prompts_of(pico), replace(DECODING, seed=4)) is None
    assert cache.arm(prompts_of(pico)[:2], DECODING) is None
    assert cache.reused == ["generations"]


def test_broken_generations_are_made_anew(
    cache: Cache, objects: ObjectStore, pico: LoadedModel
) -> None:
    made = arm_of(pico)
    for spoil in (b"{", b'{"made": []}', b'{"made": [], "sha256": ""}'):
        cache.save_arm(made, DECODING)
        objects.put(only_file(objects, "cache/generations/default"), spoil)
        assert cache.arm(prompts_of(pico), DECODING) is None
    cache.save_arm(made, DECODING)
    assert cache.arm(prompts_of(pico), DECODING) == made


def test_what_is_made_for_everybody_is_found_by_every_tenant(
    cache: Cache, objects: ObjectStore, pico: LoadedModel
) -> None:
    shared = Cache(objects, SHARED_TENANT, EditedModel(pico))
    made = shared.generated(prompts_of(pico), DECODING)
    assert cache.generated(prompts_of(pico), DECODING) == made
    assert (shared.made, cache.reused, cache.made) == (["generations"], ["generations"], [])
    cache.generated(prompts_of(pico)[:2], DECODING)
    assert cache.made == ["generations"]
    assert shared.arm(prompts_of(pico)[:2], DECODING) is None, "a tenant's own prompts stay theirs"


def _with_other_settings(base: LoadedModel, folder: Path) -> LoadedModel:
    """The same weights with another end of text."""
    for file in base.folder.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "generation_config.json").write_text('{"eos_token_id": 3}', encoding="utf-8")
    return replace(base, folder=folder)


def test_another_model_or_tenant_finds_nothing(
    cache: Cache,
    objects: ObjectStore,
    pico: LoadedModel,
    load_pico: Callable[..., LoadedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache.save_tensors("moments", [1], TENSORS)
    cache.save_arm(arm_of(pico), DECODING)
    term = make_term(
        MatrixKey(1, DOWN), torch.ones(INTERMEDIATE), torch.arange(HIDDEN), torch.ones(HIDDEN)
    )
    others = [
        Cache(objects, "default", EditedModel(load_pico(seed=1))),
        Cache(objects, "default", EditedModel(load_pico(load_dtype="bfloat16"))),
        Cache(objects, "default", EditedModel(_with_other_settings(pico, tmp_path))),
        Cache(objects, "default", EditedModel(pico).plus([term])),
        Cache(objects, "default", EditedModel(pico).plus([term], 0.5)),
    ]
    for other in others:
        assert other.tensors("moments", [1]) is None
        assert other.arm(prompts_of(pico), DECODING) is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert Cache(objects, "default", EditedModel(pico)).tensors("moments", [1]) is None
    # Statistics of a base belong to nobody, but what it wrote from a tenant's prompts does.
    elsewhere = Cache(objects, "other", EditedModel(pico))
    assert elsewhere.tensors("moments", [1]) is not None
    assert elsewhere.arm(prompts_of(pico), DECODING) is None


def test_a_store_that_is_away_costs_time_only(
    cache: Cache, objects: ObjectStore, settings: Settings, pico: LoadedModel
) -> None:
    cache.save_tensors("moments", [1], TENSORS)
    shutil.rmtree(Path(settings.data / "store"))
    assert cache.tensors("moments", [1]) is None
    cache.save_tensors("moments", [1], TENSORS)
    cache.save_arm(arm_of(pico), DECODING)
