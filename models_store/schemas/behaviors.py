"""A behaviour: texts that show it, texts that don't, prompts that elicit it; and its validation.

In place of texts it may name a scorer, or the base model in place of the undesired ones; the edit
makes them then, of what the base model says.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

from models_store.errors import CorruptArtifact, FieldError, InvalidRequest
from models_store.schemas.base import DocumentedModel, FrozenModel
from models_store.schemas.items import (
    ChatItem,
    CompletionItem,
    Item,
    Prompt,
    PromptItem,
    TextItem,
    prompt_of,
    text_of,
)

MIN_TEXTS = 16
"""Different texts per side; with fewer, a probe means nothing."""
MAX_TEXTS = 10_000
"""Texts of both sides together."""
MAX_PROMPTS = 2_000
MIN_SCORED_PROMPTS = 64
"""Different prompts of a behaviour by a scorer: texts are made of half of them."""
MAX_PRESERVED = 2_000
_WHITESPACE = re.compile(r"\s+")
_LATE_FIELDS = ("question", "undesired_answer", "scorer", "undesired_from")


class Behavior(DocumentedModel):
    """What to change: texts that show it, texts that do not, prompts that elicit it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """For people and receipts."""
    description: Annotated[str, Field(max_length=2_000)] = ""
    """What it is, for people and for scorers that ask a model."""
    undesired: Annotated[tuple[Item, ...], Field(max_length=MAX_TEXTS)] = ()
    """Texts that show it: 16 or more different ones; 200 work well."""
    desired: Annotated[tuple[Item, ...], Field(max_length=MAX_TEXTS)] = ()
    """Texts that do not show it, alike in length and topic: as many."""
    scorer: Annotated[str, Field(max_length=100)] | None = None
    """In place of `undesired` and `desired`: the scorer of which the edit is to lower the scores.
    The base model continues half of the prompts, and its scores make two sides of that."""
    undesired_from: Literal["base_model"] | None = None
    """In place of `undesired`: what the base model itself responds to the prompts of `desired`."""
    prompts: Annotated[tuple[PromptItem, ...], Field(max_length=MAX_PROMPTS)] = ()
    """Prompts that elicit it; without them, beginnings of held-out texts are used. 200 work
    well."""
    chat: bool = False
    """Send prompts and pairs through the chat template, if the base model has one."""
    scorers: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    """Names of the scorers of generated text, the first one leads; empty: `scorer` and one that
    learns from the texts, or two that fit any behaviour."""
    question: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    """For scorers that ask a model: yes means undesired, such as `Is this text rude?`. Default:
    whether the text shows what `description` says."""
    max_new_tokens: Annotated[int, Field(ge=1, le=256)] = 24
    """Length of the generations that are scored."""

    @property
    def lacks_texts(self) -> bool:
        """Whether an edit must make some of them first."""
        return not self.undesired and (
            self.undesired_from is not None or (self.scorer is not None and not self.desired)
        )


class BehaviorRef(DocumentedModel):
    """The behaviour of an edit, with the checksum of its texts."""

    id: str | None
    """`beh_…` of an uploaded one, else null."""
    name: str
    """Its name."""
    version: int | None
    """Version of an uploaded one, else null."""
    sha256: str
    """Checksum of all that an edit depends on."""
    counts: dict[str, int]
    """Numbers of texts on each side, and of prompts."""


Role = Literal["undesired", "desired", "prompt", "preserve"]


class TextLine(FrozenModel):
    """One text of an edit's `texts.jsonl`."""

    role: Role
    item: Item | Prompt


_line = TypeAdapter(TextLine)


def checked(behavior: Behavior, pointer: str = "/behavior") -> Behavior:
    """Validate a behaviour; the result is without repeated texts and prompts.

    Raises:
        InvalidRequest: a side is empty or too small, the two are the same, a text is on both
            sides, or there are more texts than allowed; with a scorer in place of texts there are
            texts all the same, or too few prompts. Each problem names its field.
    """
    undesired, desired = distinct(behavior.undesired), distinct(behavior.desired)
    prompts = {_key(prompt.text): prompt for prompt in reversed(behavior.prompts)}
    problems: list[FieldError] = []
    if behavior.scorer is not None:
        problems += _by_scorer(behavior, tuple(prompts.values()), pointer)
    elif behavior.undesired_from is not None:
        problems += _against_base(behavior, desired, pointer)
    else:
        problems += _too_few(behavior, {"undesired": undesired, "desired": desired}, pointer)
    total = len(behavior.undesired) + len(behavior.desired)
    if total > MAX_TEXTS:
        problems.append(
            FieldError(
                f"{pointer}/undesired",
                "too_many_texts",
                f"undesired and desired: {total} texts together; at most {MAX_TEXTS} are allowed",
            )
        )
    problems += _overlap(undesired, desired, pointer)
    problems += _without_response(behavior, pointer)
    problems += _split_templates(behavior, pointer)
    for side, items in (("undesired", behavior.undesired), ("desired", behavior.desired)):
        problems += [
            FieldError(
                f"{pointer}/{side}/{index}/messages",
                "last_message_not_assistant",
                f"{side}.{index}.messages: the last message must be the assistant's: it is what "
                "shows the behaviour",
            )
            for index, item in enumerate(items)
            if isinstance(item, ChatItem) and item.messages[-1].role != "assistant"
        ]
    if problems:
        raise InvalidRequest.of(problems)
    return behavior.model_copy(
        update={
            "undesired": tuple(undesired.values()),
            "desired": tuple(desired.values()),
            "prompts": tuple(reversed(prompts.values())),
        }
    )


