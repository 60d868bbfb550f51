"""Chat templates come with a model, and are programs: one that would go on for ever, or write
without end, is stopped.

The library runs them in Jinja's sandbox, which keeps them from everything but the messages; it
does not count their steps.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from models_store.errors import InvalidRequest

MAX_SECONDS = 10.0
MAX_CHARACTERS = 4_000_000
_MAX_GROWTH_KIB = 512 * 2**10
"""Of the memory of the process meanwhile."""
_LINES_BETWEEN_LOOKS = 200
_TEMPLATE_FILE = "<template>"
"""What Jinja calls the code that it makes of a template."""


def takes_system_message(tokenizer: Any) -> bool:
    """Whether the template has a place of its own for a system message, or at least marks it.

    Some templates refuse one (Gemma 2), and some put it before the user's words in the user's own
    turn (Gemma 3), where a model cannot tell the two apart.
    """
    system, user = "A system message.", "A message of the user."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    try:
        text = render_chat(tokenizer, messages)
    except InvalidRequest:
        return False
    _, told, after = text.partition(system)
    between, asked, _ = after.partition(user)
    return bool(told and asked and between.strip())


class _TooMuch(BaseException):
    """Of no kind that a template's own code, or the library, would catch."""


def render_chat(
    tokenizer: Any, messages: Sequence[dict[str, str]], *, seconds: float = MAX_SECONDS
) -> str:
    """The conversation in the tokenizer's template, up to where the assistant is to speak.

    Raises:
        InvalidRequest: the template refuses the conversation, or takes too long or too much memory.
    """
    watch = _Watch(time.monotonic() + seconds, _peak_kib() + _MAX_GROWTH_KIB)
    before = sys.gettrace()
    sys.settrace(watch.called)
    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
    except (_TooMuch, MemoryError, OverflowError, RecursionError) as error:
        raise InvalidRequest(
            f"the chat template of this base model does not come to an end ({error})"
        ) from error
    except Exception as error:  # whatever a program may raise
        raise InvalidRequest(f"the chat template refuses the conversation: {error}") from error
    finally:
        sys.settrace(before)
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(f"the chat template makes {len(text)} characters of the conversation")
    return text


class _Watch:
    """Follows the lines of templates, of no other code, and looks at clock and memory."""

    def __init__(self, deadline: float, most_kib: int) -> None:
        self._deadline = deadline
        self._most_kib = most_kib
        self._lines = 0

    def called(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename == _TEMPLATE_FILE else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._lines += 1
        if self._lines % _LINES_BETWEEN_LOOKS == 0 and time.monotonic() > self._deadline:
            raise _TooMuch("too many steps")
        if _peak_kib() > self._most_kib:
            raise _TooMuch("too much memory")
        return self._line


def _peak_kib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 2**10 if sys.platform == "darwin" else peak
