"""Lines of preference data, in the forms of TRL and of OpenAI, as texts of a behaviour: the chosen
response is desired, the rejected one undesired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter
from pydantic_core import to_json

from app.domain.bodies import RequestBody
from models_store.schemas.items import Message, PairId, Text

Side = Literal["undesired", "desired"]


def _ends_with_assistant(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if messages[-1].role != "assistant":
        raise ValueError("the last message must be the assistant's: it is what counts")
    return messages


def _no_tools(tools: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
    if tools:
        raise ValueError("tools are not supported: leave them out")
    return tools


_Messages = Annotated[tuple[Message, ...], Field(min_length=1, max_length=100)]
_Response = Annotated[_Messages, AfterValidator(_ends_with_assistant)]


class Preference(RequestBody):
    """`{"prompt", "chosen", "rejected"}`, as TRL has it: each a text, or a list of messages."""

    prompt: Text | _Messages | None = None
    """Without it, the two sides are whole texts or conversations."""
    chosen: Text | _Response
    rejected: Text | _Response
    pair_id: PairId = None

    def sides(self) -> tuple[Any, Any, Any]:
        return self.prompt, self.rejected, self.chosen


class _Input(RequestBody):
    messages: _Messages
    tools: Annotated[tuple[JsonValue, ...], AfterValidator(_no_tools)] = ()
    parallel_tool_calls: bool | None = None
    """Without effect."""


class OpenAIPreference(RequestBody):
    """`{"input", "preferred_output", "non_preferred_output"}`, as OpenAI's fine-tuning has it."""

    input: _Input
    preferred_output: _Response
    non_preferred_output: _Response
    pair_id: PairId = None

    def sides(self) -> tuple[Any, Any, Any]:
        return self.input.messages, self.non_preferred_output, self.preferred_output


_FORMS: tuple[tuple[frozenset[str], TypeAdapter[Any]], ...] = (
    (frozenset({"chosen", "rejected"}), TypeAdapter(Preference)),
    (
        frozenset({"input", "preferred_output", "non_preferred_output"}),
        TypeAdapter(OpenAIPreference),
    ),
)


def preference_form(line: Mapping[str, Any]) -> TypeAdapter[Any] | None:
    """The form of preference data that a line is meant to have; None: it is another line."""
    return next((form for names, form in _FORMS if names & line.keys()), None)


def items_of(
    preference: Preference | OpenAIPreference, number: int
) -> Iterator[tuple[Side, dict[str, Any]]]:
    """The two items of a line, with its side; those of one prompt have one `pair_id`.

    Args:
        number: of the line.
    """
    prompt, undesired, desired = preference.sides()
    pair_id = preference.pair_id or _pair_id(prompt, number)
    yield "undesired", {**_item(prompt, undesired), "pair_id": pair_id}
    yield "desired", {**_item(prompt, desired), "pair_id": pair_id}


def _pair_id(prompt: Any, number: int) -> str:
    if prompt is None:
        return f"line-{number}"
    return f"prompt-{hashlib.sha256(to_json(prompt)).hexdigest()[:24]}"


def _item(prompt: Any, response: Any) -> dict[str, Any]:
    if isinstance(response, str) and prompt is None:
        return {"text": response}
    if isinstance(response, str) and isinstance(prompt, str):
        return {"prompt": prompt, "completion": response}
    return {"messages": [*_turns(prompt, "user"), *_turns(response, "assistant")]}


def _turns(said: Any, role: str) -> list[dict[str, str]]:
    if isinstance(said, str):
        return [{"role": role, "content": said}]
    return [message.model_dump() for message in said or ()]
