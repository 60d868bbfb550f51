"""Prove an export: load it back with the library it is for, and compare it to what is served."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch
from pydantic import BaseModel, ConfigDict

from models_store.errors import EditFailed
from models_store.presets import neutral_texts
from workers.editor.formats.protocol import Loader
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import TextReading, compare
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode
from workers.surgery.terms import Mixture

PROMPTS = 32
_MAX_TOKENS = 32
_MEMORY_SHARE = 0.8
ROUNDING_FACTOR = 3.0
"""fp32: an export may be so many times as far off as fp32 itself is from fp64."""
KL_SHARE = 0.01
"""16 bits: KL(edited ‖ export) may be this share of KL(base ‖ edited) and the base's own noise."""
ROUNDING_SPREAD = 2.0
"""Rounded weights: the noise is so many times KL(base ‖ base with its weights rounded), for edited
weights round otherwise."""


class Proof(BaseModel):
    """What the API shows of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loader: str
    version: str
    prompts: int
    max_logit_diff: float
    """Largest difference of a logit, at any position of any prompt."""
    mean_kl: float
    """KL(edited ‖ export) in nats a position."""
    tolerance: float
    """What the first may be for files and a model in fp32, the second where either has 16 bits."""
    dtype: str
    """Of the numbers in the files."""
    rule: str
    """What the tolerance is of, and why."""
    passed: bool


def has_room(parameters: int, device: str) -> bool:
    """Whether a model of that size fits the free memory in fp32 and in fp64 at once."""
    needed = (4 + 8) * parameters
    if torch.device("cuda" if device == "auto" else device).type == "cuda":
        free = sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
    else:
        free = psutil.virtual_memory().available
    return needed < _MEMORY_SHARE * free


def prove(
    base: LoadedModel,
    mixture: Mixture,
    loader: Loader,
    reload: Callable[[str], LoadedModel],
    *,
    what: str = "the export",
    code: str = "export_mismatch",
) -> Proof:
    """Compare the export to the variant as it is served, on texts of Scalpel's own.

    Args:
        base: its weights must be the base's own; the loader may leave it changed.
        mixture: the variant's edits.
        reload: the same base model in another dtype.
        what: is compared, in words; code: of the error.

    Raises:
        EditFailed: `code`, the export is not the variant, or cannot be told from the
            base model.
    """
    texts = _texts(base)
    plain = EditedModel(base).reading(texts)
    edited = EditedModel(base, mixture).reading(texts)
    effect = compare(base, plain, edited).mean_kl
    exact = _is_wide(base.dtype) and loader.dtype in ("float32", "float64")
    if exact:
        noise = 0.0
        limit = ROUNDING_FACTOR * _rounding(base, mixture, texts, reload)
        rule = f"max_logit_diff may be {ROUNDING_FACTOR:g} times what fp32 itself differs from fp64"
    else:
        noise = _noise(base, plain, texts, reload, loader)
        limit = KL_SHARE * effect + noise
        rule = (
            f"mean_kl may be {KL_SHARE:.0%} of the edit's, {effect:.3g}, and the {noise:.3g} that "
            f"{loader.dtype} {'may do' if loader.rounded else 'does'} to the base model itself"
        )
    with loader.loaded(base) as model:
        exported = EditedModel(model).reading(texts)
        mean_kl = compare(base, edited, exported, model).mean_kl
        difference = max_logit_difference(base, edited, model, exported)
        change = compare(base, plain, exported, model).mean_kl
        same_tokens = model is base or _texts(model) == texts
    loaded = f"loaded by {loader.name} {loader.version}"
    if not same_tokens:
        raise EditFailed(
            f"{loaded}, {what} has a tokenizer that makes other tokens than the base model's",
            code=code,
        )
    close = difference <= limit if exact else mean_kl <= limit
    # A file whose names are wrong by one word loads without an error and does nothing.
    differs = change > max(noise, effect / 2)
    if not close:
        raise EditFailed(
            f"{loaded}, {what} is not the variant: largest logit difference {difference:.3g}, "
            f"KL {mean_kl:.3g}, and the {'former' if exact else 'latter'} may be {limit:.3g}",
            code=code,
        )
    if not differs:
        raise EditFailed(
            f"{loaded}, {what} cannot be told from the base model: the edit's KL is {effect:.3g}, "
            f"and rounding alone makes {noise:.3g}",
            code=code,
        )
    return Proof(
        loader=loader.name,
        version=loader.version,
        prompts=len(texts),
        max_logit_diff=difference,
        mean_kl=max(0.0, mean_kl),
        tolerance=limit,
        dtype=loader.dtype,
        rule=rule,
        passed=True,
    )


def _noise(
    base: LoadedModel,
    plain: TextReading,
    texts: list[Encoded],
    reload: Callable[[str], LoadedModel],
    loader: Loader,
) -> float:
    """What the dtype alone may do to the base model, in nats a position.

    Args:
        plain: what the base, as it is loaded, makes of the texts.
    """
    if loader.rounded is None:
        return _noise_of_16_bits(base, plain, texts, reload, loader.dtype)
    with loader.rounded(base) as other:
        reading = EditedModel(other).reading(texts)
        noise = ROUNDING_SPREAD * max(0.0, compare(base, plain, reading, other).mean_kl)
    if _is_wide(base.dtype):
        return noise
    return noise + _noise_of_16_bits(base, plain, texts, reload, "float32")


def _noise_of_16_bits(
    base: LoadedModel,
    plain: TextReading,
    texts: list[Encoded],
    reload: Callable[[str], LoadedModel],
    dtype: str,
) -> float:
    """KL(base in 16 bits ‖ base in fp32), in nats a position.

    Args:
        dtype: the one of 16 bits, where the base is loaded in fp32.
    """
    other = reload(dtype if _is_wide(base.dtype) else "float32")
    reading = EditedModel(other).reading(texts)
    pairs = ((base, plain), (other, reading))
    (narrow, first), (wide, second) = pairs if _is_wide(other.dtype) else pairs[::-1]
    total = 0.0
    with torch.no_grad():
        for a, b in zip(torch.split(first.states, 64), torch.split(second.states, 64), strict=True):
            before = torch.log_softmax(narrow.logits(a).float(), dim=-1)
            after = torch.log_softmax(wide.logits(b), dim=-1)
            total += float((before.exp() * (before - after)).sum())
    return total / len(plain.targets)


def _is_wide(dtype: torch.dtype) -> bool:
    return dtype in (torch.float32, torch.float64)


def _rounding(
    base: LoadedModel, mixture: Mixture, texts: list[Encoded], reload: Callable[[str], LoadedModel]
) -> float:
    """Largest logit difference between the merged model in fp32 and in fp64."""
    with WeightEditor(base).applied(mixture):
        narrow = EditedModel(base).reading(texts)
    wide_base = reload("float64")
    with WeightEditor(wide_base).applied(mixture):
        wide = EditedModel(wide_base).reading(texts)
    return max_logit_difference(base, narrow, wide_base, wide)


@torch.no_grad()
def max_logit_difference(
    first: LoadedModel, reading: TextReading, second: LoadedModel, other: TextReading
) -> float:
    """The largest difference of a logit at any position of two readings of the same texts."""
    pairs = zip(torch.split(reading.states, 64), torch.split(other.states, 64), strict=True)
    return max(
        float((first.logits(a).double() - second.logits(b).double()).abs().max()) for a, b in pairs
    )


def _texts(base: LoadedModel) -> list[Encoded]:
    """Plain texts, and answers where the model takes chat messages."""
    plain, chat = neutral_texts()
    chat_texts = chat[: PROMPTS // 2] if base.has_chat_template else ()
    return [
        *encode(base, plain[: PROMPTS - len(chat_texts)], max_tokens=_MAX_TOKENS, chat=False),
        *encode(base, chat_texts, max_tokens=_MAX_TOKENS, chat=True),
    ]
