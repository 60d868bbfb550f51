"""Who reads generated text to judge its fluency: another base model, or the edited one's own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from models_store.errors import BaseModelUnavailable
from models_store.schemas.items import CompletionItem
from workers.evaluation.statistics import Floats
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import negative_log_likelihood
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode

_MAX_TOKENS = 512
"""Of one continuation."""
_MAX_PROMPT = 10_000
"""Characters of a prompt, its last ones; of its tokens even fewer are read."""
_HALF_CHARACTER = "\ufffd"


@dataclass(frozen=True, eq=False)
class OtherModel:
    """A base model that is loaded when it is needed."""

    name: str
    load: Callable[[], LoadedModel]
    """Raises `BaseModelUnavailable`."""


class FluencyReader:
    """Tells how likely a base model, without any edit, finds the continuations of prompts.

    Each text is read once: what was read is remembered.
    """

    def __init__(self, base: LoadedModel, name: str, other: OtherModel | None = None) -> None:
        """Args:
        base: reads where there is no other model; its weights must be the base's own.
        name: of the base.
        other: reads in place of `base`, unless it turns out that it cannot be loaded.
        """
        self._base = base
        self._base_name = name
        self._other = other
        self._loaded: LoadedModel | None = None
        self._users = 0
        self._known: dict[tuple[str, str, bool], tuple[float, float]] = {}

    @property
    def name(self) -> str:
        """The model that reads: the base from when the other one cannot be loaded."""
        return self._base_name if self._other is None else self._other.name

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within the block the other model stays in memory; after it, it does not."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0 and self._loaded is not None:
                self._loaded = None
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def nll(
        self, prompts: Sequence[str], texts: Sequence[str], *, chat: bool = False
    ) -> tuple[Floats, Floats]:
        """Negative log-likelihood of each text after its prompt, in the reader's own tokens.

        Only what one call gives was surely read by one model.

        Args:
            chat: the prompts are messages: they pass through the reader's chat template, where it
                has one.

        Returns:
            Nats and tokens, each `[texts]`; both 0 for a text in which there is nothing to read.
        """
        keys = [
            # A character that the limit of tokens has cut in two is nobody's choice.
            (prompt, text.rstrip(_HALF_CHARACTER), chat)
            for prompt, text in zip(prompts, texts, strict=True)
        ]
        # What is no text has no tokens, and needs no model.
        wanted = list(dict.fromkeys(key for key in keys if key[1]))
        if any(key not in self._known for key in wanted):
            with self.opened():
                model = self._model()
                new = [key for key in wanted if key not in self._known]
                encoded = encode(model, _items(model, new), max_tokens=_MAX_TOKENS, chat=chat)
                reading = EditedModel(model).reading(encoded)
                counts = reading.counts.astype(np.float64)
                nats = negative_log_likelihood(model, reading) * counts
                self._known.update(
                    zip(new, zip(nats.tolist(), counts.tolist(), strict=True), strict=True)
                )
        known = [self._known.get(key, (0.0, 0.0)) for key in keys]
        sums = np.array(known, dtype=np.float64).reshape(-1, 2)
        return sums[:, 0], sums[:, 1]

    def _model(self) -> LoadedModel:
        if self._other is None:
            return self._base
        if self._loaded is None:
            try:
                self._loaded = self._other.load()
            except (BaseModelUnavailable, torch.OutOfMemoryError):
                # An edit does not fail for a model that it has nothing to do with. What it read
                # before cannot be compared with what the base reads.
                self._other = None
                self._known.clear()
                return self._base
        return self._loaded


def _items(model: LoadedModel, keys: Sequence[tuple[str, str, bool]]) -> list[CompletionItem]:
    # Without a template, an empty line stands between a message and the answer to it.
    return [
        CompletionItem(
            prompt=prompt[-_MAX_PROMPT:] + ("\n\n" if chat and not model.has_chat_template else ""),
            completion=text,
        )
        for prompt, text, chat in keys
    ]
