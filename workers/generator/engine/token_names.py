"""Single tokens as text and as bytes."""

from __future__ import annotations

import re
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from models_store.schemas.generation import LikelyToken, ScoredToken, TextPiece
from workers.generator.engine.choice import Piece, Scored
from workers.runtime.decoding.sampling import TokenScores

_BYTE_OF = {char: byte for byte, char in bytes_to_unicode().items()}
MOST_TOKENS = 128
"""Of one piece that is sent."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenNames:
    """The text and bytes of a tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a transformers tokenizer with a `tokenizers.Tokenizer` behind it."""
        self._backend = tokenizer.backend_tokenizer
        self._whole = {
            id: added.content for id, added in self._backend.get_added_tokens_decoder().items()
        }
        self._byte_level = "ByteLevel" in str(self._backend.decoder)
        self._known: dict[int, tuple[str, tuple[int, ...]]] = {}

    def bytes(self, id: int) -> bytes:
        """The bytes of a token, which may be part of a character; empty for an unknown id."""
        if id in self._whole:
            return str(self._whole[id]).encode()
        token = self._backend.id_to_token(id)
        if token is None:
            return b""  # the output layer may be padded beyond the vocabulary
        if self._byte_level:
            decoded = [_BYTE_OF.get(char) for char in token]
            return bytes(byte for byte in decoded if byte is not None)
        single = _BYTE_TOKEN.fullmatch(token)
        if single:
            return bytes([int(single[1], 16)])
        return str(token).replace("\u2581", " ").encode()

    def named(self, scores: TokenScores | None, id: int) -> ScoredToken:
        """A token with its scores; None for the first token, which is not predicted."""
        top = scores.top if scores is not None else ()
        text, data = self._text_and_bytes(id)
        return ScoredToken(
            token=text,
            bytes=data,
            logprob=scores.logprob if scores is not None else None,
            top=tuple(self._likely(other, logprob) for other, logprob in top),
        )

    def _likely(self, id: int, logprob: float) -> LikelyToken:
        text, data = self._text_and_bytes(id)
        return LikelyToken(token=text, bytes=data, logprob=logprob)

    def _text_and_bytes(self, id: int) -> tuple[str, tuple[int, ...]]:
        if id not in self._known:
            data = self.bytes(id)
            self._known[id] = data.decode(errors="replace"), tuple(data)
        return self._known[id]


class PieceNames:
    """Names the tokens of pieces; those of an echo once for all choices of a prompt."""

    def __init__(self, tokenizer: Any, choices: int) -> None:
        """Args:
        choices: of each prompt.
        """
        self._names = TokenNames(tokenizer)
        self._choices = choices
        self._echoes: dict[int, tuple[ScoredToken, ...]] = {}

    def pieces(self, piece: Piece) -> list[TextPiece]:
        """A long echo in several, since nothing else is done while one of them is parsed."""
        tokens = self._named(piece.scored)
        if piece.prompt:
            prompt = piece.index // self._choices
            if prompt not in self._echoes:
                self._echoes[prompt] = self._named(piece.prompt)
            tokens = self._echoes[prompt] + tokens
        parts = [tokens[at : at + MOST_TOKENS] for at in range(0, len(tokens), MOST_TOKENS)]
        return [
            TextPiece(index=piece.index, text="" if number else piece.text, tokens=part)
            for number, part in enumerate(parts)
        ]

    def _named(self, scored: tuple[Scored, ...]) -> tuple[ScoredToken, ...]:
        return tuple(self._names.named(scores, id) for scores, id in scored)
