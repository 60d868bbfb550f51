"""The canary of an export: prompts that tell the edited model from the base model, with answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import structlog
import torch
from torch import Tensor

from models_store.errors import CorruptArtifact, NewerRecord, NotFound
from models_store.presets import neutral_texts
from models_store.schemas.behaviors import Behavior, from_lines
from models_store.schemas.canary import (
    STRENGTHS,
    TEXT_STRENGTHS,
    TEXT_TOKENS,
    TOP,
    Canary,
    CanaryPrompt,
    CanarySheet,
    Endpoint,
)
from models_store.schemas.items import prompt_of, text_of
from models_store.schemas.records import Variant
from models_store.work.store import Work
from workers.editor.jobs.task import Task
from workers.runtime.decoding.decode import GenerationSettings
from workers.runtime.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode_prompt
from workers.surgery.terms import Mixture

_log = structlog.get_logger()

PROMPTS: Mapping[Endpoint, int] = {"completions": 12, "chat": 8}
_CANDIDATES = 24
"""Of the behaviours; as many neutral ones. Half of them all, the best ones, for chat."""
_CHARACTERS = 120
_WORDS = 8
"""A text is continued from so many on."""
_CHUNK = 16
_LISTED = 64
"""Tokens of which the likeliest that have a text are recorded."""
_GREEDY: GenerationSettings = {"max_new_tokens": TEXT_TOKENS}
_Models = Mapping[float, EditedModel]
"""By multiple of the variant's strengths."""


def prompts_of(task: Task, edits: Iterable[Work]) -> list[str]:
    """Short prompts of the behaviours that edits change; one whose texts cannot be read has none.

    Raises:
        Unavailable: the store stayed away.
    """
    lists = []
    for edit in edits:
        try:
            behavior, _ = from_lines(task.patiently(partial(task.store.texts_of, edit)))
        except NotFound:
            continue
        except (CorruptArtifact, NewerRecord) as error:
            _log.warning("the canary lacks prompts", edit=edit.id, error=error.message)
            continue
        lists.append(_short(_behavior_prompts(behavior)))
    share = _CANDIDATES // max(1, len(lists))
    return [prompt for prompts in lists for prompt in prompts[:share]]


def record(
    base: LoadedModel, mixture: Mixture, variant: Variant, prompts: Sequence[str] = ()
) -> Canary:
    """Choose prompts and record what base model and edited model answer, at several strengths.

    Args:
        base: its weights must be the base's own.
        prompts: candidates beside the neutral ones.
    """
    models = {
        strength: EditedModel(base, [(terms, strength * own) for terms, own in mixture])
        for strength in sorted({*STRENGTHS, *TEXT_STRENGTHS})
    }
    candidates = list(dict.fromkeys((*prompts, *_neutral_prompts())))
    candidates = _ranked(models, "completions", candidates)
    sheets = [_sheet(models, "completions", candidates[: PROMPTS["completions"]])]
    if base.has_chat_template:
        candidates = _ranked(models, "chat", candidates[:_CANDIDATES])
        sheets.append(_sheet(models, "chat", candidates[: PROMPTS["chat"]]))
    return Canary(variant=variant.name, base_model=variant.base_model, sheets=tuple(sheets))


def _sheet(models: _Models, endpoint: Endpoint, prompts: Sequence[str]) -> CanarySheet:
    loaded = models[0.0].loaded
    ids = [encode_prompt(loaded, prompt, chat=endpoint == "chat") for prompt in prompts]
    rows = torch.stack([_next_token(models[strength], ids) for strength in STRENGTHS], dim=1)
    texts = _continuations(models, ids)
    return CanarySheet(
        endpoint=endpoint,
        prompts=tuple(
            _prompt(loaded, prompt, row, said)
            for prompt, row, said in zip(prompts, rows, texts, strict=True)
        ),
    )


