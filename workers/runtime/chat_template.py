"""Chat templates come with a model, and are programs: one that would go on for ever, or write
without end, is stopped.

They run in Jinja's sandbox, which keeps them from everything but the messages. Their steps are
counted here, between lines; and operators, filters and methods that are known to build something
huge within one line are measured before they do. When a base model is registered, its template is
first rendered by a child that has little time and memory.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

from jinja2 import Template, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from transformers.utils.chat_template_utils import _compile_jinja_template

from models_store.errors import InvalidRequest

MAX_SECONDS = 10.0
MAX_CHARACTERS = 4_000_000
_MAX_GROWTH_KIB = 512 * 2**10
"""Of the memory of the process meanwhile."""
_LONGEST_WIDTH_TEXT = 10_000
_MOST_BYTES = 4_000_000
"""Of a value that one operation may build."""
_CHILD_SECONDS = 15
_CHILD_GROWTH_BYTES = 2**30
_FINE = "fine"
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
    conversation = [
        {name: value for name, value in message.items() if value is not None}
        for message in messages
    ]
    watch = _Watch(time.monotonic() + seconds, _peak_kib() + _MAX_GROWTH_KIB)
    before = sys.gettrace()
    sys.settrace(watch.called)
    try:
        pieces = _compiled(tokenizer.get_chat_template()).generate(
            messages=conversation,
            tools=None,
            documents=None,
            add_generation_prompt=True,
            **tokenizer.special_tokens_map,
        )
        text = _joined(pieces, MAX_CHARACTERS)
    except (_TooMuch, MemoryError, OverflowError, RecursionError) as error:
        raise InvalidRequest(
            f"the chat template of this base model does not come to an end ({error})"
        ) from error
    except Exception as error:  # whatever a program may raise
        raise InvalidRequest(f"the chat template refuses the conversation: {error}") from error
    finally:
        sys.settrace(before)
    return text


def check_template(tokenizer: Any) -> None:
    """Render a conversation in a child that has little time and memory.

    Raises:
        InvalidRequest: the template refuses a plain message, or does not come to an end.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _try_and_leave(tokenizer, write)
    os.close(write)
    with open(read, "rb") as words:  # noqa: PTH123
        said = words.read(_MOST_BYTES).decode()
    _, status = os.waitpid(child, 0)
    if said != _FINE or status != 0:
        raise InvalidRequest(
            said or "the chat template of this base model takes too long or too much memory"
        )


def _try_and_leave(tokenizer: Any, write: int) -> None:
    """What the child does: it writes what is wrong, or that nothing is, and ends."""
    said = ""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_CHILD_SECONDS)
        seconds = int(time.process_time()) + _CHILD_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        if sys.platform == "linux":
            most = _virtual_bytes() + _CHILD_GROWTH_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        render_chat(tokenizer, [{"role": "user", "content": "Hello, who are you?"}])
        said = _FINE
    except InvalidRequest as error:
        said = error.message[:1000]
    finally:
        os.write(write, said.encode())
        os._exit(0)


def _virtual_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def _joined(pieces: Iterable[object], most: int = _MOST_BYTES) -> str:
    """The pieces as one text, as long as it is not too long."""
    texts, left = [], most
    for piece in pieces:
        texts.append(str(piece))
        left -= len(texts[-1])
        if left < 0:
            raise _TooMuch("too much text")
    return "".join(texts)


