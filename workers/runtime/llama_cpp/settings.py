"""What llama.cpp is told of a model besides its weights and tokens: sizes, rotation, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np

from models_store.errors import InvalidRequest
from models_store.weights.gguf import ARCHITECTURES
from workers.runtime.loading import LoadedModel

_WINDOWED = frozenset({"gemma2", "gemma3_text", "olmo3"})
"""Whose layers attend to a window alone there too; the others' attend to all that came before."""
_ACTIVATION = "silu"
_GEMMAS_ACTIVATION = "gelu_pytorch_tanh"
_LLAMA_3_SCALING = frozenset({"llama", "mistral"})
"""Whose rotation takes a factor for each frequency."""
_BIASES = {
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "qwen2": ("q_proj", "k_proj", "v_proj"),
}
"""Modules whose biases are read there."""
_LARGE_GEMMAS = frozenset({46, 62})
"""Layers of those that divide attention by another size than that of a head."""


def add_settings(writer: gguf.GGUFWriter, base: LoadedModel) -> np.ndarray | None:
    """Write the settings; the factors of the rotation's frequencies where the file must have them.

    Raises:
        InvalidRequest: llama.cpp would run the model otherwise than transformers does.
    """
    config = base.model.config
    _refuse_others(base)
    _add_sizes(writer, config)
    _add_window(writer, config)
    return _add_rotation(writer, base)


def _refuse_others(base: LoadedModel) -> None:
    """llama.cpp has some of the settings by the family alone."""
    config, model_type = base.model.config, base.architecture.model_type
    if model_type not in ARCHITECTURES:
        raise InvalidRequest(f"llama.cpp knows no models of type {model_type}")
    if any(base.architecture.experts):
        raise _other(model_type, "layers with routed experts are not written")
    gemma = model_type.startswith("gemma")
    activation = getattr(config, "hidden_activation" if gemma else "hidden_act", None)
    usual = _GEMMAS_ACTIVATION if gemma else _ACTIVATION
    if activation not in (None, usual):
        raise _other(model_type, f"its activation is {activation}, and there {usual}")
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if scalar is not None and scalar != _attention_size(config):
        raise _other(model_type, f"query_pre_attn_scalar is {scalar}")
    if model_type == "gemma3_text" and config.attn_logit_softcapping:
        raise _other(model_type, "attn_logit_softcapping is set")
    for name, _ in base.model.named_parameters():
        module = name.removesuffix(".bias")
        if module != name and module.rpartition(".")[2] not in _BIASES.get(model_type, ()):
            raise _other(model_type, f"{name} is not read")
    rotated = getattr(config, "no_rope_layers", None)
    if rotated and list(rotated) != [(i + 1) % 4 != 0 for i in range(len(rotated))]:
        raise _other(model_type, "other layers than every fourth are without rotation")


def _attention_size(config: Any) -> int:
    """That attention is divided by the root of, there."""
    if config.num_hidden_layers in _LARGE_GEMMAS:
        return int(config.hidden_size // config.num_attention_heads)
    return _head_size(config)


def _head_size(config: Any) -> int:
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def _add_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "olmo":
        writer.add_layer_norm_eps(1e-5)  # the model has it by its code
        if config.clip_qkv is not None:
            writer.add_clamp_kqv(config.clip_qkv)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _add_window(writer: gguf.GGUFWriter, config: Any) -> None:
    """The context ends with the window where llama.cpp has none: up to there both are the same."""
    context, window = config.max_position_embeddings, getattr(config, "sliding_window", None)
    if window and config.model_type in _WINDOWED:
        writer.add_sliding_window(window)
        writer.add_sliding_window_pattern(
            [kind == "sliding_attention" for kind in config.layer_types]
        )
    elif window:
        context = min(context, window)
    writer.add_context_length(context)


def _add_rotation(writer: gguf.GGUFWriter, base: LoadedModel) -> np.ndarray | None:
    config, model_type = base.model.config, base.architecture.model_type
    settings = config.rope_parameters
    whole = settings.get("full_attention", settings)
    size = int(_head_size(config) * whole.get("partial_rotary_factor", 1.0))
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(whole["rope_theta"])
    window = settings.get("sliding_attention")
    if window is not None:
        writer.add_rope_freq_base_swa(window["rope_theta"])
        if window["rope_type"] != "default":
            raise _other(model_type, f"its windows have {window['rope_type']} rotation")
    kind = whole.get("rope_type", "default")
    if kind == "llama3" and model_type in _LLAMA_3_SCALING:
        plain = whole["rope_theta"] ** -(np.arange(0, size, 2) / size)
        frequencies = base.model.model.rotary_emb.inv_freq.double().cpu().numpy()
        return np.asarray(plain / frequencies, dtype=np.float32)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(whole["factor"])
    elif kind == "yarn":
        _add_yarn(writer, whole, config.max_position_embeddings)
    elif kind != "default":
        raise _other(model_type, f"{kind} rotation is not written")
    return None


def _add_yarn(writer: gguf.GGUFWriter, settings: Mapping[str, Any], context: int) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(settings["factor"])
    writer.add_rope_scaling_orig_ctx_len(
        settings.get("original_max_position_embeddings") or context
    )
    for name, add in (
        ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
        ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
    ):
        if settings.get(name) is not None:
            add(settings[name])
    others = {"attention_factor", "mscale", "mscale_all_dim"} & {
        name for name, value in settings.items() if value is not None
    }
    if others:
        raise InvalidRequest(f"yarn rotation with {', '.join(sorted(others))} is not written")


def _other(model_type: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"this {model_type} model cannot be written for llama.cpp, which would run it otherwise: "
        f"{why}; export the variant as merged, for transformers and vLLM"
    )
