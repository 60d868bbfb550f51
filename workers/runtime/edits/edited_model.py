"""A model with edits on it: read texts with it, compare it, generate with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Unpack

import torch
from torch import Tensor

from models_store.errors import InvalidRequest
from workers.runtime.decoding.decode import Generated, GenerationSettings, generate
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.side_path import SidePath
from workers.runtime.likelihood import Divergence, TextReading, compare
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, batches
from workers.surgery.terms import Mixture, Term

_MIXED = "edits of routed experts cannot share a batch with others"


class EditedModel:
    """A loaded model with a mixture of edits; immutable, and cheap to make another one of.

    Edits run beside the weights where that is possible, since this is how they are served; in them
    where an edit is of routed experts. The weights must be the base's own.
    """

    def __init__(
        self, loaded: LoadedModel, mixture: Mixture = (), *, side: SidePath | None = None
    ) -> None:
        """Args:
        side: a side path of the model to share, which remembers the edits it has prepared.
        """
        self.loaded = loaded
        self.mixture = tuple(mixture)
        self._side = side or SidePath(loaded)

    def plus(self, terms: Sequence[Term], strength: float = 1.0) -> EditedModel:
        """The model with one more edit."""
        return self.only((*self.mixture, (terms, strength)))

    @property
    def base(self) -> EditedModel:
        """The model without any edit."""
        return self.only(())

    def only(self, mixture: Mixture) -> EditedModel:
        """The model with these edits in place of those that are on it."""
        return EditedModel(self.loaded, mixture, side=self._side)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block every row of every batch that the loaded model runs has the edits.

        Raises:
            InvalidRequest: an edit does not fit the model.
        """
        if self.edits_experts:
            with WeightEditor(self.loaded).applied(self.mixture):
                yield
        else:
            with self._side.rows([self.mixture]):
                yield

    @staticmethod
    @contextmanager
    def active_each(models: Sequence[EditedModel]) -> Iterator[None]:
        """Within the block each row of every batch has the edits of its own model, all of one base;
        a single model goes for any number of rows.

        Raises:
            InvalidRequest: an edit does not fit, or models that differ edit routed experts.
        """
        first = models[0]
        if all(model is first for model in models):
            with first.active():
                yield
            return
        if any(model.edits_experts for model in models):
            raise InvalidRequest(_MIXED)
        with first._side.rows([model.mixture for model in models]):
            yield

    def reading(self, texts: Sequence[Encoded], *, batch_tokens: int | None = None) -> TextReading:
        """What the model makes of texts.

        Raises:
            InvalidRequest: no text has a position that counts, or an edit does not fit the model.
        """
        loaded, size = self.loaded, batch_tokens or self.loaded.batch_tokens
        read: list[tuple[Tensor, Tensor, Tensor]] = []
        with loaded.ranks_for(sum(map(len, texts))) as ranks, torch.no_grad(), self.active():
            for batch in batches(texts, tokens=size, pad_id=loaded.pad_id, ranks=ranks):
                ids = batch.ids.to(loaded.device)
                hidden = loaded.decoder(input_ids=ids, use_cache=False).last_hidden_state
                predicting = batch.scored[:, 1:].to(hidden.device)
                states = hidden[:, :-1][predicting]
                targets = batch.ids[:, 1:].to(hidden.device)[predicting]
                owners = torch.tensor(batch.index, device=hidden.device)[:, None]
                read.append((states, targets, owners.expand_as(predicting)[predicting]))
            read = [batch for part in ranks.gather(read) for batch in part]
        if not sum(len(targets) for _, targets, _ in read):
            raise InvalidRequest("no text has a token after its first one that counts")
        states, targets, owners = (torch.cat(parts) for parts in zip(*read, strict=True))
        order = torch.argsort(owners, stable=True)
        return TextReading(states[order], targets[order], owners[order], len(texts))

    def divergence(
        self, texts: Sequence[Encoded], reference: TextReading | None = None
    ) -> Divergence:
        """The model against another one on the same texts.

        Args:
            reference: what the other one made of them; None: the model without any edit.

        Raises:
            InvalidRequest: see `reading`.
        """
        reference = reference or self.base.reading(texts)
        return compare(self.loaded, reference, self.reading(texts))

    def generate(
        self, prompts: Sequence[Sequence[int]], **settings: Unpack[GenerationSettings]
    ) -> list[Generated]:
        """Continue every prompt; see `workers.runtime.decoding.decode.generate`.

        Raises:
            InvalidRequest: a prompt is empty, or an edit does not fit the model.
        """
        return self.generate_each([self] * len(prompts), prompts, **settings)

    @staticmethod
    def generate_each(
        models: Sequence[EditedModel],
        prompts: Sequence[Sequence[int]],
        **settings: Unpack[GenerationSettings],
    ) -> list[Generated]:
        """Continue every prompt with an edited model of its own, all of one base.

        Raises:
            InvalidRequest: as `generate`.
        """
        if not models:
            return []
        first = models[0]
        if all(model is first for model in models):
            with first.active():
                return generate(first.loaded, prompts, side=first._side, **settings)
        if any(model.edits_experts for model in models):
            raise InvalidRequest(_MIXED)
        mixtures = [model.mixture for model in models]
        return generate(first.loaded, prompts, mixtures=mixtures, side=first._side, **settings)

    @property
    def edits_experts(self) -> bool:
        """Whether an edit is of routed experts, which all rows of a batch must have."""
        return any(term.expert is not None for terms, _ in self.mixture for term in terms)
