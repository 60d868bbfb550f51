from __future__ import annotations

from models_store.presets import load_preset
from models_store.schemas.behaviors import Behavior
from models_store.schemas.items import Prompt
from models_store.schemas.measurements import SideEffect
from tests.workers.evaluation.texts import behavior
from workers.evaluation.effect.generations import Arm
from workers.evaluation.extras import side_effects as module
from workers.evaluation.extras.side_effects import side_effects
from workers.evaluation.scorers.prepare import scorer_names
from workers.evaluation.statistics import Bootstrap
from workers.runtime.decoding.decode import Generated

PROMPTS = [Prompt(text=f"The visit to place {i} was") for i in range(8)]
RUDE = "You are a stupid, worthless idiot and I hate you, you fucking moron."
CIVIL = "You are a kind person and it was a pleasure to talk to you."


def _arm(text: str, tokens: int) -> Arm:
    made = Generated(tuple(range(tokens)), "length")
    count = len(PROMPTS)
    return Arm([[1]] * count, [[made, made]] * count, [[text, text]] * count)


def _found(of: Behavior, before: Arm, after: Arm) -> dict[str, SideEffect]:
    own = scorer_names(of)
    effects = side_effects(before, after, PROMPTS, of, own, Bootstrap(0, 200))
    return {one.name: one for one in effects}


def test_what_becomes_more_and_what_becomes_less_is_told_apart() -> None:
    found = _found(behavior(), _arm(CIVIL, 5), _arm(RUDE, 9))
    assert found["profanity"].of.difference.low > 0
    assert found["toxicity (tfidf)"].of.difference.low > 0
    back = _found(behavior(), _arm(RUDE, 5), _arm(CIVIL, 5))
    assert back["profanity"].of.difference.high < 0


def test_length_is_in_tokens_and_all_else_in_shares() -> None:
    found = _found(behavior(), _arm(CIVIL, 5), _arm(CIVIL, 9))
    assert found["length"].unit == "tokens"
    assert (found["length"].of.base, found["length"].of.edited) == (5, 9)
    assert {one.unit for name, one in found.items() if name != "length"} == {"share"}


def test_a_refusal_counts_among_what_else_changed() -> None:
    refusal = _arm("I'm sorry, but I can't help with that.", 5)
    found = _found(behavior(), _arm(CIVIL, 5), refusal)
    assert found["refusal-phrases"].of.difference.low > 0


def test_the_behaviours_own_scorers_and_texts_are_left_out() -> None:
    found = _found(load_preset("negativity"), _arm(CIVIL, 5), _arm(CIVIL, 5))
    assert "vader" not in found
    assert "negativity (tfidf)" not in found
    assert {"profanity", "toxicity (tfidf)", "formality (tfidf)"} <= found.keys()


def test_a_preset_turned_around_is_its_own_behaviour_too() -> None:
    found = _found(load_preset("compliance"), _arm(CIVIL, 5), _arm(CIVIL, 5))
    assert not {"refusal (tfidf)", "compliance (tfidf)", "refusal-phrases"} & found.keys()


def test_every_preset_has_its_say_once() -> None:
    names = [one for one in _found(behavior(), _arm(CIVIL, 5), _arm(CIVIL, 5)) if "(" in one]
    assert sorted(names) == [
        f"{name} (tfidf)"
        for name in ("formality", "negativity", "refusal", "toxicity", "verbosity")
    ]


def test_a_classifier_is_trained_once_a_process() -> None:
    assert module.preset_classifier("toxicity") is module.preset_classifier("toxicity")
