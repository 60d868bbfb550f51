"""What is taken for a base model, what is refused and why, and what pins it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from models_store.errors import BaseModelUnavailable, InvalidRequest, ScalpelError
from models_store.schemas.catalogue import SMOLLM2, FolderSource
from models_store.settings import Settings
from models_store.weights.architectures import ARCHITECTURES
from tests.support.pico import LAYERS, save_pico
from workers.runtime.base_models import check, fingerprint, is_here, materialise
from workers.runtime.base_models.hashing import digest_of
from workers.runtime.base_models.weights import StoredTensor

WEIGHTS = "model.safetensors"


@pytest.fixture
def pico(tmp_path: Path) -> Path:
    return save_pico(tmp_path / "pico")


def _rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors of a folder's single file; `None` takes one away."""
    tensors = load_file(folder / WEIGHTS)
    for name, tensor in changes.items():
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _shard(folder: Path, shards: int = 2) -> None:
    """Cut a folder's single file into several with an index."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    where = {name: f"model-{i % shards:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(where.values()):
        part = {name: tensor for name, tensor in tensors.items() if where[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": where}))


def _edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# What passes


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_supported_family_passes(tmp_path: Path, model_type: str) -> None:
    checked = check(save_pico(tmp_path, model_type, dtype=torch.bfloat16), values=True)
    assert checked.model_type == model_type
    assert checked.layers == LAYERS
    assert checked.dtypes == ("BF16",)
    assert checked.weight_bytes == 2 * checked.parameters > 0
    assert checked.chat


def test_a_sharded_folder_passes(pico: Path) -> None:
    whole = check(pico)
    _shard(pico)
    assert check(pico) == whole


def test_a_model_without_a_chat_template_is_seen_as_such(tmp_path: Path) -> None:
    assert not check(save_pico(tmp_path, chat=False)).chat


def test_a_chat_template_inside_the_tokenizer_settings_is_seen(tmp_path: Path) -> None:
    folder = save_pico(tmp_path, chat=False)
    _edit_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    assert check(folder).chat


def test_a_folder_is_used_where_it_lies(pico: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in pico.iterdir())
    assert materialise(FolderSource(path=pico), tmp_path / "cache") == pico
    assert fingerprint(pico, tmp_path / "cache")
    assert sorted(path.name for path in pico.iterdir()) == before


def test_a_folder_is_here_if_it_is_there(pico: Path, tmp_path: Path) -> None:
    assert is_here(FolderSource(path=pico), tmp_path)
    assert not is_here(FolderSource(path=tmp_path / "absent"), tmp_path)


@pytest.mark.smollm2
def test_a_package_is_here_once_it_is_converted(smollm2_folder: Path, tmp_path: Path) -> None:
    assert is_here(SMOLLM2.source, smollm2_folder.parents[1])
    assert not is_here(SMOLLM2.source, tmp_path)


def test_a_link_to_a_folder_is_followed(pico: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(pico)
    assert materialise(FolderSource(path=link), tmp_path / "cache") == pico


def test_a_folder_must_lie_where_base_models_may_lie(pico: Path, tmp_path: Path) -> None:
    shelf, cache = tmp_path / "shelf", tmp_path / "cache"
    shelf.mkdir()
    link = shelf / "link"
    link.symlink_to(pico)
    allowed = Settings(base_model_folders=f"{shelf}:{pico.parent}").allowed_folders
    assert materialise(FolderSource(path=pico), cache, allowed) == pico
    for path in (pico, link, shelf / ".." / pico.name, tmp_path / "shelf2", Path("/absent")):
        with pytest.raises(InvalidRequest, match="in none of the folders"):
            materialise(FolderSource(path=path), cache, [shelf])
    with pytest.raises(ValidationError, match="absolute"):
        Settings(base_model_folders="relative")


def test_links_within_the_folder_are_fine(pico: Path, tmp_path: Path) -> None:
    (pico / WEIGHTS).rename(pico / "weights.safetensors")
    (pico / WEIGHTS).symlink_to("weights.safetensors")
    assert check(materialise(FolderSource(path=pico), tmp_path / "cache")).layers == LAYERS


def test_neither_torch_nor_transformers_is_loaded_to_find_a_folder(pico: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from models_store.schemas.catalogue import FolderSource\n"
        "from workers.runtime.base_models import check, fingerprint, materialise\n"
        f"folder = materialise(FolderSource(path=Path({str(pico)!r})), Path('/nowhere'))\n"
        "check(folder); fingerprint(folder)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


# What does not


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(BaseModelUnavailable, match=r"absent is not a folder on this machine"):
        materialise(FolderSource(path=absent), tmp_path)
    with pytest.raises(BaseModelUnavailable, match=r"absent is not a folder on this machine"):
        check(absent)


def test_a_link_out_of_the_folder_is_refused(pico: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.safetensors"
    (pico / WEIGHTS).rename(elsewhere)
    (pico / WEIGHTS).symlink_to(elsewhere)
    with pytest.raises(InvalidRequest, match=r"model\.safetensors is a link out of its folder"):
        materialise(FolderSource(path=pico), tmp_path / "cache")
    with pytest.raises(InvalidRequest, match="cp -rL"):
        check(pico)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_code_is_refused(pico: Path, name: str) -> None:
    _edit_json(pico / name, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    with pytest.raises(InvalidRequest, match=rf"{name} needs code that comes with the model"):
        check(pico)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth"])
def test_pickles_alone_are_refused(pico: Path, name: str) -> None:
    (pico / WEIGHTS).rename(pico / name)
    with pytest.raises(InvalidRequest, match="pickled weights only"):
        check(pico)


def test_pickles_beside_safetensors_are_not_looked_at(pico: Path) -> None:
    before = fingerprint(pico)
    (pico / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    check(pico)
    assert fingerprint(pico) == before


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "merges.txt", "additional_chat_templates/tool.jinja"],
)
def test_a_file_too_large_to_read_whole_is_refused_unread(pico: Path, name: str) -> None:
    (pico / name).parent.mkdir(exist_ok=True)
    with (pico / name).open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(BaseModelUnavailable, match=f"{name} has more than [0-9]+ bytes"):
        check(pico)


def test_an_unsupported_architecture_is_named_with_the_supported_ones(pico: Path) -> None:
    _edit_json(pico / "config.json", model_type="gpt2")
    with pytest.raises(InvalidRequest, match=r"'gpt2' are not supported; .*llama, mistral"):
        check(pico)


def test_quantized_weights_are_refused(pico: Path) -> None:
    _edit_json(pico / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(InvalidRequest, match="quantized weights"):
        check(pico)


def test_whole_numbers_for_weights_are_refused(pico: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    _rewrite(pico, **{name: torch.zeros(4, 4, dtype=torch.int8)})
    with pytest.raises(InvalidRequest, match=r"down_proj\.weight .* dtype I8"):
        check(pico)


def test_a_folder_without_weights_says_what_was_expected(pico: Path) -> None:
    (pico / WEIGHTS).unlink()
    with pytest.raises(BaseModelUnavailable, match=r"neither model\.safetensors nor"):
        check(pico)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_cut_file_is_named(pico: Path, size: int) -> None:
    path = pico / WEIGHTS
    os.truncate(path, size if size >= 0 else path.stat().st_size - 1)
    for look in (check, fingerprint):
        with pytest.raises(BaseModelUnavailable, match=r"model\.safetensors is no whole safetens"):
            look(pico)


def test_bytes_after_the_end_are_refused(pico: Path) -> None:
    with (pico / WEIGHTS).open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(BaseModelUnavailable, match="no whole safetensors file"):
        check(pico)


def test_a_header_that_is_no_json_is_refused(pico: Path) -> None:
    data = (pico / WEIGHTS).read_bytes()
    (pico / WEIGHTS).write_bytes(data[:8] + b"x" + data[9:])
    with pytest.raises(BaseModelUnavailable, match="no whole safetensors file"):
        check(pico)


def test_a_header_longer_than_the_file_is_refused(pico: Path) -> None:
    (pico / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(BaseModelUnavailable, match="no whole safetensors file"):
        check(pico)


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
    ],
)
def test_a_missing_tensor_is_named(pico: Path, name: str) -> None:
    _rewrite(pico, **{name: None})
    with pytest.raises(BaseModelUnavailable, match=rf"lack {name} and 0 other tensors"):
        check(pico)


def test_a_tensor_that_the_index_promises_must_be_there(pico: Path) -> None:
    _shard(pico)
    index = pico / f"{WEIGHTS}.index.json"
    where = json.loads(index.read_text())["weight_map"]
    where["model.extra.weight"] = "model-00000.safetensors"
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(BaseModelUnavailable, match=r"lacks model\.extra\.weight"):
        check(pico)


def test_a_shard_that_the_index_names_must_be_there(pico: Path) -> None:
    _shard(pico)
    (pico / "model-00001.safetensors").unlink()
    with pytest.raises(BaseModelUnavailable, match=r"names model-00001\.safetensors, which is not"):
        check(pico)


def test_an_index_cannot_name_files_elsewhere(pico: Path) -> None:
    (pico / WEIGHTS).rename(pico.parent / WEIGHTS)
    (pico / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"weight_map": {"model.norm.weight": f"../{WEIGHTS}"}})
    )
    with pytest.raises(InvalidRequest, match="not in the folder"):
        check(pico)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}'])
def test_a_broken_index_is_refused(pico: Path, text: str) -> None:
    (pico / WEIGHTS).unlink()
    (pico / f"{WEIGHTS}.index.json").write_text(text)
    with pytest.raises(BaseModelUnavailable, match=r"index\.json"):
        check(pico)


def test_one_tensor_in_two_shards_is_refused(pico: Path) -> None:
    _shard(pico)
    tensors = load_file(pico / "model-00000.safetensors")
    tensors.update(load_file(pico / "model-00001.safetensors"))
    save_file(tensors, pico / "model-00001.safetensors")
    with pytest.raises(BaseModelUnavailable, match="is in both model-00000"):
        check(pico)


@pytest.mark.parametrize("text", [None, "{", "[1]", "\ud800"])
def test_a_missing_or_broken_config_is_named(pico: Path, text: str | None) -> None:
    path = pico / "config.json"
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BaseModelUnavailable, match=r"config\.json"):
        check(pico)


def test_a_missing_tokenizer_is_told(pico: Path) -> None:
    (pico / "tokenizer.json").unlink()
    with pytest.raises(BaseModelUnavailable, match="has no tokenizer: expected tokenizer"):
        check(pico)


def test_a_broken_tokenizer_is_told(pico: Path) -> None:
    (pico / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(BaseModelUnavailable, match=r"tokenizer\.json is no tokenizer"):
        check(pico)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_found_on_request(pico: Path, value: float) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    weight = load_file(pico / WEIGHTS)[name]
    weight[3, 5] = value
    _rewrite(pico, **{name: weight})
    check(pico)
    with pytest.raises(BaseModelUnavailable, match=rf"{name} .* NaN or infinite"):
        check(pico, values=True)


def test_every_refusal_is_one_of_scalpels_errors(pico: Path) -> None:
    """Whatever single file is emptied, the answer is a message and no traceback."""
    for path in sorted(set(pico.iterdir()) - {pico / "chat_template.jinja"}):
        content = path.read_bytes()
        path.write_bytes(b"")
        with pytest.raises(ScalpelError, match=path.name):
            check(pico)
        path.write_bytes(content)
    assert check(pico).layers == LAYERS


# The fingerprint


def test_the_same_weights_have_the_same_fingerprint_in_one_file_or_many(pico: Path) -> None:
    whole = fingerprint(pico)
    assert whole.startswith("sha256:")
    assert len(whole) == len("sha256:") + 64
    _shard(pico, 3)
    assert fingerprint(pico) == whole


def test_metadata_and_other_files_do_not_matter(pico: Path) -> None:
    before = fingerprint(pico)
    save_file(load_file(pico / WEIGHTS), pico / WEIGHTS, {"note": "another header"})
    (pico / "consolidated.safetensors").write_bytes(b"second copy")
    assert fingerprint(pico) == before


def test_one_bit_a_name_a_shape_or_a_dtype_changes_the_fingerprint(pico: Path) -> None:
    name = "model.norm.weight"
    weight = load_file(pico / WEIGHTS)[name]
    seen = {fingerprint(pico)}
    bits = weight.clone().view(torch.int32)
    bits[7] ^= 1
    _rewrite(pico, **{name: bits.view(torch.float32)})
    seen.add(fingerprint(pico))
    _rewrite(pico, **{name: weight.reshape(2, -1)})
    seen.add(fingerprint(pico))
    _rewrite(pico, **{name: weight.view(torch.int32)})
    seen.add(fingerprint(pico))
    _rewrite(pico, **{name: None, "model.mron.weight": weight})
    seen.add(fingerprint(pico))
    assert len(seen) == 5


def test_the_fingerprint_is_pinned(tmp_path: Path) -> None:
    """Recorded edits name fingerprints: another way to compute them would orphan them all."""
    (tmp_path / "a").mkdir()
    tensors = {"b": torch.arange(3, dtype=torch.float32), "a": torch.ones(2, 2).bfloat16()}
    save_file(tensors, tmp_path / "a" / WEIGHTS)
    assert fingerprint(tmp_path / "a") == (
        "sha256:d37ce36eef39b9c66aca637f75d41854d5f017dc4c16547903f761742f7ceaec"
    )


@dataclass
class Counted:
    """The digest of weights, and how many times they were read."""

    reads: int = 0

    def __call__(self, tensors: dict[str, StoredTensor]) -> str:
        self.reads += 1
        return digest_of(tensors)


def test_a_remembered_fingerprint_is_not_computed_again(pico: Path, tmp_path: Path) -> None:
    cache, digest = tmp_path / "cache", Counted()
    first = fingerprint(pico, cache, digest=digest)
    assert fingerprint(pico, cache, digest=digest) == first
    assert digest.reads == 1


def test_a_touched_file_is_read_again_even_with_its_old_time(pico: Path, tmp_path: Path) -> None:
    cache, digest = tmp_path / "cache", Counted()
    first = fingerprint(pico, cache, digest=digest)
    status = (pico / WEIGHTS).stat()
    with (pico / WEIGHTS).open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        (last,) = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))
    os.utime(pico / WEIGHTS, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(pico, cache, digest=digest) != first
    assert digest.reads == 2


def test_a_spoilt_note_is_made_again(pico: Path, tmp_path: Path) -> None:
    cache, digest = tmp_path / "cache", Counted()
    first = fingerprint(pico, cache, digest=digest)
    (note,) = (cache / "fingerprints").iterdir()
    note.write_text('{"fingerprint": "sha256:0"}')
    assert fingerprint(pico, cache, digest=digest) == first
    assert fingerprint(pico, cache, digest=digest) == first
    assert digest.reads == 2


def test_a_cache_that_cannot_be_written_only_costs_time(pico: Path, tmp_path: Path) -> None:
    cache, digest = tmp_path / "cache", Counted()
    cache.write_text("a file where a folder should be")
    assert fingerprint(pico, cache, digest=digest) == fingerprint(pico, cache, digest=digest)
    assert digest.reads == 2
