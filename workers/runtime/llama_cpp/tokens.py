"""The tokenizer of a model as llama.cpp has it.

llama.cpp knows two kinds: byte-level BPE, whose rule for words it has by name, and BPE over the
pieces of SentencePiece, which it merges by scores. Both are read off the tokenizer itself; one with
another rule is refused, for it would be a model that reads other tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gguf

from models_store.errors import InvalidRequest
from workers.runtime.loading import LoadedModel

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_THREE_DIGITS = rf"{_CONTRACTIONS}\p{{N}}{{1,3}}{_REST}"
_ONE_DIGIT = rf"{_CONTRACTIONS}\p{{N}}{_REST}"
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NO_SCORE = -1e6
"""Of pieces that no merge makes."""


def add_tokens(writer: gguf.GGUFWriter, base: LoadedModel) -> None:
    """Write tokens, merges or scores, special tokens and the chat template.

    Raises:
        InvalidRequest: llama.cpp has no such tokenizer.
    """
    stored = json.loads(base.tokenizer.backend_tokenizer.to_str())
    if stored["model"]["type"] != "BPE":
        raise _unknown(f"its tokenizer is {stored['model']['type']}, not BPE")
    pieces = bool(stored["model"].get("byte_fallback"))
    tokens = token_list(base)
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else _words_rule(stored))
    writer.add_token_list(tokens)
    writer.add_token_types(_types(tokens, stored, pieces))
    merges = [_pair(merge) for merge in stored["model"]["merges"]]
    if pieces:
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_begins_with_space(stored))
    else:
        writer.add_token_merges([" ".join(pair) for pair in merges])
        writer.add_add_space_prefix(False)
    _add_special(writer, base)


def token_list(base: LoadedModel) -> list[str]:
    """Every token by its id; the model may have more embeddings than there are tokens.

    Raises:
        InvalidRequest: it has fewer.
    """
    vocabulary = base.tokenizer.get_vocab()
    if max(vocabulary.values()) >= base.vocabulary:
        raise _unknown(f"it has tokens beyond the model's {base.vocabulary} embeddings")
    tokens = [f"[PAD{id}]" for id in range(base.vocabulary)]
    for token, id in vocabulary.items():
        tokens[id] = token
    return tokens


def _words_rule(stored: Mapping[str, Any]) -> str:
    """llama.cpp's name of how a byte-level BPE takes text apart before it merges."""
    if (stored["normalizer"] or {}).get("type") not in (None, "NFC"):
        raise _unknown(f"its normalizer is {stored['normalizer']}")
    steps = _steps(stored["pre_tokenizer"], "pretokenizers")
    match [_rule(step) for step in steps]:
        case ["words"]:
            return "gpt-2"
        case ["digits", "words"]:
            return "smollm"
        case [pattern, "bytes"] if pattern == _ONE_DIGIT:
            return "qwen2"
        case [pattern, "bytes"] if pattern == _THREE_DIGITS:
            return "llama-bpe" if stored["model"].get("ignore_merges") else "dbrx"
    raise _unknown(f"its rule for words is none of theirs that is known here: {json.dumps(steps)}")


def _rule(step: Mapping[str, Any]) -> str | None:
    """A name, or the expression that takes texts apart."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return "words" if step.get("use_regex", True) else "bytes"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "Split", "pattern": {"Regex": str(expression)}, "invert": bool(invert)}:
            # What matches is kept; these expressions match every character.
            kept = (step["behavior"], invert) in (("Isolated", False), ("Removed", True))
            return expression if kept else None
    return None


def _begins_with_space(stored: Mapping[str, Any]) -> bool:
    """Whether a text is read as with a space before it; refuses other rules for spaces."""
    steps = [
        *_steps(stored["normalizer"], "normalizers"),
        *_steps(stored["pre_tokenizer"], "pretokenizers"),
    ]
    before = False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": " "}, "content": content}:
                known = content == _SPACE
            case {"type": "Prepend", "prepend": prepended}:
                known = before = prepended == _SPACE
            case {"type": "Metaspace", "replacement": content}:
                known = content == _SPACE and not step.get("split", True)
                before = step.get("prepend_scheme", "always") != "never"
            case {"type": "Split", "pattern": {"String": " "}}:
                known = True  # they were replaced before
            case _:
                known = False
        if not known:
            raise _unknown(f"its rule for spaces is none of theirs: {json.dumps(step)}")
    return before


def _steps(step: Mapping[str, Any] | None, inner: str) -> Sequence[Mapping[str, Any]]:
    if step is None:
        return ()
    return step[inner] if step["type"] == "Sequence" else (step,)


def _types(tokens: Sequence[str], stored: Mapping[str, Any], pieces: bool) -> list[int]:
    added = {one["content"]: one["special"] for one in stored["added_tokens"]}
    known = set(stored["model"]["vocab"])
    unknown = stored["model"].get("unk_token") if pieces else None

    def kind(token: str) -> gguf.TokenType:
        if token == unknown:
            return gguf.TokenType.UNKNOWN
        if token in added:
            return gguf.TokenType.CONTROL if added[token] else gguf.TokenType.USER_DEFINED
        if pieces and _BYTE.fullmatch(token):
            return gguf.TokenType.BYTE
        return gguf.TokenType.NORMAL if token in known else gguf.TokenType.UNUSED

    return [kind(token) for token in tokens]


def _scores(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> list[float]:
    """Higher ones are merged first: a token has the place of its first merge, negated."""
    first: dict[str, int] = {}
    for left, right in merges:
        first.setdefault(left + right, len(first))
    return [-float(first[token]) if token in first else _NO_SCORE for token in tokens]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _add_special(writer: gguf.GGUFWriter, base: LoadedModel) -> None:
    tokenizer = base.tokenizer
    empty = tokenizer("")["input_ids"]
    writer.add_add_bos_token(bool(empty) and empty[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(bool(empty) and empty[-1] == tokenizer.eos_token_id)
    others = sorted(base.stop_ids - {tokenizer.eos_token_id})
    for id, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (next(iter(others), None), writer.add_eot_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if id is not None:
            add(id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _unknown(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"the base model's tokenizer cannot be written for llama.cpp: {why}; export the variant as "
        "gguf, an adapter for the base model as llama.cpp's own convert_hf_to_gguf.py makes it"
    )
