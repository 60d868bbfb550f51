"""Whether a behaviour can be used: by the scorers that there are, and with a base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from app.domain.behaviors.library import ResolvedBehavior
from app.domain.edits.requests import EditBody
from models_store.errors import FieldError, InvalidRequest
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import ChatItem, Item
from models_store.schemas.scorers import ScorerInfo
from models_store.work.base_models import ReadyBase

_MOST_ERRORS = 100
"""Wrong fields that are named."""


def check_scorers(behavior: Behavior, pointer: str, available: Mapping[str, ScorerInfo]) -> None:
    """Raise `InvalidRequest` where a scorer is not among the available ones, or named twice, or
    would have to learn from texts that it is to choose."""
    names = behavior.scorers
    problems = [
        FieldError(
            f"{pointer}/scorers/{index}",
            "unknown_scorer" if name not in available else "duplicate",
            f"scorers.{index}: {name[:100]!r} is "
            + (f"none of {', '.join(available)}" if name not in available else "there twice"),
        )
        for index, name in enumerate(names)
        if name not in available or name in names[:index]
    ]
    if behavior.scorer is not None:
        problems += _unfit_teacher(behavior.scorer, f"{pointer}/scorer", available)
    if problems:
        raise InvalidRequest.of(problems)


def _unfit_teacher(
    name: str, pointer: str, available: Mapping[str, ScorerInfo]
) -> Iterator[FieldError]:
    """Why a scorer cannot choose the texts of a behaviour."""
    fit = ", ".join(known for known, info in available.items() if not info.learns)
    if name not in available:
        detail = f"scorer: {name[:100]!r} is none of {fit}"
        yield FieldError(pointer, "unknown_scorer", detail)
    elif available[name].learns:
        detail = (
            f"scorer: {name} learns from the behaviour's texts, and without them there is nothing "
            f"to learn from: name one of {fit}, or give undesired and desired texts"
        )
        yield FieldError(pointer, "scorer_learns", detail)


def check_fit(body: EditBody, resolved: ResolvedBehavior, base: ReadyBase) -> None:
    """Refuse what this base model cannot do: layers that it lacks, messages without a template."""
    problems: list[FieldError] = []
    if not body.method.searches:
        problems += body.method.problems(
            base.id, base.facts.layers, resolved.behavior, body.preserve
        )
    if not base.facts.chat_template:
        problems += _messages(body, resolved, base.id)
    if problems:
        raise InvalidRequest.of(problems[:_MOST_ERRORS])


def _messages(body: EditBody, resolved: ResolvedBehavior, base_model: str) -> Iterator[FieldError]:
    """Every item that only a chat template could make a text of."""

    def problem(path: str, where: str) -> FieldError:
        return FieldError(
            f"/{path.replace('.', '/')}",
            "no_chat_template",
            f"{where}: {base_model} has no chat template, so it cannot take messages: give texts, "
            "or prompts with completions",
        )

    for index in _chats(body.preserve):
        path = f"preserve.{index}.messages"
        yield problem(path, path)
    # A behaviour in place as it was sent: what was found is without repeats.
    given = resolved.behavior if isinstance(body.behavior, str) else body.behavior
    for side, items in (("undesired", given.undesired), ("desired", given.desired)):
        for index in _chats(items):
            path = f"{side}.{index}.messages"
            if isinstance(body.behavior, str):
                yield problem("behavior", f"behavior: {path} of {body.behavior}")
                return
            yield problem(f"behavior.{path}", f"behavior.{path}")


def _chats(items: Sequence[Item]) -> Iterator[int]:
    return (index for index, item in enumerate(items) if isinstance(item, ChatItem))
