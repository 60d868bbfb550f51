"""The canary of an export: prompts that tell the edited model from the base model, with answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import structlog
import torch
from torch import Tensor
from transformers import DynamicCache

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
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import Encoded, encode_prompt
from workers.surgery.terms import Mixture

_log = structlog.get_logger()

PROMPTS: Mapping[Endpoint, int] = {"completions": 12, "chat": 8}
_CANDIDATES, _OWN = 32, 24
"""Texts; how many of them may be the behaviours'."""
_MESSAGES = 8
"""Of the behaviours' best ones, and of the neutral ones, so many are candidates for chat."""
_CHARACTERS = 120
_WORDS = 12
"""A text is cut after so many at the latest."""
_LEAST = 4
"""A prompt has no fewer, unless its text has."""
_CHUNK = 8
_LISTED = 64
"""Tokens of which the likeliest that have a text are recorded."""
_Models = Mapping[float, EditedModel]
"""By multiple of the variant's strengths."""


@dataclass(frozen=True)
class _Candidate:
    """A prompt that the canary may have."""

    prompt: str
    ids: Sequence[int]
    rank: tuple[bool, float]
    """Of the best it is the smallest."""


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
    share = _OWN // max(1, len(lists))
    return [prompt for prompts in lists for prompt in prompts[:share]]


