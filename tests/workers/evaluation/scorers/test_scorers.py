from __future__ import annotations

import numpy as np
import pytest

from models_store.errors import InvalidRequest
from models_store.presets import load_preset
from models_store.schemas.behaviors import Behavior
from models_store.schemas.scorers import SCORERS
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.scorers import (
    answer_match,
    formality_markers,
    length,
    politeness_markers,
    profanity,
    refusal_phrases,
    vader,
)
from workers.evaluation.scorers.prepare import Judges, make_scorer, prepare_scorers, scorer_names
from workers.evaluation.scorers.protocol import Scorer, Training
from workers.runtime.loading import LoadedModel

NOTHING = Training(["long " * 40, "short " * 10], [1, 0], 0)


def _score(module: object, *texts: str) -> list[float]:
    scorer = module.make(NOTHING)  # type: ignore[attr-defined]
    return [float(score) for score in scorer.score([""] * len(texts), texts)]


@pytest.mark.parametrize("names", [tuple(SCORERS)[:5], tuple(SCORERS)[5:]])
def test_every_scorer_scores_within_bounds_alone_as_in_company(
    names: tuple[str, ...], pico: LoadedModel
) -> None:
    made = behavior(60, scorers=names, prompts=[{"text": "Is it so?", "undesired_answer": "Yes"}])
    splits = split_behavior(made, seed=0)
    texts = ["", "!", "I am sorry, I can't help with that.", *sentences("cruel", 5), "word " * 500]
    prepared = prepare_scorers(made, splits, 0, Judges(pico))
    assert tuple(scorer.name for scorer in prepared) == names
    for scorer in prepared:
        together = scorer.score([""] * len(texts), texts)
        alone = [scorer.score([""], [text])[0] for text in texts]
        assert together.shape == (len(texts),)
        assert (together >= 0).all()
        assert (together <= 1).all()
        # A model reads batches of other shapes, and so rounds a little otherwise.
        atol = 1e-4 if scorer.name == "yes-no" else 1e-12
        np.testing.assert_allclose(together, alone, atol=atol)


def test_learned_scorers_tell_heldout_texts_apart() -> None:
    made = behavior(80)
    for scorer in prepare_scorers(made, split_behavior(made, seed=0), seed=0):
        assert scorer.name in ("tfidf", "char-ngrams")
        assert scorer.auc is not None
        assert scorer.auc > 0.9
        assert scorer.headline
        bad, good = scorer.score(["", ""], ["an awful nasty cruel clerk", "a lovely warm baker"])
        assert scorer.undesired(np.array([bad, good])).tolist() == [True, False]


def test_scorers_that_learn_have_no_text_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: dict[str, list[str]] = {}

    def noting(name: str, training: Training, operator: object) -> Scorer:
        learned[name] = list(training.texts)
        return make_scorer(name, training)

    monkeypatch.setattr("workers.evaluation.scorers.prepare.make_scorer", noting)
    made = behavior(100, scorers=("tfidf", "vader", "char-ngrams"))
    splits = split_behavior(made, seed=0)
    scorers = {scorer.name: scorer for scorer in prepare_scorers(made, splits, seed=0)}
    first, second = learned["tfidf"], learned["char-ngrams"]
    assert sorted(first + second) == sorted(splits.scorer.texts)
    assert not set(first) & set(second)
    assert abs(len(first) - len(second)) <= 2
    assert f"learned from {len(first)} of" in (scorers["tfidf"].contamination or "")
    prepare_scorers(behavior(100, scorers=("vader", "tfidf")), splits, seed=0)
    assert learned["tfidf"] == splits.scorer.texts
    few = behavior(60)  # shares of 7 or 8 texts a side would teach too little
    splits = split_behavior(few, seed=0)
    prepare_scorers(few, splits, seed=0)
    assert learned["tfidf"] == learned["char-ngrams"] == splits.scorer.texts


def test_texts_without_a_single_word_can_be_scored() -> None:
    marks = [f"{'!' * (i % 7 + 1)} {'?' * (i % 5 + 1)} {'.' * (i % 3 + 1)}" for i in range(80)]
    made = behavior(undesired=marks[:40], desired=[mark.replace("!", ";") for mark in marks[40:]])
    scorers = prepare_scorers(made, split_behavior(made, seed=0), seed=0)
    assert all(scorer.auc is not None and scorer.auc > 0.9 for scorer in scorers)


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
    assert turned.auc is not None
    assert turned.auc > 0.9


def test_silence_is_undesired_whatever_the_behaviour_means() -> None:
    forward = behavior(60, scorers=("vader", "tfidf"))
    backward = forward.model_copy(
        update={"undesired": forward.desired, "desired": forward.undesired}
    )
    for of in (forward, backward):
        for scorer in prepare_scorers(of, split_behavior(of, 0), 0):
            scores = scorer.score(["", "", ""], ["", " \n", "a kind and lovely day"])
            assert scores[:2].tolist() == [1.0, 1.0]
            assert scorer.undesired(scores).tolist()[:2] == [True, True]
            assert scores[2] < 1.0


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


# Words with a feeling, of which no two share a beginning.
_FELT = {
    "undesired": "abandoned betrayed chaos damage evil failure grief hate jealous killed lonely "
    "misery nightmare panic sad terror ugly victim worst agony bleak cried doom enemy",
    "desired": "adored beauty calm delight ease fun gift happy inspired joy kind love "
    "optimism praise rejoice smile triumph useful victory warm award brave cheer devoted",
}