def _too_few(
    behavior: Behavior, sides: Mapping[str, Mapping[str, Item]], pointer: str
) -> Iterable[FieldError]:
    other = "" if any(sides.values()) else "; or give a scorer and prompts in place of texts"
    for side, texts in sides.items():
        if len(texts) < MIN_TEXTS:
            given = len(getattr(behavior, side))
            yield FieldError(
                f"{pointer}/{side}",
                "too_few_texts",
                f"{side}: {len(texts)} different texts ({given} given); at least {MIN_TEXTS} "
                f"are needed, and 200 or more work well{other}",
            )


def _by_scorer(behavior: Behavior, prompts: Sequence[Prompt], pointer: str) -> Iterable[FieldError]:
    """What is wrong with a behaviour that names a scorer; `prompts` are without repeats."""
    if behavior.undesired or behavior.desired or behavior.undesired_from:
        yield FieldError(
            f"{pointer}/scorer",
            "scorer_and_texts",
            "scorer: there are texts too; give either a scorer, or undesired and desired texts "
            "(and name the scorer in scorers)",
        )
        return
    free = sum(prompt.split is None for prompt in prompts)
    if len(prompts) < MIN_SCORED_PROMPTS or free < MIN_SCORED_PROMPTS // 2:
        yield FieldError(
            f"{pointer}/prompts",
            "too_few_prompts",
            f"prompts: {len(prompts)} different prompts, {free} of them without split; with a "
            f"scorer in place of texts at least {MIN_SCORED_PROMPTS} are needed, "
            f"{MIN_SCORED_PROMPTS // 2} of them without split, and 300 work well",
        )
    if set(behavior.scorers) == {behavior.scorer}:
        yield FieldError(
            f"{pointer}/scorers",
            "no_other_scorer",
            f"scorers: {behavior.scorer!r} chooses the texts that the edit is fitted on, so it "
            "cannot be the only one to judge the edit: name another beside it, or leave scorers "
            "out",
        )


def _against_base(
    behavior: Behavior, desired: Mapping[str, Item], pointer: str
) -> Iterable[FieldError]:
    """What is wrong with a behaviour whose undesired texts the base model is to make."""
    if behavior.undesired:
        yield FieldError(
            f"{pointer}/undesired_from",
            "undesired_twice",
            "undesired_from: there are undesired texts too; give either them, or undesired_from",
        )
    yield from _too_few(behavior, {"desired": desired}, pointer)
    for index, item in enumerate(behavior.desired):
        if not prompt_of(item):
            yield FieldError(
                f"{pointer}/desired/{index}",
                "no_prompt",
                f"desired.{index}: it has no prompt for the base model to respond to, which "
                "undesired_from needs: give a prompt with a completion, or messages",
            )


def _split_templates(behavior: Behavior, pointer: str) -> Iterable[FieldError]:
    """Prompts of a template are nearly the same: with some in each split, edits would be tested on
    the prompts that they were selected by."""
    first: dict[str, str] = {}
    for index, prompt in enumerate(behavior.prompts):
        if prompt.template is None or prompt.split is None:
            continue
        other = first.setdefault(prompt.template, prompt.split)
        if other != prompt.split:
            yield FieldError(
                f"{pointer}/prompts/{index}/split",
                "template_in_both_splits",
                f"prompts.{index}.split: {prompt.split!r}, but an earlier prompt of the template "
                f"{prompt.template!r} is for {other!r}; prompts of one template share a split",
            )