def record(
    base: LoadedModel, mixture: Mixture, variant: Variant, prompts: Sequence[str] = ()
) -> Canary:
    """Choose prompts and record what base model and edited model answer, at several strengths.

    Args:
        base: its weights must be the base's own.
        prompts: candidates beside the neutral ones; half of those chosen are of them.
    """
    models = {
        strength: EditedModel(base, [(terms, strength * own) for terms, own in mixture])
        for strength in sorted({*STRENGTHS, *TEXT_STRENGTHS})
    }
    texts = list(dict.fromkeys((*prompts, *_neutral_prompts())))[:_CANDIDATES]
    starts = _candidates(models, texts)
    own = [one for one in starts if any(text.startswith(one.prompt) for text in prompts)]
    first = own[: PROMPTS["completions"] // 2]
    chosen = [*first, *(one for one in starts if one not in first)][: PROMPTS["completions"]]
    sheets = [_sheet(models, "completions", chosen)]
    if base.has_chat_template:
        others = [one for one in starts if one not in own]
        best = [*own[:_MESSAGES], *others[:_MESSAGES]]
        whole = [next(each for each in texts if each.startswith(one.prompt)) for one in best]
        messages = _messages(models, list(dict.fromkeys(whole)))
        sheets.append(_sheet(models, "chat", messages[: PROMPTS["chat"]]))
    return Canary(variant=variant.name, base_model=variant.base_model, sheets=tuple(sheets))


def _sheet(models: _Models, endpoint: Endpoint, chosen: Sequence[_Candidate]) -> CanarySheet:
    loaded = models[0.0].loaded
    ids = [one.ids for one in chosen]
    states, texts = _answers([models[strength] for strength in STRENGTHS], ids, TEXT_TOKENS)
    rows = torch.stack([_logprobs(loaded, each) for each in states], dim=1)
    continued = [texts[STRENGTHS.index(strength)] for strength in TEXT_STRENGTHS]
    return CanarySheet(
        endpoint=endpoint,
        prompts=tuple(
            _prompt(loaded, one.prompt, row, said)
            for one, row, said in zip(chosen, rows, zip(*continued, strict=True), strict=True)
        ),
    )


def _candidates(models: _Models, texts: Sequence[str]) -> list[_Candidate]:
    """The best beginning of each text to be continued, the best ones first.

    One reading of a text gives what follows each of its words.
    """
    loaded = models[0.0].loaded
    found = {}
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        encoded = [encode_prompt(loaded, text, chat=False) for text in some]
        read = [Encoded.response(ids[:1], [*ids[1:], loaded.pad_id]) for ids in encoded]
        ranks = _ranks(loaded, *(models[each].reading(read).states for each in (0.0, 1.0)))
        first = 0
        for text, ids in zip(some, encoded, strict=True):
            ends = sorted(range(len(ids)), key=lambda end: ranks[first + end])
            for end in ends:
                prompt = loaded.tokenizer.decode(ids[: end + 1], skip_special_tokens=True)
                if _is_start(prompt, text) and _same(loaded, prompt, ids[: end + 1]):
                    found[prompt] = _Candidate(prompt, ids[: end + 1], ranks[first + end])
                    break
            first += len(ids)
    return sorted(found.values(), key=lambda one: one.rank)


def _same(loaded: LoadedModel, prompt: str, ids: Sequence[int]) -> bool:
    """Whether the prompt by itself makes these tokens."""
    return encode_prompt(loaded, prompt, chat=False) == ids


def _is_start(prompt: str, text: str) -> bool:
    """Whether the text begins with these words, of which there are enough."""
    words = prompt.split()
    rest = text[len(prompt) :]
    return (
        text.startswith(prompt)
        and not rest[:1].strip()
        and prompt == prompt.rstrip()
        and len(words) >= min(_LEAST, len(text.split()))
    )


def _messages(models: _Models, prompts: Sequence[str]) -> list[_Candidate]:
    """The prompts as what a user says, the best ones first."""
    loaded = models[0.0].loaded
    ids = [encode_prompt(loaded, prompt, chat=True) for prompt in prompts]
    ranks = _ranks(loaded, *_answers([models[0.0], models[1.0]], ids)[0])
    found = map(_Candidate, prompts, ids, ranks)
    return sorted(found, key=lambda one: one.rank)


@torch.no_grad()
def _ranks(loaded: LoadedModel, before: Tensor, after: Tensor) -> list[tuple[bool, float]]:
    """Smaller the more the edit changes the next token, by KL in both directions.

    Those after which either model would rather end come last: servers say nothing of that token.

    Args:
        before, after: last hidden states at strengths 0 and 1, `[prompts, hidden]`.
    """
    special = torch.tensor(sorted({*loaded.tokenizer.all_special_ids}))
    ranks: list[tuple[bool, float]] = []
    for pair in zip(torch.split(before, 64), torch.split(after, 64), strict=True):
        first, second = (_logprobs(loaded, states) for states in pair)
        kl = ((first.exp() - second.exp()) * (first - second)).sum(dim=1)
        ends = torch.isin(torch.stack([first, second]).argmax(dim=2), special).any(dim=0)
        ranks += zip(ends.tolist(), (-kl).tolist(), strict=True)
    return ranks


@torch.no_grad()
def _logprobs(loaded: LoadedModel, states: Tensor) -> Tensor:
    """Log-probabilities of the next token, fp32 `[prompts, vocabulary]`."""
    return torch.log_softmax(loaded.logits(states).float(), dim=-1).cpu()


@torch.no_grad()
def _answers(
    models: Sequence[EditedModel], prompts: Sequence[Sequence[int]], tokens: int = 0
) -> tuple[Tensor, list[list[str]]]:
    """Last hidden states after each prompt, `[models, prompts, hidden]`, and greedy continuations.

    What all prompts begin with, such as most of a chat template, is read once a model, and all
    models share a batch: a step of decoding takes about as long for one row as for many.
    """
    if len(models) > 1 and any(model.edits_experts for model in models):
        each = [_answers([model], prompts, tokens) for model in models]
        return torch.cat([states for states, _ in each]), [said for _, (said,) in each]
    loaded, count = models[0].loaded, len(prompts)
    shared = min(_shared(prompts), *(len(ids) - 1 for ids in prompts))
    longest = max(map(len, prompts))
    places = torch.arange(longest + tokens)
    lengths = torch.tensor([len(ids) for ids in prompts] * len(models))[:, None]
    # False where a prompt is filled up; what it is continued with follows after that.
    mask = (places < lengths) | (places >= longest)
    filled = [[*ids, *[loaded.pad_id] * (longest - len(ids))] for ids in prompts]
    rows = torch.tensor(filled * len(models))
    cache = DynamicCache(config=loaded.model.config)

    def read(ids: Tensor, first: Tensor | int) -> Tensor:
        """Args:
        first: position of the first of the ids, in each row or in all.
        """
        positions = (first + torch.arange(ids.shape[1])).expand(ids.shape)
        states: Tensor = loaded.decoder(
            input_ids=ids.to(loaded.device),
            attention_mask=mask[: len(ids), : cache.get_seq_length() + ids.shape[1]].to(
                loaded.device
            ),
            position_ids=positions.to(loaded.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return states

    if shared:
        with EditedModel.active_each(models):
            read(rows[::count, :shared], 0)
        cache.batch_repeat_interleave(count)
    made: list[Tensor] = []
    with EditedModel.active_each([model for model in models for _ in prompts]):
        states = read(rows[:, shared:], shared)
        last = first = states[torch.arange(len(rows)), (lengths - shared - 1)[:, 0]]
        while len(made) < tokens:
            if made:
                last = read(made[-1], lengths + len(made) - 1)[:, -1]
            made.append(loaded.logits(last.contiguous()).argmax(dim=1, keepdim=True).cpu())
    ids = torch.cat(made, dim=1).tolist() if made else [[]] * len(rows)
    texts = [_text(loaded, row) for row in ids]
    said = [texts[start : start + count] for start in range(0, len(texts), count)]
    return first.reshape(len(models), count, -1), said


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all begin with."""
    columns = zip(*prompts, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _text(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """Of tokens up to one that ends a text."""
    ended = list(takewhile(lambda id: id not in loaded.stop_ids, ids))
    text: str = loaded.tokenizer.decode(ended, skip_special_tokens=True)
    return text


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
    pairs = zip(plain[:_CANDIDATES], chat[:_CANDIDATES], strict=True)
    return _short(each for text, item in pairs for each in (_start(text.text), item.prompt))


def _start(text: str) -> str:
    return " ".join(text.split()[:_WORDS])


def _short(prompts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(each for each in prompts if each and len(each) <= _CHARACTERS))