def test_a_lexicon_stands_in_where_the_texts_teach_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every text is another word, so there is nothing to learn; a lexicon knows the words."""
    sides = {side: words.split() for side, words in _FELT.items()}
    made = behavior(**sides)
    splits = split_behavior(made, seed=0)
    leading, weak = prepare_scorers(made, splits, seed=0)
    assert (leading.name, leading.headline) == ("vader", True)
    assert (weak.name, weak.headline) == ("tfidf", False)
    assert leading.card(1.0).stands_in_for == "char-ngrams"
    assert weak.card(1.0).stands_in_for is None

    def default(of: Behavior) -> bool:
        return [one.name for one in prepare_scorers(of, splits, seed=0)] == ["tfidf", "char-ngrams"]

    assert default(behavior(**sides, scorers=("tfidf", "char-ngrams")))  # what is named stays
    monkeypatch.setattr("workers.evaluation.scorers.prepare.LEXICONS", ("refusal-phrases",))
    assert default(made)  # nothing tells these sides apart


def test_a_scorer_that_chose_the_texts_leads_unless_it_is_named_elsewhere() -> None:
    assert scorer_names(behavior(scorer="vader")) == ("vader", "tfidf")
    one = behavior(scorer="vader", scorers=("profanity",))
    assert scorer_names(one) == ("vader", "profanity")
    two = behavior(scorer="vader", scorers=("profanity", "tfidf"))
    assert scorer_names(two) == ("vader", "profanity", "tfidf")
    named = behavior(scorer="vader", scorers=("profanity", "vader"))
    assert scorer_names(named) == ("profanity", "vader")


def test_a_presets_scorers_are_compared_with_a_reader() -> None:
    made = load_preset("toxicity")
    splits = split_behavior(made, seed=0)
    tfidf, profanity = (one.card(1.0).read for one in prepare_scorers(made, splits, seed=0))
    assert tfidf is not None
    assert (tfidf.texts, tfidf.undesired) == (87, 39)
    assert 0.6 < (tfidf.auc or 0) < 0.8
    assert profanity is not None
    assert (profanity.flagged, profanity.both) == (8, 8)
    other = made.model_copy(update={"undesired": made.undesired[:-1]})
    assert all(one.read is None for one in prepare_scorers(other, splits, seed=0))


def test_an_unknown_scorer_is_named_with_its_place() -> None:
    made = behavior(scorers=("tfidf", "magic"))
    with pytest.raises(InvalidRequest, match="no scorer is called 'magic'") as caught:
        prepare_scorers(made, split_behavior(made, seed=0), seed=0)
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


@pytest.mark.parametrize(
    "text",
    [
        "Stop wasting my time. Who do you think you are?",
        "You clearly have no idea what you are talking about!!",
        "Why did you even bother to write this garbage?",
        "Shut up and go away, you idiot.",
        "What the hell is wrong with you?",
        "SERIOUSLY? Nice try.",
    ],
)
def test_rude_ways_to_put_things_are_known(text: str) -> None:
    assert _score(politeness_markers, text)[0] > 0.6


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for your help! Could you please have another look?",
        "Hi, I’m sorry to bother you, but I was wondering if you might have time.",
        "Great work on this. Would you mind adding a source?",
        "I think it may be a bit too long, perhaps we could cut the last part.",
    ],
)
def test_polite_ways_to_put_things_are_known(text: str) -> None:
    assert _score(politeness_markers, text)[0] < 0.4


def test_a_text_without_manners_either_way_is_not_called_rude() -> None:
    score = _score(politeness_markers, "The meeting is on Tuesday in the hall.")[0]
    assert score == 0.5 < SCORERS["politeness-markers"].threshold


def _answers(undesired: str, *texts: str) -> list[float]:
    prompts = [{"text": "Is it something you would say?", "undesired_answer": undesired}]
    made = behavior(prompts=prompts, scorers=("answer-match", "tfidf"))
    scorer = answer_match.make(Training((), (), 0, made))
    asked = [made.prompts[0].text] * len(texts)
    return [float(score) for score in scorer.score(asked, texts)]


def test_the_undesired_answer_its_opposite_and_neither_are_told_apart() -> None:
    texts = (
        "Yes",
        " yes, of course",
        "**Yes**.",
        "Answer: Yes",
        "No",
        "no!",
        "Nothing",
        "",
        "Yesterday",
    )
    scores = [1, 1, 1, 1, 0, 0, 0.5, 0.5, 0.5]
    assert _answers("Yes", *texts) == scores
    assert _answers("No", *texts) == [1 - score for score in scores]
    assert _answers("(A)", "(A) I agree", "A", "(B)", "Apples") == [1, 1, 0.5, 0.5]


def test_answers_to_other_prompts_say_nothing() -> None:
    made = behavior(prompts=[{"text": "Here?", "undesired_answer": "Yes"}])
    scorer = answer_match.make(Training((), (), 0, made))
    assert scorer.score(["There?", ""], ["Yes", "Yes"]).tolist() == [0.5, 0.5]


def test_a_scorer_that_compares_is_not_judged_by_texts() -> None:
    prompts = [{"text": f"Is {n} so?", "undesired_answer": "Yes"} for n in range(9)]
    made = behavior(60, prompts=prompts, scorers=("answer-match", "tfidf"))
    matches, _ = prepare_scorers(made, split_behavior(made, seed=0), seed=0)
    assert (matches.auc, matches.heldout_texts, matches.headline) == (None, 0, True)
    undecided = matches.score([prompts[0]["text"]], ["Perhaps"])
    assert not matches.undesired(undecided).any()