def _ranked(models: _Models, endpoint: Endpoint, prompts: Sequence[str]) -> list[str]:
    """Those first whose next token the edit changes most, by KL in both directions.

    Those after which either model would rather end come last: servers say nothing of that token.
    """
    loaded = models[0.0].loaded
    special = torch.tensor(sorted({*loaded.tokenizer.all_special_ids}))
    order: list[tuple[bool, float, int]] = []
    for start in range(0, len(prompts), _CHUNK):
        some = prompts[start : start + _CHUNK]
        ids = [encode_prompt(loaded, prompt, chat=endpoint == "chat") for prompt in some]
        before, after = (_next_token(models[strength], ids) for strength in (0.0, 1.0))
        kl = ((before.exp() - after.exp()) * (before - after)).sum(dim=1)
        ends = torch.isin(torch.stack([before, after]).argmax(dim=2), special).any(dim=0)
        for row, (end, size) in enumerate(zip(ends.tolist(), kl.tolist(), strict=True)):
            order.append((end, -size, start + row))
    return [prompts[place] for _, _, place in sorted(order)]


@torch.no_grad()
def _next_token(model: EditedModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of the next token, fp32 `[prompts, vocabulary]`."""
    loaded = model.loaded
    states = model.reading([Encoded.response(ids, [loaded.pad_id]) for ids in prompts]).states
    return torch.log_softmax(loaded.logits(states).float(), dim=-1).cpu()


def _continuations(models: _Models, prompts: Sequence[Sequence[int]]) -> list[list[str]]:
    """Greedy continuations, `[prompts, text strengths]`."""
    chosen = [models[strength] for strength in TEXT_STRENGTHS]
    if any(model.edits_experts for model in chosen):
        made = [each for model in chosen for each in model.generate(prompts, **_GREEDY)]
    else:
        each_model = [model for model in chosen for _ in prompts]
        made = EditedModel.generate_each(each_model, [*prompts] * len(chosen), **_GREEDY)
    decode = models[0.0].loaded.tokenizer.decode
    texts = [decode(each.ids, skip_special_tokens=True) for each in made]
    return [texts[row :: len(prompts)] for row in range(len(prompts))]


def _prompt(loaded: LoadedModel, prompt: str, rows: Tensor, texts: Sequence[str]) -> CanaryPrompt:
    """Args:
    rows: `[strengths, vocabulary]`.
    """
    names: dict[str, int] = {}
    for likeliest in rows.topk(min(_LISTED, rows.shape[1]), dim=1).indices.tolist():
        names |= _plain(loaded, likeliest)
    logprobs = rows[:, list(names.values())].double()
    return CanaryPrompt(
        prompt=prompt,
        tokens=tuple(names),
        logprobs=tuple(tuple(round(each, 4) for each in row) for row in logprobs.tolist()),
        texts=tuple(texts),
    )


def _plain(loaded: LoadedModel, ids: Sequence[int]) -> dict[str, int]:
    """The first `TOP` of the tokens by text, but those that servers spell in ways of their own:
    markers and parts of characters."""
    tokenizer, special = loaded.tokenizer, {*loaded.tokenizer.all_special_ids}
    names: dict[str, int] = {}
    for id in ids:
        name = tokenizer.decode([id])
        if id not in special and name and "\ufffd" not in name:
            names.setdefault(name, id)
        if len(names) == TOP:
            break
    return names


def _behavior_prompts(behavior: Behavior) -> list[str]:
    texts = [*(behavior.undesired or ()), *(behavior.desired or ())]
    starts = [prompt_of(item) or _start(text_of(item)) for item in texts]
    return [*(prompt.text for prompt in behavior.prompts), *starts]


def _neutral_prompts() -> list[str]:
    plain, chat = neutral_texts()
    half = _CANDIDATES // 2
    starts = (_start(item.text) for item in plain[:half])
    return _short([*starts, *(item.prompt for item in chat[:half])])


def _start(text: str) -> str:
    return " ".join(text.split()[:_WORDS])


def _short(prompts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each for each in prompts if each and len(each) <= _CHARACTERS))
