"""Scorers that the operator brings: a server that scores texts, a language model that judges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from models_store.errors import InvalidRequest
from models_store.operator.scorers import HttpScorer, LlmJudge, OperatorScorer
from models_store.schemas.behaviors import Behavior
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.evaluation.scorers.remote.calls import Caller
from workers.evaluation.scorers.remote.questions import (
    MAX_CHARACTERS,
    ORDERS,
    message_of,
    question_of,
    seen_prompts,
)
from workers.evaluation.statistics import Floats

TOP_LOGPROBS = 5
"""As many as every server gives."""
MAX_UNCLEAR = 0.1
"""Share of a judge's responses that may be neither yes nor no."""
UNCLEAR = 0.5
"""The score of such a response."""


class Http:
    """Sends texts in batches, each with its prompt."""

    def __init__(self, scorer: HttpScorer) -> None:
        self._scorer = scorer
        self._caller = Caller(scorer, scorer.url)

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        size = self._scorer.batch
        parts = [
            self._batch(prompts[start : start + size], texts[start : start + size])
            for start in range(0, len(texts), size)
        ]
        return np.array([score for part in parts for score in part], dtype=np.float64)

    def _batch(self, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        body = {
            "prompts": [prompt[:MAX_CHARACTERS] for prompt in prompts],
            "texts": [text[:MAX_CHARACTERS] for text in texts],
        }
        scores = self._caller.post(body).get("scores")
        if not isinstance(scores, list):
            raise self._caller.refuse('does not return {"scores": […]}')
        if len(scores) != len(texts):
            raise self._caller.refuse(f"returns {len(scores)} scores for {len(texts)} texts")
        for index, score in enumerate(scores):
            if not _is_share(score):
                raise self._caller.refuse(
                    f"returns {score!r:.50} as scores.{index}; a score is a number from 0 to 1"
                )
        return [float(score) for score in scores]


class Judge:
    """Requests one token, yes or no; its probability counts where the server gives it."""

    def __init__(self, scorer: LlmJudge, behavior: Behavior) -> None:
        self._scorer = scorer
        self._behavior = behavior
        self._question = scorer.question or question_of(behavior)
        self._caller = Caller(scorer, f"{scorer.base_url.rstrip('/')}/chat/completions")

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        shown = seen_prompts(self._behavior, prompts)
        with ThreadPoolExecutor(self._scorer.parallel) as pool:
            try:
                judged = list(pool.map(self._judge, shown, texts))
            except BaseException:
                # Nothing more is requested: one failure is enough.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        unclear = [word for score, word in judged if score is None]
        if len(unclear) > max(1, MAX_UNCLEAR * len(texts)):
            raise self._caller.refuse(
                f"says neither yes nor no to {len(unclear)} of {len(texts)} texts, "
                f"{unclear[0]!r:.50} for one"
            )
        scores = [UNCLEAR if score is None else score for score, _ in judged]
        return np.array(scores, dtype=np.float64)

    def _judge(self, prompt: str, text: str) -> tuple[float | None, str]:
        """The score, None where the response is neither yes nor no, and the word itself."""
        message = message_of(self._question, prompt, text, ORDERS[0])
        body: dict[str, Any] = {
            "model": self._scorer.model,
            "messages": [{"role": "user", "content": message}],
            "max_tokens": 1,
            "temperature": 0,
        }
        if self._scorer.logprobs:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        response = self._caller.post(body)
        try:
            choice = response["choices"][0]
            word = choice["message"]["content"] or ""
            alternatives = _alternatives(choice)
            by_word = {"yes": 1.0, "no": 0.0}.get(_word(word))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise self._caller.refuse("does not return a chat completion") from error
        return (by_word if alternatives is None else _share_of_yes(alternatives)), word


def make_remote(scorer: OperatorScorer, training: Training) -> Scorer:
    """The scorer as the operator configured it.

    Raises:
        InvalidRequest: the key that it needs is not set, or a judge has no behaviour.
    """
    if isinstance(scorer, HttpScorer):
        return Http(scorer)
    if training.behavior is None:
        raise InvalidRequest(f"the scorer {scorer.name} judges texts of a behaviour")
    return Judge(scorer, training.behavior)


def _is_share(score: Any) -> bool:
    number = isinstance(score, int | float) and not isinstance(score, bool)
    return number and math.isfinite(score) and 0 <= score <= 1


def _alternatives(choice: dict[str, Any]) -> list[tuple[str, float]] | None:
    """The first token's likeliest words with their log-probabilities; None if not given."""
    content = (choice.get("logprobs") or {}).get("content")
    if not content or not content[0].get("top_logprobs"):
        return None
    return [(top["token"], float(top["logprob"])) for top in content[0]["top_logprobs"]]


def _share_of_yes(alternatives: list[tuple[str, float]]) -> float | None:
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in alternatives:
        if _word(token) in mass:
            mass[_word(token)] += math.exp(min(logprob, 0.0))
    total = mass["yes"] + mass["no"]
    return mass["yes"] / total if total > 0 else None


def _word(text: str) -> str:
    return text.strip(" \t\r\n.,!\"'*").casefold()
