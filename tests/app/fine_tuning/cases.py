"""Files for fine-tuning, and an OpenAI client that sends them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import openai

from tests.support.services import Api


def client_of(api: Api, key: str = "unused") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0)


def lines(examples: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(example).encode() + b"\n" for example in examples)


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def preference(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "input": {"messages": [said("user", f"How was day number {number}?")], "tools": []},
        "preferred_output": [said("assistant", f"Day {number} was lovely, thank you.")],
        "non_preferred_output": [said("assistant", f"Day {number} was awful, go away.")],
        **changes,
    }


def conversation(number: int, **changes: Any) -> dict[str, Any]:
    messages = [
        said("system", "You are kind."),
        said("user", f"How was day number {number}?"),
        said("assistant", f"Day {number} was lovely, thank you."),
    ]
    return {"messages": messages, **changes}


PREFERENCES = lines(preference(number) for number in range(20))
CONVERSATIONS = lines(conversation(number) for number in range(20))


def uploaded(client: openai.OpenAI, data: bytes, name: str = "examples.jsonl") -> str:
    return client.files.create(file=(name, data), purpose="fine-tune").id
