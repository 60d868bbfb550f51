"""What an edited model should do as before: easy questions, JSON, calls of functions.

The questions and requests come with the project. Questions are answered by likelihood. Of the
requests those count that the model without the edit answers in the right form: the share of them
that the edited model answers so too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from models_store.presets import StructuredRequest, basic_questions, structured_requests
from models_store.schemas.measurements import SuiteMetric, SuiteResult
from workers import progress
from workers.evaluation.effect.generations import Generate, generate_arm
from workers.evaluation.statistics import Bools
from workers.evaluation.suites.capability.multiple_choice import Question, multiple_choice
from workers.evaluation.suites.protocol import ModelPair, greedy
from workers.runtime.tokens import encode_prompt

STRUCTURED_TOKENS = 64
_FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def basics(pair: ModelPair, base_text: Generate | None = None) -> SuiteResult:
    """Measure both models.

    Args:
        base_text: of the model without the edit, such as from a cache.
    """
    started = time.monotonic()
    questions = [Question(each.question, each.choices, each.answer) for each in basic_questions()]
    with progress.step("questions", 0.5):
        known = multiple_choice(pair, questions).model_copy(update={"name": "easy questions"})
    with progress.step("requests"):
        kept = tuple(_structured(pair, base_text or partial(generate_arm, pair.before)))
    return SuiteResult(
        name="basics",
        protocol=f"{len(questions)} easy questions by log-likelihood a byte; requests for JSON and "
        "for calls of functions, greedy, those that the base answers in that form",
        data="of Scalpel itself",
        metrics=(known, *kept),
        seconds=time.monotonic() - started,
    )


def _structured(pair: ModelPair, base_text: Generate) -> Iterator[SuiteMetric]:
    """Nothing of a model without a chat template, nor of a kind that the base never gives."""
    if not pair.loaded.has_chat_template:
        return
    requests, decoding = structured_requests(), greedy(STRUCTURED_TOKENS)
    ids = [encode_prompt(pair.loaded, each.prompt, chat=True) for each in requests]
    before = _well_formed(requests, base_text(ids, decoding).flat_texts())
    tried = [place for place, formed in enumerate(before) if formed]
    if not tried:
        return
    arm = generate_arm(pair.after, [ids[place] for place in tried], decoding)
    after = _well_formed([requests[place] for place in tried], arm.flat_texts())
    for kind, name in (("json", "valid JSON"), ("tool_call", "well-formed calls")):
        of_kind = np.array([requests[place].kind == kind for place in tried])
        if of_kind.any():
            kept = after[of_kind].astype(np.float64)
            yield pair.metric(name, np.ones_like(kept), kept, higher_is_better=True)


def _well_formed(requests: Sequence[StructuredRequest], texts: Sequence[str]) -> Bools:
    return np.array([well_formed(*each) for each in zip(requests, texts, strict=True)], dtype=bool)


def well_formed(request: StructuredRequest, text: str) -> bool:
    """Whether a text is the JSON that was asked for, and nothing else but a fence around it."""
    fenced = _FENCED.fullmatch(text.strip())
    try:
        value: Any = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, dict) and request.kind == "tool_call":
        value = value.get("arguments") if value.get("name") == request.name else None
    return isinstance(value, dict) and value.keys() >= set(request.keys)
