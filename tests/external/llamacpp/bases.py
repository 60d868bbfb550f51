"""A base model as a GGUF file in fp32, as llama.cpp's own `convert_hf_to_gguf.py` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from torch import Tensor

from models_store.weights.gguf import ARCHITECTURES
from workers.runtime.loading import LoadedModel

# Their rotation pairs neighbours in llama.cpp, and halves in transformers.
_INTERLEAVED = ("llama", "mistral", "mixtral", "smollm3", "olmo")


def write_base(base: LoadedModel, path: Path) -> Path:
    """Write the model to `path`."""
    model_type = base.architecture.model_type
    arch = ARCHITECTURES[model_type]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    _add_sizes(writer, base.model.config)
    _add_rotation(writer, base.model.config)
    _add_tokens(writer, base)
    names = gguf.get_tensor_name_map(arch, base.layers)
    for name, weight in base.model.named_parameters():
        called = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert called is not None, name
        stored = as_stored(model_type, called, weight.data.float(), base.model.config)
        writer.add_tensor(called, stored.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "olmo":
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _add_rotation(writer: gguf.GGUFWriter, config: Any) -> None:
    """Of queries and keys, and which layers attend to a window alone."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    settings = config.rope_parameters
    writer.add_rope_freq_base(settings.get("full_attention", settings)["rope_theta"])
    if "sliding_attention" in settings:
        writer.add_rope_freq_base_swa(settings["sliding_attention"]["rope_theta"])
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        writer.add_sliding_window(config.sliding_window)


def _add_tokens(writer: gguf.GGUFWriter, base: LoadedModel) -> None:
    """A byte-level BPE; the tests give token ids, but llama.cpp loads no model without one."""
    vocabulary = base.tokenizer.get_vocab()
    special = set(base.tokenizer.all_special_tokens)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(base.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges([" ".join(pair) for pair in merges])


def as_stored(model_type: str, name: str, weight: Tensor, config: Any) -> Tensor:
    """A weight as llama.cpp has it."""
    if model_type.startswith("gemma") and name.endswith("norm.weight"):
        return weight + 1
    heads = {
        "attn_q.weight": config.num_attention_heads,
        "attn_k.weight": config.num_key_value_heads,
    }.get(name.split(".", 2)[-1])
    if heads is None or model_type not in _INTERLEAVED:
        return weight
    halves = weight.reshape(heads, 2, -1, weight.shape[-1])
    return halves.transpose(1, 2).reshape(weight.shape)
