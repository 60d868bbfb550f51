"""What Scalpel writes: llama.cpp reads texts as the tokenizer does, and runs the settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models_store.presets import neutral_texts
from models_store.schemas.catalogue import GEMMA3
from models_store.schemas.items import TextItem
from tests.external.llamacpp.asking import Run, ask, largest_difference
from tests.external.llamacpp.exported import base_in_gguf
from tests.external.llamacpp.families import EXACT, GELU, PROMPTS
from tests.support.pico import pico_model
from tests.support.weights import weights
from workers.runtime.loading import LoadedModel, load_base

pytestmark = [pytest.mark.llamacpp, pytest.mark.timeout(1200)]

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
ODD_TEXTS = (
    "  two  spaces   three\t\ttabs ",
    "\n\nnew\n\n\nlines\r\n",
    "12345 and 3.14, on 2026-11-29",
    "naïve Ünïcode café, 漢字 日本語, Привет мир 1, नमस्ते, مرحبا, ½ Ⅷ",
    "I'm sure you'RE not; we'll, they'D DON'T",
    "def f(x):\n    return x**2  # {c}",
    "🙂👍🏽 \u00a0 a\u200bb",
    "<s>user\nhi</s>\n",
    " ",
)


def odd_and_plain() -> list[str]:
    plain, _ = neutral_texts()
    return [*ODD_TEXTS, *(item.text for item in plain[:40] if isinstance(item, TextItem))]


def split(expression: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RULES: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    ),
    "qwen2": lambda: split(WORDS.replace("DIGITS", "")),
    "dbrx": lambda: split(WORDS.replace("DIGITS", "{1,3}")),
    "llama-bpe": lambda: split(WORDS.replace("DIGITS", "{1,3}")),
}


def byte_level(rule: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=rule == "llama-bpe"))
    tokenizer.pre_tokenizer = RULES[rule]()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(odd_and_plain(), trainer)
    return tokenizer


def pieces(kind: str) -> Tokenizer:
    """As SentencePiece's: `space` puts one before each text, as Llama 2's and Mistral's do."""
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    steps: list[normalizers.Normalizer] = [normalizers.Replace(" ", space)]
    if kind == "space":
        steps.insert(0, normalizers.Prepend(space))
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=[*SPECIAL, *BYTES],
        limit_alphabet=80,
        show_progress=False,
    )
    tokenizer.train_from_iterator(odd_and_plain(), trainer)
    stored = json.loads(tokenizer.to_str())
    stored["added_tokens"] = [one for one in stored["added_tokens"] if one["content"] in SPECIAL]
    stored["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(stored))


def with_tokenizer(folder: Path, backend: Tokenizer, rule: str) -> LoadedModel:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    model = pico_model(vocabulary=len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_base(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("rule", [*RULES, "space", "no_space"])
def test_texts_are_read_as_by_the_tokenizer(tmp_path: Path, rule: str) -> None:
    backend = byte_level(rule) if rule in RULES else pieces(rule)
    base = with_tokenizer(tmp_path / "model", backend, rule)
    texts = odd_and_plain()
    found = ask(tmp_path, [Run(base_in_gguf(base, tmp_path))], [[5]], 1, texts)
    for text, tokens in zip(texts, found.tokens, strict=True):
        assert tokens == base.tokenizer(text)["input_ids"], text


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_texts_are_read_as_by_the_tokenizer_of_a_real_model(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    folder = weights(GEMMA3) if name == "gemma3" else request.getfixturevalue("smollm2_folder")
    base = load_base(folder, device="cpu", dtype="auto")
    texts = odd_and_plain()
    found = ask(tmp_path, [Run(base_in_gguf(base, tmp_path, "f16"))], [[5]], 1, texts)
    for text, tokens in zip(texts, found.tokens, strict=True):
        assert tokens == base.tokenizer(text)["input_ids"], text


LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_IN_FULL = {
    "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", {"rope_parameters": LLAMA_3}),
        ("mistral", {"rope_parameters": LLAMA_3}),
        ("smollm3", {"rope_parameters": YARN, "num_hidden_layers": 5}),
        ("llama", {"rope_parameters": YARN}),
        ("qwen2", {"rope_parameters": YARN}),
        ("qwen3", {"rope_parameters": YARN}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"tie_word_embeddings": True, "head_dim": 16}),
        ("gemma2", {"tie_word_embeddings": True, "sliding_window": 8, "num_hidden_layers": 3}),
        ("gemma3_text", {"rope_parameters": LINEAR_IN_FULL, "num_hidden_layers": 7}),
        ("gemma3_text", {"sliding_window": 8, "num_hidden_layers": 7}),
        ("olmo", {"clip_qkv": 0.5}),
        ("olmo3", {"sliding_window": 8, "num_hidden_layers": 5}),
        ("qwen3", {"num_key_value_heads": 4}),
    ],
)
def test_settings_are_run_as_by_transformers(
    load_pico: Callable[..., LoadedModel],
    tmp_path: Path,
    model_type: str,
    settings: dict[str, Any],
) -> None:
    base = load_pico(model_type, **settings)
    prompts = [base.tokenizer(text * 2)["input_ids"] for text in PROMPTS]
    (answers,) = ask(tmp_path, [Run(base_in_gguf(base, tmp_path))], prompts, 24).answers
    allowed = GELU if model_type.startswith("gemma") else 3 * EXACT
    for prompt, answer in zip(prompts, answers, strict=True):
        largest_difference(base, [], prompt, answer, allowed)
        assert np.isfinite(answer.logits).all()
