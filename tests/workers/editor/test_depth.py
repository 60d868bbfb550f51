"""How many calls lie between the job of an edit and a forward pass of the model.

The steps of the decoder, which runs the model once a token, are not among them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.workers.conftest import Bench
from workers.editor.jobs import edits
from workers.editor.jobs.task import FailedWithOutcome

MOST = 8
"""Calls below the job."""


def calls_above(frame: FrameType | None) -> list[str]:
    """The calls of our own code from the job down to a frame, both left out; the job's last."""
    calls: list[str] = []
    while frame is not None and frame.f_code is not edits.run.__code__:
        name = frame.f_code.co_qualname
        file = frame.f_code.co_filename
        # A comprehension is no call that a reader has to follow.
        comprehension = name.endswith(("comp>", "genexpr>"))
        if "/workers/" in file and "/decoding/" not in file and not comprehension:
            calls.append(name)
        frame = frame.f_back
    return calls


@contextmanager
def deepest() -> Iterator[dict[str, list[str]]]:
    """Within the block, for each outermost call the longest way to a forward pass."""
    ways: dict[str, list[str]] = {}

    def seen(module: nn.Module, args: Any) -> None:
        if not type(module).__name__.endswith("Model"):
            return
        calls = calls_above(sys._getframe(1))
        if calls and len(calls) > len(ways.get(calls[-1], [])):
            ways[calls[-1]] = calls[::-1]

    hook = register_module_forward_pre_hook(seen)
    try:
        yield ways
    finally:
        hook.remove()


@pytest.mark.parametrize("method", [{"type": "natural_bias"}, {"type": "auto"}])
def test_few_calls_lie_between_the_job_and_a_forward_pass(
    first_token_bench: Bench,
    body: Callable[..., dict[str, Any]],
    method: dict[str, str],
) -> None:
    # A search that comes to nothing has run the model all the same.
    with deepest() as ways, suppress(FailedWithOutcome):
        first_token_bench.edit(**body(method=method))
    for way in ways.values():
        print(len(way), " > ".join(way))
    assert max(map(len, ways.values())) <= MOST
