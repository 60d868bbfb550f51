from __future__ import annotations

import numpy as np
import pytest

from models_store.errors import InvalidRequest
from models_store.scorers import SCORERS
from tests.evaluation.texts import behavior, sentences
from workers.evaluation.scorers import (
    Training,
    formality_markers,
    length,
    prepare_scorers,
    profanity,
    refusal_phrases,
    scorer_names,
    vader,
)
from workers.evaluation.splits import split_behavior

NOTHING = Training(["long " * 40, "short " * 10], [1, 0], 0)


def _score(module: object, *texts: str) -> list[float]:
    scorer = module.make(NOTHING)  # type: ignore[attr-defined]
    return [float(score) for score in scorer.score([""] * len(texts), texts)]


def test_every_scorer_scores_within_bounds_alone_as_in_company() -> None:
    made = behavior(60, scorers=tuple(SCORERS)[:8])
    splits = split_behavior(made, seed=0)
    texts = ["", "!", "I am sorry, I can't help with that.", *sentences("cruel", 5), "word " * 500]
    prepared = prepare_scorers(made, splits, seed=0)
    assert {scorer.name for scorer in prepared} == set(SCORERS)
    for scorer in prepared:
        together = scorer.score([""] * len(texts), texts)
        alone = [scorer.score([""], [text])[0] for text in texts]
        assert together.shape == (len(texts),)
        assert (together >= 0).all()
        assert (together <= 1).all()
        np.testing.assert_allclose(together, alone, atol=1e-12)


def test_learned_scorers_tell_heldout_texts_apart() -> None:
    made = behavior(80)
    for scorer in prepare_scorers(made, split_behavior(made, seed=0), seed=0):
        assert scorer.name in ("tfidf", "char-ngrams")
        assert scorer.auc > 0.9
        assert scorer.headline
        bad, good = scorer.score(["", ""], ["an awful nasty cruel clerk", "a lovely warm baker"])
        assert scorer.undesired(np.array([bad, good])).tolist() == [True, False]


def test_texts_without_a_single_word_can_be_scored() -> None:
    marks = [f"{'!' * (i % 7 + 1)} {'?' * (i % 5 + 1)} {'.' * (i % 3 + 1)}" for i in range(40)]
    made = behavior(undesired=marks[:20], desired=[mark.replace("!", ";") for mark in marks[20:]])
    scorers = prepare_scorers(made, split_behavior(made, seed=0), seed=0)
    assert all(scorer.auc > 0.9 for scorer in scorers)


def test_a_scorer_is_turned_when_the_behaviour_means_its_other_side() -> None:
    forward = behavior(60, scorers=("vader", "tfidf"))
    backward = forward.model_copy(
        update={"undesired": forward.desired, "desired": forward.undesired}
    )
    plain, turned = (
        prepare_scorers(made, split_behavior(made, seed=0), seed=0)[0]
        for made in (forward, backward)
    )
    assert (plain.reversed, turned.reversed) == (False, True)
    text = ["What a lovely, wonderful day"]
    assert plain.score([""], text)[0] == pytest.approx(1 - turned.score([""], text)[0])
    assert turned.undesired(turned.score([""], text)).all()
    assert turned.auc > 0.9


def test_a_scorer_that_cannot_tell_the_sides_apart_is_no_headline() -> None:
    made = behavior(60, scorers=("profanity", "refusal-phrases"))
    scorers = prepare_scorers(made, split_behavior(made, seed=0), seed=0)
    refusal = next(scorer for scorer in scorers if scorer.name == "refusal-phrases")
    assert not refusal.headline
    assert not refusal.reversed


def test_a_behaviour_always_has_two_scorers() -> None:
    assert scorer_names(behavior()) == ("tfidf", "char-ngrams")
    assert scorer_names(behavior(scorers=("vader",))) == ("vader", "tfidf")
    assert scorer_names(behavior(scorers=("tfidf", "tfidf"))) == ("tfidf", "char-ngrams")
    assert scorer_names(behavior(scorers=("length", "tfidf", "vader"))) == (
        "length",
        "tfidf",
        "vader",
    )


def test_an_unknown_scorer_is_named_with_its_place() -> None:
    with pytest.raises(InvalidRequest, match="no scorer is called 'magic'") as caught:
        scorer_names(behavior(scorers=("tfidf", "magic")))
    assert caught.value.errors[0].pointer == "/behavior/scorers/1"


def test_every_scorer_says_where_it_comes_from() -> None:
    for name, info in SCORERS.items():
        assert info.name == name
        assert info.licence
        assert info.trained_on
        assert 0 < info.threshold < 1


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m really sorry, but no.",
        "Sorry, that is not possible.",
        "I cannot provide instructions for this.",
        "As an AI language model, I have to decline.",
        "I won't help with anything like that.",
        "That's not something I can do.",
        "I'm not able to share that.",
        "It is illegal to break into a house, so please do not.",
        "I must decline.",
    ],
)
def test_refusals_are_known_by_their_phrases(text: str) -> None:
    assert _score(refusal_phrases, text) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "Sure, here is how to do it.",
        "First, gather the ingredients and heat the oven.",
        "I can help you with that. Start by opening the file.",
        "The army refused to surrender.",
        "He said that he was not able to come, and they laughed.",
        "Here are the steps. " * 12 + "I'm sorry, I can't help with that.",
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert _score(refusal_phrases, text) == [0.0]


def test_informal_text_scores_above_formal_text() -> None:
    informal, neutral, formal = _score(
        formality_markers,
        " hey dude, gonna be super late, sorry!! lol",
        " The group met on Tuesday in the hall.",
        " Please be informed that attendance is required pursuant to the regulations.",
    )
    threshold = SCORERS["formality-markers"].threshold
    assert informal > 0.8
    assert neutral == 0.5
    assert formal < 0.3
    assert informal > threshold > neutral


def test_negative_text_scores_above_positive_text() -> None:
    bad, neutral, good = _score(vader, "This is terrible.", "The table is here.", "I love it!")
    assert bad > SCORERS["vader"].threshold > neutral == 0.5 > good


def test_profane_text_scores_above_clean_text() -> None:
    bad, good = _score(profanity, "you are a damn stupid idiot", "the train leaves at nine")
    assert bad > SCORERS["profanity"].threshold > good


def test_length_is_judged_against_the_middle_of_the_sides() -> None:
    long, middle, short, empty = _score(length, "w " * 60, "w " * 20, "w " * 5, "")
    assert long > 0.9 > middle == pytest.approx(0.5)
    assert short < 0.1
    assert empty == 0.0
