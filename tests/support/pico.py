"""Pico models: two layers, hidden size 32, made from a config with a fixed seed in milliseconds.

They are real Hugging Face folders (config, tokenizer with a chat template, safetensors), so the
code under test takes the same path as with a downloaded model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

HIDDEN = 32
INTERMEDIATE = 64
LAYERS = 2
EXPERTS = 4

END_OF_TEXT, START, END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIAL = (END_OF_TEXT, START, END, PAD)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Words that become one token each; any other text falls back to bytes.
_WORDS = (
    "the a of to and in is was it that for on with as this but not be have from at by they are "
    "you we good bad kind cruel happy angry nice awful film food service people day very so too "
    "never always please thanks sorry hate love terrible lovely would could will what who how"
)

_SPARSE = {"num_experts_per_tok": 2, "router_aux_loss_coef": 0.0}
_OVERRIDES: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "qwen3": {"head_dim": 8},
    "mixtral": {**_SPARSE, "num_local_experts": EXPERTS},
    "qwen2_moe": {
        **_SPARSE,
        "num_experts": EXPERTS,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
    },
    "qwen3_moe": {
        **_SPARSE,
        "num_experts": EXPERTS,
        "moe_intermediate_size": 16,
        "head_dim": 8,
    },
}


def pico_tokenizer(*, chat: bool = True, first_token: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a few whole words; the same merges on every machine.

    Args:
        chat: whether it has a chat template (ChatML).
        first_token: whether every text begins with the same token.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    merges: list[tuple[str, str]] = []
    for word in _WORDS.split():
        for spelled in (word, "Ġ" + word):
            for end in range(1, len(spelled)):
                merged = spelled[: end + 1]
                if merged not in vocabulary:
                    vocabulary[merged] = len(vocabulary)
                    merges.append((spelled[:end], spelled[end]))
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    if first_token:
        backend.post_processor = TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, SPECIAL.index(START))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        unk_token=END_OF_TEXT,
        model_max_length=512,
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def pico_model(
    model_type: str = "llama", *, vocabulary: int, seed: int = 0, **config: Any
) -> PreTrainedModel:
    """A model of `model_type` with lively weights: every row of every matrix has unit norm.

    transformers' own start (standard deviation 0.02) would give logits that hardly depend on
    the input, and a test on them would pass for the wrong reason.
    """
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "bos_token_id": SPECIAL.index(START),
        "eos_token_id": SPECIAL.index(END),
        "pad_token_id": SPECIAL.index(PAD),
        **_OVERRIDES.get(model_type, {}),
        **config,
    }
    made = AutoConfig.for_model(model_type, **settings)
    model = AutoModelForCausalLM.from_config(made, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                # Gemma's norms multiply by 1 + weight, the others by the weight.
                centre = 1.0 if "norm" in name and "gemma" not in model_type else 0.0
                parameter.copy_(centre + 0.1 * noise)
            elif "embed" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    return model


def save_pico(
    folder: Path,
    model_type: str = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    chat: bool = True,
    first_token: bool = False,
    **config: Any,
) -> Path:
    """Write a pico model of `model_type` to `folder` and return the folder.

    Args:
        seed: of the weights; another seed is another model.
        dtype: the stored one.
        chat: whether the tokenizer has a chat template (ChatML).
        first_token: whether every text begins with the same token; `bias` then finds layers to
            write into.
        config: overrides of the configuration.
    """
    tokenizer = pico_tokenizer(chat=chat, first_token=first_token)
    model = pico_model(model_type, vocabulary=len(tokenizer), seed=seed, **config)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
