"""How near an edit comes to what it was made of, where it cannot do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models_store.errors import EditFailed
from models_store.schemas.imports import Approximation
from workers.evaluation.damage.neutral import encode_neutral
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import TextReading, compare
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded
from workers.surgery.terms import Term

_EACH = 16
_MAX_TOKENS = 128
MAX_MISSED = 0.5
"""KL(imported ‖ edited) over KL(base ‖ imported) beyond which an edit is refused."""


def measure(
    base: LoadedModel,
    terms: Sequence[Term],
    read: Callable[[Sequence[Encoded]], TextReading],
    reader: LoadedModel | None = None,
) -> Approximation:
    """Compare an edit with what it was made of, on neutral text that nothing was fitted on.

    Args:
        read: what that makes of texts; `reader`: the model that it does so with, if not the base.

    Raises:
        EditFailed: `invalid_import`, the edit is not near.
    """
    texts = encode_neutral(base, "reporting", each=_EACH, max_tokens=_MAX_TOKENS).texts
    model = EditedModel(base)
    plain, edited, wanted = model.reading(texts), model.plus(terms).reading(texts), read(texts)
    effect = compare(base, plain, wanted, reader).mean_kl
    missed = compare(reader or base, wanted, edited, base).mean_kl
    if not missed < MAX_MISSED * effect:
        raise EditFailed(
            f"the nearest edit is not close to what was imported: that has a KL of {effect:.3g} "
            f"nats a token to the base model, and the edit one of {missed:.3g} to it",
            code="invalid_import",
        )
    return Approximation(kl=effect, kl_missed=missed, texts=len(texts))
