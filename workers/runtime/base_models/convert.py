"""Turn a GGUF file into a Hugging Face folder with plain bfloat16 weights.

transformers reads GGUF itself, but takes 5 to 50 s for it each time; the folder loads in one.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def convert_gguf(gguf: Path, folder: Path, *, digits_apart: bool) -> None:
    """Write config, generation config, tokenizer, chat template and weights of `gguf` to `folder`.

    The blocks are unpacked in float32 and rounded once, to bfloat16.

    Args:
        gguf: the file.
        folder: an existing folder.
        digits_apart: the tokenizer makes each digit a word of its own, as SmolLM's does; the file
            only names that rule, and transformers does not know the name.
    """
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if digits_apart:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    tokenizer.save_pretrained(folder)