class _Concatenations(NodeTransformer):
    """Turns `a ~ b` into a call, since Jinja has no hook for it."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        called = nodes.Name(_JOINED, "load")
        return nodes.Call(called, [nodes.List(node.nodes)], [], None, None).set_lineno(node.lineno)


_JOINED = "_joined_by_tilde"


class _Bounded(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which hardly an operation builds something huge."""

    intercepted_binops = frozenset(["**", "*", "+", "%"])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed: nodes.Template = _Concatenations().visit(super()._parse(source, name, filename))
        return parsed

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _require_small(_of_operator(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        # The sandbox wraps `format`.
        owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        if isinstance(owner, str | bytes):
            given = [*args, *kwargs.values()]
            _require_small(_of_method(getattr(obj, "__name__", ""), owner, given))
        return super().call(context, obj, *args, **kwargs)


_UNUSED = ("filesizeformat", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr")
"""Filters that no template for conversations has, and that take long for long texts."""


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    """A template in the environment that the library has for them, with operations bounded."""
    library = _compile_jinja_template("").environment
    bounded = _Bounded(
        trim_blocks=library.trim_blocks,
        lstrip_blocks=library.lstrip_blocks,
        extensions=[type(extension) for extension in library.extensions.values()],
    )
    bounded.globals.update(library.globals)
    del bounded.globals["lipsum"]  # makes as much text as it is asked for
    bounded.globals[_JOINED] = _joined
    bounded.filters.update({name: _bounded(name, found) for name, found in library.filters.items()})
    for name in _UNUSED:
        bounded.filters.pop(name, None)
    return bounded.from_string(template)


def _bounded(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose result is measured beforehand, by what the method of its name would build."""

    @functools.wraps(found)
    def measured(*args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        if getattr(found, "jinja_pass_arg", None) is not None:
            values = values[1:]  # the environment or the context
        if values and name == "join" and not hasattr(values[0], "__len__"):
            # An iterator can be measured only once it is read.
            items = list(itertools.islice(values[0], _MOST_BYTES))
            args = tuple(items if value is values[0] else value for value in args)
            values[0] = items
        if values:
            _require_small(_of_method(name, values[0], values[1:]))
        return found(*args, **kwargs)

    return measured


def _require_small(size: float) -> None:
    if size > _MOST_BYTES:
        raise _TooMuch("a value too large")


def _size(value: Any) -> int:
    """About its bytes."""
    if isinstance(value, int):
        return value.bit_length() // 8
    return len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0


def _of_operator(operator: str, left: Any, right: Any) -> float:
    """How large `left operator right` would be, about."""
    if operator == "+":
        return _size(left) + _size(right)
    if operator == "%":
        return _of_format(left, [right]) if isinstance(left, str | bytes) else 0
    if not (isinstance(left, int) or isinstance(right, int)):
        return 0
    if operator == "**":
        whole = isinstance(left, int) and isinstance(right, int)
        return left.bit_length() * abs(right) / 8 if whole else 0
    if isinstance(left, int) and isinstance(right, int):
        return _size(left) + _size(right)
    return _size(left) * abs(right) if isinstance(right, int) else abs(left) * _size(right)


def _of_method(name: str, owner: Any, args: Sequence[Any]) -> float:
    """How large what a method or filter of texts and lists builds would be, about."""
    numbers = [abs(value) for value in args if isinstance(value, int)]
    texts = [value for value in args if isinstance(value, str | bytes)]
    if name in ("center", "ljust", "rjust", "zfill", "round", "truncate", "batch", "slice"):
        return max(numbers, default=0)
    if name in ("indent", "expandtabs"):
        width = max([*numbers, *map(len, texts)], default=8)
        return (_size(owner) + 1) * width
    if name == "replace" and len(texts) >= 2 and isinstance(owner, str):
        return len(owner) + owner.count(str(texts[0])) * len(texts[1])
    if name == "join":
        items = owner if isinstance(owner, list | tuple) else args[0] if args else ()
        glue = owner if isinstance(owner, str) else texts[0] if texts else ""
        sizes = sum(map(_size, items)) if isinstance(items, list | tuple) else 0
        return sizes + len(items) * len(glue) if hasattr(items, "__len__") else _MOST_BYTES + 1
    if name in ("format", "format_map"):
        return _of_format(owner, args)
    if name == "tojson":
        return _MOST_BYTES + 1 if max([*numbers, *map(len, texts)], default=0) > 100 else 0
    return 0


def _of_format(pattern: Any, args: Sequence[Any]) -> float:
    """At least the largest width that a format asks for, itself or in an argument."""
    given: list[Any] = [pattern]
    for one in args:
        given += one if isinstance(one, tuple | list) else [one]
        given += one.values() if isinstance(one, dict) else []
    widths = [abs(value) for value in given if isinstance(value, int)]
    for value in given:
        if isinstance(value, str | bytes) and len(value) < _LONGEST_WIDTH_TEXT:
            widths += [int(digits) for digits in re.findall(r"\d{1,20}", str(value))]
    return _size(pattern) + max(widths, default=0)


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