def _overlap(
    undesired: dict[str, Item], desired: dict[str, Item], pointer: str
) -> Iterable[FieldError]:
    common = undesired.keys() & desired.keys()
    if common and common == undesired.keys() == desired.keys():
        yield FieldError(
            f"{pointer}/desired",
            "identical_sets",
            "undesired and desired hold the same texts: give desired ones that do without the "
            "behaviour",
        )
    elif common:
        example = text_of(undesired[min(common)])[:60]
        yield FieldError(
            f"{pointer}/desired",
            "text_on_both_sides",
            f"{len(common)} texts are both undesired and desired, such as {example!r}: leave them "
            "out of one side",
        )


def _without_response(behavior: Behavior, pointer: str) -> Iterable[FieldError]:
    if "answer-match" not in (*behavior.scorers, behavior.scorer):
        return
    if not behavior.prompts:
        yield FieldError(
            f"{pointer}/prompts",
            "no_undesired_answer",
            "prompts: the scorer answer-match needs prompts with an undesired_answer",
        )
    for index, prompt in enumerate(behavior.prompts):
        if prompt.undesired_answer is None:
            yield FieldError(
                f"{pointer}/prompts/{index}/undesired_answer",
                "no_undesired_answer",
                f"prompts.{index}.undesired_answer: the scorer answer-match needs one in each "
                "prompt, such as Yes",
            )
            return


def _key(text: str) -> str:
    return _WHITESPACE.sub(" ", text).strip().casefold()


def distinct(items: Sequence[Item]) -> dict[str, Item]:
    """The first of each distinct text, ignoring case and white space, by what makes it so.

    Equal responses to different prompts are distinct.
    """
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault("\n".join(_key(part) for part in _parts(item)), item)
    return first


def _parts(item: Item) -> list[str]:
    match item:
        case TextItem():
            return [item.text]
        case CompletionItem():
            return [item.prompt, item.completion]
        case ChatItem():
            return [part for turn in item.messages for part in (turn.role, turn.content)]


def sha256_of(behavior: Behavior) -> str:
    """Digest of everything in a behaviour that an edit depends on, `sha256:…`."""
    whole = behavior.model_dump(mode="json")
    for part in (whole, *whole["prompts"]):
        _drop_late_(part)
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def reference(behavior: Behavior, id: str | None = None, version: int | None = None) -> BehaviorRef:
    return BehaviorRef(
        id=id,
        name=behavior.name,
        version=version,
        sha256=sha256_of(behavior),
        counts={
            "undesired": len(behavior.undesired),
            "desired": len(behavior.desired),
            "prompts": len(behavior.prompts),
        },
    )


def _drop_late_(part: dict[str, Any]) -> None:
    """Remove unset fields that were added to the format later, so that the digests and lines of
    older behaviours do not change.
    """
    for name in _LATE_FIELDS:
        if name in part and part[name] is None:
            del part[name]


def to_lines(behavior: Behavior) -> bytes:
    """A behaviour as JSON lines: first everything but the texts, then one text per line."""
    roles: list[tuple[Role, Item | Prompt]] = [
        *(("undesired", item) for item in behavior.undesired),
        *(("desired", item) for item in behavior.desired),
        *(("prompt", prompt) for prompt in behavior.prompts),
    ]
    head = behavior.model_dump(mode="json", exclude={"undesired", "desired", "prompts"})
    _drop_late_(head)
    return to_json(head) + b"\n" + _text_lines(roles)


def with_preserved(lines: bytes, preserve: Sequence[Item]) -> bytes:
    """The lines of a behaviour, and those of items to preserve."""
    return lines + _text_lines([("preserve", item) for item in preserve])


def _text_lines(roles: Sequence[tuple[Role, Item | Prompt]]) -> bytes:
    lines = [_line.dump_python(TextLine(role=role, item=item), mode="json") for role, item in roles]
    for line in lines:
        _drop_late_(line["item"])
    return b"".join(to_json(line) + b"\n" for line in lines)


def from_lines(data: bytes) -> tuple[Behavior, tuple[Item, ...]]:
    """What `to_lines` wrote: the behaviour, and the items to preserve.

    Raises:
        CorruptArtifact: the bytes are not such lines.
    """
    head, *lines = data.split(b"\n")[:-1] or [b""]
    texts: dict[Role, list[Item | Prompt]] = {role: [] for role in get_args(Role)}
    try:
        for line in lines:
            read = _line.validate_json(line)
            texts[read.role].append(read.item)
        behavior = Behavior.model_validate(
            {
                **json.loads(head),
                "undesired": texts["undesired"],
                "desired": texts["desired"],
                "prompts": texts["prompt"],
            }
        )
    except ValueError as error:
        raise CorruptArtifact(f"the texts of a behaviour cannot be read: {error}") from error
    return behavior, tuple(item for item in texts["preserve"] if not isinstance(item, Prompt))
