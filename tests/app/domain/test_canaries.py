"""What is made of a server's answers, with curves that are written down here."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.canaries.answers import Answer, Form, read_answer
from app.domain.canaries.asking import CanaryCheck, check
from app.domain.canaries.deciding import decide_by_logprobs, decide_by_texts
from app.domain.canaries.sending import root_of
from models_store.schemas.canary import Canary, CanaryPrompt, CanarySheet

STRENGTHS = (-1.0, 0.0, 0.5, 1.0, 2.0)
TEXT_STRENGTHS = (0.0, 0.5, 1.0)
WORDS = (" one", " two", " three", " four", " five", " six")


def logprobs(number: int, strength: float, effect: float = 1.0) -> list[float]:
    """A distribution over `WORDS` that the strength moves along a direction of the prompt's."""
    random_ = random.Random(number)
    logits = [random_.gauss(0, 1) + effect * strength * random_.gauss(0, 1) for _ in WORDS]
    total = math.log(sum(map(math.exp, logits)))
    return [logit - total for logit in logits]


def sheet(effect: float = 1.0, *, endpoint: Any = "completions") -> CanarySheet:
    return CanarySheet(
        endpoint=endpoint,
        prompts=tuple(
            CanaryPrompt(
                prompt=f"prompt {number}",
                tokens=WORDS,
                logprobs=tuple(tuple(logprobs(number, each, effect)) for each in STRENGTHS),
                texts=tuple(f"{each} is text {number}" for each in TEXT_STRENGTHS),
            )
            for number in range(12)
        ),
    )


def canary(*sheets: CanarySheet) -> Canary:
    return Canary(
        variant="base:edit",
        base_model="base",
        strengths=STRENGTHS,
        text_strengths=TEXT_STRENGTHS,
        sheets=sheets or (sheet(),),
    )


def answers(strength: float, *, noise: float = 0.0, effect: float = 1.0) -> list[Answer]:
    """Of a server at that strength, whose log-probabilities are off by `noise`."""
    random_ = random.Random(7)
    return [
        Answer(
            "",
            {
                word: logprob + random_.gauss(0, noise)
                for word, logprob in zip(WORDS, logprobs(number, strength, effect), strict=True)
            },
        )
        for number in range(12)
    ]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize(
    ("strength", "outcome"),
    [
        (0.0, "not_applied"),
        (1.0, "applied"),
        (0.6, "other_strength"),
        (0.5, "other_strength"),
        (-1.0, "other_strength"),
        (1.7, "other_strength"),
    ],
)
def test_the_strength_is_found_through_noise(strength: float, outcome: str, noise: float) -> None:
    verdict = decide_by_logprobs(sheet(), STRENGTHS, answers(strength, noise=noise))

    assert verdict.outcome == outcome
    assert verdict.strength == pytest.approx(strength, abs=0.1)
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low - 0.05 <= strength <= verdict.high + 0.05
    assert 0.9 <= verdict.certainty <= 0.999


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("recorded", [(), (0.5,)])
@pytest.mark.parametrize(
    ("strength", "outcomes"),
    [
        (0.0, {"not_applied"}),
        (1.0, {"applied"}),
        (0.6, {"other_strength"}),
        (1.3, {"other_strength"}),
        (-0.3, {"other_strength", "undecided"}),
        (2.0, {"something_else", "undecided"}),
    ],
)
def test_fewer_recorded_strengths_tell_the_export_from_others(
    recorded: Sequence[float], strength: float, outcomes: set[str], noise: float
) -> None:
    fewer = canary().limited_to(recorded)
    verdict = decide_by_logprobs(fewer.sheets[0], fewer.strengths, answers(strength, noise=noise))

    assert fewer.strengths == tuple(sorted({0.0, 1.0, *recorded}))
    assert verdict.outcome in outcomes


def test_answers_off_every_strength_are_of_something_else() -> None:
    others = [
        Answer("", dict(zip(WORDS, logprobs(number + 100, 0.0), strict=True)))
        for number in range(12)
    ]
    verdict = decide_by_logprobs(sheet(), STRENGTHS, others)

    assert (verdict.outcome, verdict.strength) == ("something_else", None)


def test_other_tokens_than_the_recorded_ones_are_of_something_else() -> None:
    words = ("eins", "zwei", "drei")
    others = [Answer("", dict.fromkeys(words, math.log(1 / 3)))] * 12

    assert decide_by_logprobs(sheet(), STRENGTHS, others).outcome == "something_else"


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_an_edit_that_rounding_hides_is_left_undecided(strength: float) -> None:
    given = answers(strength, noise=0.05, effect=0.05)
    verdict = decide_by_logprobs(sheet(0.05), STRENGTHS, given)

    assert verdict.outcome == "undecided"
    assert "nats apart" in verdict.reason


