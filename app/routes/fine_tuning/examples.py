"""Examples as OpenAI's fine-tuning has them, as the texts of a behaviour.

    {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}   dpo
    {"messages": […]}, or {"prompt": "…", "completion": "…"}                             supervised

Of preferences, the preferred response is desired and the other one undesired. Of a conversation
every response with a weight is desired; the undesired ones are then made by the base model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from app.completions.openai_requests import OpenAIMessage
from app.domain.bodies import Ignored, NoList, RequestBody
from app.request.strict_input.json_body import validated
from app.routes.fine_tuning.lines import wrong_file, wrong_line
from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import MAX_PROMPTS, MAX_TEXTS, Behavior
from models_store.schemas.generation import ChatMessage
from models_store.schemas.items import (
    ChatItem,
    CompletionItem,
    Item,
    Prompt,
    prompt_of,
    text_of,
)

MethodType = Literal["supervised", "dpo"]
Messages = Annotated[list[OpenAIMessage], Field(min_length=1, max_length=100)]
Output = Annotated[list[OpenAIMessage], Field(min_length=1, max_length=1)]
_MOST_PROBLEMS = 100


class PreferenceInput(RequestBody):
    messages: Messages
    tools: NoList = None
    parallel_tool_calls: Ignored = None


class Preference(RequestBody):
    """A line for `dpo`."""

    input: PreferenceInput
    preferred_output: Output
    non_preferred_output: Output


class ExampleMessage(OpenAIMessage):
    weight: Literal[0, 1] | None = None
    """0: a response that is not learned from."""


class Conversation(RequestBody):
    """A line for `supervised`."""

    messages: Annotated[list[ExampleMessage], Field(min_length=1, max_length=100)]
    tools: NoList = None
    functions: NoList = None
    parallel_tool_calls: Ignored = None


class Completion(RequestBody):
    """A line for `supervised`, without a chat template."""

    prompt: Annotated[str, Field(min_length=1)]
    completion: Annotated[str, Field(min_length=1)]


_preference = TypeAdapter(Preference)
_conversation = TypeAdapter(Conversation)
_completion = TypeAdapter(Completion)
_chat: TypeAdapter[ChatItem] = TypeAdapter(ChatItem)


@dataclass
class Examples:
    """What a file has."""

    undesired: list[Item] = field(default_factory=list)
    desired: list[Item] = field(default_factory=list)

    @property
    def chat(self) -> bool:
        """Whether they are conversations."""
        return isinstance(self.desired[0], ChatItem)


def examples_of(
    method: MethodType, name: str, lines: Iterable[tuple[int, dict[str, Any]]], most_bytes: int
) -> Examples:
    """The examples of a file.

    Args:
        name: of the field of the request that the file is in.
        lines: number and object of each.
        most_bytes: of the texts that they become: of a conversation each response that is learned
            from has all that was said before it.

    Raises:
        InvalidRequest: `invalid_training_file`; the message names the first wrong line, and how
            many are wrong.
    """
    found, problems, size = Examples(), [], 0
    read = _add_preference if method == "dpo" else _add_supervised
    for number, line in lines:
        before = len(found.desired)
        try:
            read(found, number, line)
            size += sum(size_of(item) for item in found.desired[before:])
        except InvalidRequest as error:
            problems.append(wrong_line(name, number, error.message))
            if len(problems) == _MOST_PROBLEMS:
                break
        if len(found.desired) + len(found.undesired) > MAX_TEXTS:
            most = MAX_TEXTS // 2 if method == "dpo" else MAX_TEXTS
            raise wrong_line(name, number, f"it is one too many: at most {most} examples fit")
        if size > most_bytes:
            detail = (
                f"with it the texts have more than {most_bytes} bytes, since each response has all "
                "that was said before it: send shorter conversations, or weight 0 for early ones"
            )
            raise wrong_line(name, number, detail)
    if problems:
        raise _together(name, problems)
    return found


def size_of(item: Item) -> int:
    """Bytes of a text with all before it."""
    if isinstance(item, ChatItem):
        return sum(len(message.content.encode()) for message in item.messages)
    return len((prompt_of(item) + text_of(item)).encode())


def prompts_of(name: str, examples: Examples) -> tuple[Prompt, ...]:
    """The last question of every example, each once.

    Raises:
        InvalidRequest: there are too many, or an example asks nothing.
    """
    texts = dict.fromkeys(map(prompt_of, examples.desired))
    if "" in texts:
        raise wrong_file(name, f"{name}: each example needs a message of the user")
    if len(texts) > MAX_PROMPTS:
        raise wrong_file(name, f"{name}: {len(texts)} prompts, and at most {MAX_PROMPTS} fit")
    return tuple(Prompt(text=text) for text in texts)


def behavior_of(
    method: MethodType, name: str, training: Examples, validation: Examples | None
) -> Behavior:
    """A behaviour with those texts, and the prompts of the validation file.

    Raises:
        InvalidRequest: as `prompts_of`.
    """
    return Behavior(
        name=name,
        undesired=tuple(training.undesired),
        desired=tuple(training.desired),
        undesired_from="base_model" if method == "supervised" else None,
        prompts=() if validation is None else prompts_of("validation_file", validation),
        chat=training.chat,
    )


def _together(name: str, problems: Sequence[InvalidRequest]) -> InvalidRequest:
    more = len(problems) - 1
    rest = f" (and {more} more wrong line{'s' if more > 1 else ''})" if more else ""
    return wrong_file(name, problems[0].message + rest)


def _add_preference(found: Examples, number: int, line: dict[str, Any]) -> None:
    if "input" not in line and ("messages" in line or "prompt" in line):
        raise InvalidRequest(
            "an example for the method dpo has input, preferred_output and non_preferred_output; "
            "this one is for the method supervised"
        )
    preference: Preference = validated(_preference, to_json(line), line)
    asked = [message.plain() for message in preference.input.messages]
    (preferred,), (other,) = preference.preferred_output, preference.non_preferred_output
    for side, message in (("preferred_output", preferred), ("non_preferred_output", other)):
        if message.role != "assistant":
            raise InvalidRequest(f"{side}.0.role: it must be assistant, not {message.role}")
    if preferred.plain().content == other.plain().content:
        raise InvalidRequest("preferred_output and non_preferred_output are the same")
    found.desired.append(_item([*asked, preferred.plain()], number, "preferred_output"))
    found.undesired.append(_item([*asked, other.plain()], number, "non_preferred_output"))


def _add_supervised(found: Examples, number: int, line: dict[str, Any]) -> None:
    if "input" in line or "preferred_output" in line:
        raise InvalidRequest(
            "an example for the method supervised has messages; this one is for the method dpo: "
            'send "method": {"type": "dpo"}'
        )
    if "prompt" in line or "completion" in line:
        items = [_pair(line, number)]
    else:
        items = _responses(line, number)
    if found.desired and isinstance(found.desired[0], ChatItem) != isinstance(items[0], ChatItem):
        raise InvalidRequest("earlier lines have the other form: use messages in all, or in none")
    found.desired += items


def _pair(line: dict[str, Any], number: int) -> Item:
    pair: Completion = validated(_completion, to_json(line), line)
    try:
        return CompletionItem(
            prompt=pair.prompt, completion=pair.completion, pair_id=f"line-{number}"
        )
    except ValidationError as error:
        raise _invalid(error) from None


def _responses(line: dict[str, Any], number: int) -> list[Item]:
    """Every response of a conversation that is learned from, with what was said before it."""
    conversation: Conversation = validated(_conversation, to_json(line), line)
    messages = conversation.messages
    if messages[-1].role != "assistant":
        last = len(messages) - 1
        raise InvalidRequest(f"messages.{last}.role: the last message must be the assistant's")
    plain = [message.plain() for message in messages]
    items: list[Item] = [
        _item(plain[: end + 1], number, "messages")
        for end, message in enumerate(messages)
        if message.role == "assistant" and message.weight != 0
    ]
    if not items:
        raise InvalidRequest("messages: every response has the weight 0: nothing is learned from")
    for item in items:
        if not prompt_of(item):
            raise InvalidRequest("messages: a response needs a message of the user before it")
    return items


def _item(messages: Sequence[ChatMessage], number: int, where: str) -> Item:
    given = [{"role": one.role, "content": one.content} for one in messages]
    try:
        return _chat.validate_python({"messages": given, "pair_id": f"line-{number}"})
    except ValidationError as error:
        if error.errors()[0]["loc"][:2] == ("messages", len(messages) - 1):
            raise InvalidRequest(f"{where}: its content: {error.errors()[0]['msg']}") from None
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidRequest:
    problem = error.errors()[0]
    return InvalidRequest(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
