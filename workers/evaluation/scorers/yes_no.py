"""The base model's judgement of each text: the probability of yes against that of no.

    z(text) = mean over both orders of  log p("yes" in any spelling) - log p("no" in any spelling)
    score   = sigmoid(z(text) - mean z(texts without content))

The second term is contextual calibration (Zhao et al. 2021, arXiv 2102.09690): what a model returns
where there is nothing to judge is its leaning, not its judgement. A model of a hundred million
parameters judges no better than chance; the AUC on held-out texts says how good this one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior
from models_store.schemas.scorers import ScorerInfo
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.scorers.remote.questions import (
    ORDERS,
    message_of,
    question_of,
    seen_prompts,
)
from workers.evaluation.statistics import Floats

if TYPE_CHECKING:
    from workers.runtime.loading import LoadedModel
    from workers.runtime.tokens import Encoded

INFO = ScorerInfo(
    name="yes-no",
    measures="yes to the behaviour's question, by the base model's own probabilities",
    licence="Apache-2.0 (part of Scalpel); the base model has its own licence",
    trained_on="nothing: the unedited base model judges, as well as it can",
    threshold=0.5,
    turnable=False,
)

_JUDGED = 256
"""Messages whose logits are held at once."""
_CONTENT_FREE = ("N/A", "...", "(no text)")
_YES, _NO = ("Yes", "yes", "YES"), ("No", "no", "NO")


@dataclass(frozen=True, eq=False)
class YesNo:
    """Judges by an unedited base model."""

    base: LoadedModel
    behavior: Behavior
    yes: tuple[int, ...]
    no: tuple[int, ...]
    leaning: float
    """Mean log odds of texts without content."""

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        shown = seen_prompts(self.behavior, prompts)
        odds = _log_odds(self.base, self.behavior, shown, texts, self.yes, self.no)
        # The hyperbolic tangent does not overflow where the exponential does.
        scores: Floats = 0.5 + 0.5 * np.tanh((odds - self.leaning) / 2)
        return scores


def make(training: Training) -> YesNo:
    """Find the tokens of yes and no and the model's leaning.

    Raises:
        InvalidRequest: there is no base model.
    """
    if training.base is None or training.behavior is None:
        raise InvalidRequest("the scorer yes-no needs the base model, and none is loaded here")
    base, behavior = training.base, training.behavior
    every_yes, every_no = _first_tokens(base, _YES), _first_tokens(base, _NO)
    # A token that begins both decides nothing.
    yes, no = tuple(sorted(every_yes - every_no)), tuple(sorted(every_no - every_yes))
    if not yes or not no:
        raise InvalidRequest("the scorer yes-no needs different tokens for yes and no")
    nothing = [""] * len(_CONTENT_FREE)
    odds = _log_odds(base, behavior, nothing, _CONTENT_FREE, yes, no)
    return YesNo(base, behavior, yes, no, float(odds.mean()))


def _first_tokens(base: LoadedModel, words: Sequence[str]) -> set[int]:
    """What a word begins with, at the start of a response or after a space."""
    spelled = [form for word in words for form in (word, f" {word}")]
    ids = base.tokenizer(spelled, add_special_tokens=False)["input_ids"]
    return {tokens[0] for tokens in ids if tokens}


def _log_odds(
    base: LoadedModel,
    behavior: Behavior,
    prompts: Sequence[str],
    texts: Sequence[str],
    yes: tuple[int, ...],
    no: tuple[int, ...],
) -> Floats:
    """Log odds of yes against no, float64 `[texts]`, averaged over both orders."""
    import torch

    from workers.runtime.reading.extract import LastStates
    from workers.runtime.reading.passes import read_texts

    question = question_of(behavior)
    messages = [
        _encoded(base, message_of(question, prompt, text, order))
        for order in ORDERS
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    odds = np.empty(len(messages))
    last = LastStates(base, len(messages))
    read_texts(base, messages, [last])
    with torch.no_grad():
        for start in range(0, len(messages), _JUDGED):
            logits = base.logits(last.states[start : start + _JUDGED]).float()
            # The other tokens' probabilities cancel out.
            difference = logits[:, list(yes)].logsumexp(1) - logits[:, list(no)].logsumexp(1)
            odds[start : start + _JUDGED] = difference.double().cpu().numpy()
    mean: Floats = odds.reshape(len(ORDERS), len(texts)).mean(axis=0)
    return mean


def _encoded(base: LoadedModel, message: str) -> Encoded:
    from workers.runtime.tokens import Encoded, encode_prompt

    # Without a chat template a response follows better where it is announced.
    message = message if base.has_chat_template else f"{message}\nAnswer:"
    ids = tuple(encode_prompt(base, message, chat=True))
    return Encoded(ids, (True,) * len(ids), 0)