def test_an_edit_that_changes_nothing_is_left_undecided() -> None:
    verdict = decide_by_logprobs(sheet(0.0), STRENGTHS, answers(1.0, effect=0.0))

    assert verdict.outcome == "undecided"


def test_five_tokens_with_bare_names_are_enough() -> None:
    few = [
        Answer("", {word.strip(): top[word] for word in sorted(top, key=top.get)[1:]})  # type: ignore[arg-type]
        for top in (answer.top or {} for answer in answers(1.0))
    ]
    assert decide_by_logprobs(sheet(), STRENGTHS, few).outcome == "applied"


def texts(strength: float, flipped: int = 0) -> list[Answer | None]:
    return [
        Answer(f"  {strength} is\ntext {n} " if n >= flipped else "a tie went otherwise", None)
        for n in range(12)
    ]


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (texts(0.0), "not_applied"),
        (texts(1.0), "applied"),
        (texts(1.0, flipped=3), "applied"),
        (texts(0.5), "other_strength"),
        (texts(7.0), "something_else"),
        ([*texts(0.0)[:6], *texts(1.0)[6:]], "undecided"),
        ([Answer("1.0 is te and then a tie", None)] * 12, "applied"),
        ([Answer("1.0", None)] * 12, "something_else"),
    ],
)
def test_texts_decide_where_there_are_no_logprobs(
    given: Sequence[Answer | None], outcome: str
) -> None:
    assert decide_by_texts(sheet(), TEXT_STRENGTHS, given).outcome == outcome


Respond = Callable[[str, dict[str, Any]], tuple[int, Any]]


def run(respond: Respond, *sheets: CanarySheet) -> tuple[CanaryCheck, list[tuple[str, Any]]]:
    """The result, and the path and body of every request."""
    requests: list[tuple[str, Any]] = []

    async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        requests.append((path, body))
        status, content = respond(path, body)
        return status, json.dumps(content).encode()

    return asyncio.run(check(canary(*sheets), "m", post)), requests


def completion(prompt: str, strength: float, top: Mapping[str, float] | None) -> Any:
    choice: dict[str, Any] = {"text": f"{strength} is text {prompt.split()[1]}", "logprobs": None}
    if top:
        token = max(top, key=lambda word: top[word])
        choice["logprobs"] = {
            "tokens": [token],
            "token_logprobs": [top[token]],
            "top_logprobs": [top],
        }
    return {"choices": [choice]}


def top_of(prompt: str, strength: float) -> dict[str, float]:
    return dict(zip(WORDS, logprobs(int(prompt.split()[1]), strength), strict=True))


def rounded(strength: float) -> list[Answer]:
    """Of a server whose weights are others, by as much as an edit does, in the same way."""
    random_ = random.Random(5)
    off = [[random_.gauss(0, 0.8) for _ in WORDS] for _ in range(12)]
    return [
        Answer("", {word: top[word] + each for word, each in zip(WORDS, own, strict=True)})
        for own, top in zip(off, (answer.top or {} for answer in answers(strength)), strict=True)
    ]


@pytest.mark.parametrize(
    ("strength", "outcome"),
    [(0.0, "not_applied"), (0.8, "applied"), (1.0, "applied"), (0.4, "other_strength")],
)
def test_beside_its_base_model_weights_that_differ_do_not_matter(
    strength: float, outcome: str
) -> None:
    alone = decide_by_logprobs(sheet(), STRENGTHS, rounded(strength))
    assert alone.outcome == "undecided"
    assert "4 bits" in alone.reason

    beside = decide_by_logprobs(sheet(), STRENGTHS, rounded(strength), rounded(0.0))
    assert beside.outcome == outcome
    assert beside.strength == pytest.approx(strength, abs=0.1)


def test_beside_its_base_model_another_edit_is_something_else() -> None:
    others = [Answer("", top_of(f"prompt {number + 50}", 1.0)) for number in range(12)]
    bases = [Answer("", top_of(f"prompt {number + 50}", 0.0)) for number in range(12)]
    verdict = decide_by_logprobs(sheet(), STRENGTHS, others, bases)
    assert verdict.outcome == "something_else"


def test_a_base_model_that_does_not_answer_leaves_it_undecided() -> None:
    async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        if body["model"] != "m":
            return 404, b'{"error": {"message": "no such model"}}'
        return 200, json.dumps(
            completion(body["prompt"], 1.0, top_of(body["prompt"], 1.0))
        ).encode()

    found = asyncio.run(check(canary(), "m", post, "b"))
    assert (found.outcome, found.base_model) == ("undecided", "b")
    assert found.reason.startswith("the base model: POST /v1/completions answers 404: no such")


