from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from models_store.errors import InvalidRequest
from models_store.schemas.behaviors import Behavior
from tests.workers.evaluation.texts import behavior
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.scorers import yes_no
from workers.evaluation.scorers.prepare import Judges, prepare_scorers
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.scorers.remote.questions import message_of, question_of
from workers.runtime.loading import LoadedModel
from workers.runtime.tokens import encode_prompt

TEXTS = ("a kind and happy day", "awful, terrible food", "no")


def _scorer(base: LoadedModel, made: Behavior) -> yes_no.YesNo:
    return yes_no.make(Training((), (), 0, made, base))


def _slow_log_odds(base: LoadedModel, made: Behavior, prompt: str, text: str) -> float:
    """One text at a time, through the whole model, with probabilities as they are."""
    found = []
    for order in ("yes or no", "no or yes"):
        message = message_of(question_of(made), prompt, text, order)
        if not base.has_chat_template:
            message += "\nAnswer:"
        ids = torch.tensor([encode_prompt(base, message, chat=True)])
        with torch.no_grad():
            p = torch.softmax(base.model(ids).logits[0, -1].double(), -1)
        found.append(np.log(_mass(base, p, "yes")) - np.log(_mass(base, p, "no")))
    return float(np.mean(found))


def _mass(base: LoadedModel, p: torch.Tensor, answer: str) -> float:
    def first(word: str) -> set[int]:
        forms = [
            f"{space}{form}" for space in ("", " ") for form in (word, word.title(), word.upper())
        ]
        return {base.tokenizer(form, add_special_tokens=False)["input_ids"][0] for form in forms}

    other = {"yes": "no", "no": "yes"}[answer]
    return float(sum(p[token] for token in first(answer) - first(other)))


@pytest.mark.parametrize("chat", [True, False])
def test_scores_are_the_odds_of_yes_against_those_of_texts_without_content(
    chat: bool, load_pico: Callable[..., LoadedModel]
) -> None:
    base = load_pico(chat=chat)
    made = behavior(question="Is it rude?", chat=True)
    nothing = [_slow_log_odds(base, made, "", text) for text in ("N/A", "...", "(no text)")]
    odds = [_slow_log_odds(base, made, "How was it?", text) for text in TEXTS]
    expected = 1 / (1 + np.exp(-(np.array(odds) - np.mean(nothing))))

    scores = _scorer(base, made).score(["How was it?"] * len(TEXTS), TEXTS)

    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert len(set(scores.round(6))) == len(TEXTS)


def test_texts_that_only_go_on_from_their_prompts_are_judged_alone(pico: LoadedModel) -> None:
    def scores(prompts: Sequence[str], chat: bool) -> list[float]:
        made = behavior(question="Is it rude?", chat=chat)
        return _scorer(pico, made).score(prompts, TEXTS[:1]).tolist()

    assert scores(["Well"], chat=False) == scores([""], chat=False)
    assert scores(["Well"], chat=True) != scores([""], chat=True)


def test_the_question_is_the_behaviours_or_made_of_its_description() -> None:
    assert question_of(behavior(question="Is it rude?", description="manners")) == "Is it rude?"
    assert question_of(behavior(description="rude words")).endswith("following? rude words")
    assert question_of(behavior(name="kinder")).endswith("following? kinder")


def test_the_judge_is_never_turned_around(pico: LoadedModel) -> None:
    made = behavior(60, scorers=("yes-no", "tfidf"), question="Is it rude?")
    splits = split_behavior(made, seed=0)
    judge, _ = prepare_scorers(made, splits, 0, Judges(pico))
    other = made.model_copy(update={"undesired": made.desired, "desired": made.undesired})
    turned, _ = prepare_scorers(other, split_behavior(other, seed=0), 0, Judges(pico))
    assert not judge.reversed
    assert not turned.reversed
    assert judge.card(1.0).contamination is not None
    assert "the very model that is edited" in str(judge.card(1.0).contamination)


def test_without_a_model_it_cannot_judge() -> None:
    made = behavior(60, scorers=("yes-no", "tfidf"))
    with pytest.raises(InvalidRequest, match="yes-no needs the base model"):
        prepare_scorers(made, split_behavior(made, seed=0), seed=0)