def test_fewer_logprobs_are_asked_for_where_twenty_are_refused() -> None:
    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["logprobs"] > 5:
            return 400, {"error": {"message": "at most 5"}}
        return 200, completion(body["prompt"], 1.0, top_of(body["prompt"], 1.0))

    found, requests = run(respond)

    assert (found.outcome, found.by, found.endpoint) == ("applied", "logprobs", "completions")
    assert [body["logprobs"] for _, body in requests] == [20] + [5] * 12
    assert all(row.from_edited == 0 for row in found.prompts)


@pytest.mark.parametrize("top", [None, {" one": 0.0, " two": -9999.0}])
def test_texts_are_asked_for_where_logprobs_say_nothing(top: Mapping[str, float] | None) -> None:
    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion(body["prompt"], 1.0, top)

    found, requests = run(respond)

    assert (found.outcome, found.by) == ("applied", "texts")
    assert requests[-1][1]["max_tokens"] == 8
    assert found.prompts[0].served == found.prompts[0].edited == "1.0 is text 0"


def test_a_server_of_chat_completions_only_is_asked_those() -> None:
    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path != "/v1/chat/completions":
            return 404, {"detail": "Not Found"}
        prompt = body["messages"][0]["content"]
        tops = [{"token": token, "logprob": own} for token, own in top_of(prompt, 0.0).items()]
        logprobs = {"content": [{**tops[0], "top_logprobs": tops}]}
        return 200, {"choices": [{"message": {"content": " x"}, "logprobs": logprobs}]}

    found, _ = run(respond, sheet(), sheet(0.5, endpoint="chat"))

    assert (found.outcome, found.endpoint) == ("not_applied", "chat")


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (401, {"error": {"message": "no key"}}, "answers 401: no key"),
        (404, {"error": {"message": "no such model"}}, "answers 404: no such model"),
        (500, "oops", "answers 500"),
        (200, {"choices": []}, "answers 200"),
    ],
)
def test_a_server_that_does_not_answer_is_left_undecided(
    status: int, content: Any, words: str
) -> None:
    found, _ = run(lambda path, body: (status, content))

    assert (found.outcome, found.certainty, found.prompts) == ("undecided", 0, [])
    assert words in found.reason


def test_a_server_that_breaks_off_is_left_undecided() -> None:
    def respond(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if int(body["prompt"].split()[1]) > 3:
            return 503, {}
        return 200, completion(body["prompt"], 1.0, top_of(body["prompt"], 1.0))

    found, _ = run(respond)

    assert (found.outcome, found.reason) == ("undecided", "it answered 4 of 12 prompts")


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"choices": [1]}', b'{"choices": [{"message": {}}]}', DEEP]
)
def test_what_is_no_completion_is_no_answer(data: bytes) -> None:
    assert read_answer(data) is None


def test_logprobs_that_cannot_be_read_are_none() -> None:
    tokens = {"tokens": ["x"], "token_logprobs": [-1]}
    for broken in (
        5,
        {"content": [{"token": "x"}]},
        {"top_logprobs": [{"x": "y"}]},
        {"top_logprobs": [{"x": 10**400}], **tokens},
        {"top_logprobs": [{"x": -(10**400)}], **tokens},
    ):
        data = json.dumps({"choices": [{"text": "x", "logprobs": broken}]}).encode()
        assert read_answer(data) == Answer("x", None)


@pytest.mark.parametrize(
    "data", [DEEP, rb'{"error": {"message": "\ud800"}}', rb'{"choices": [{"text": "\ud800"}]}']
)
@pytest.mark.parametrize("status", [200, 400])
def test_whatever_a_server_sends_the_result_can_be_written(data: bytes, status: int) -> None:
    async def post(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        return status, data

    found = asyncio.run(check(canary(), "m", post))

    assert found.outcome != "applied"
    assert found.model_dump_json()


def test_halves_of_surrogate_pairs_are_replaced_in_tokens_and_texts() -> None:
    data = rb"""{"choices": [{"text": "a\ud800b \ud83d\ude00", "logprobs": {"top_logprobs":
        [{"\udc00": -1}], "tokens": ["x"], "token_logprobs": [-2]}}]}"""

    assert read_answer(data) == Answer("a\ufffdb \U0001f600", {"\ufffd": -1, "x": -2})


def test_an_address_may_end_with_the_version() -> None:
    assert {root_of(f"http://host{end}") for end in ("", "/", "/v1", "/v1/")} == {"http://host"}
    assert Form(None).body("chat", "m", "p", 12)["max_tokens"] == 12


def test_a_canary_with_rows_missing_is_refused() -> None:
    for changes in (
        {"strengths": (0.0, 1.0)},
        {"text_strengths": (0.0, 1.0)},
        {"strengths": (0.5, 1.0, 2.0, 3.0, 4.0)},
    ):
        with pytest.raises(ValidationError):
            Canary.model_validate({**canary().model_dump(), **changes})
