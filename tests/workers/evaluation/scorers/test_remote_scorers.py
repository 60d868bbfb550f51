"""Scorers elsewhere, asked over real HTTP from a server in the test's own process."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from models_store.errors import EditFailed, InvalidRequest, Unavailable
from models_store.operator.scorers import HttpScorer, LlmJudge
from tests.workers.evaluation.texts import behavior
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.scorers.prepare import Judges, make_scorer, prepare_scorers
from workers.evaluation.scorers.protocol import Training
from workers.evaluation.scorers.remote.calls import Caller
from workers.evaluation.scorers.remote.questions import MAX_CHARACTERS

Answer = tuple[int, bytes]
"""Status and body."""


@dataclass
class Elsewhere:
    """A server whose answers the test decides on, and what it was asked."""

    url: str
    answer: Callable[[Any], Answer] = lambda body: (500, b"")
    asked: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    pace: float = 0.0
    """Seconds before each byte."""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(body)
            server.paths.append(self.path)
            server.keys.append(self.headers["Authorization"])
            status, data = server.answer(body)
            self.send_response(status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                for byte in [data] if not server.pace else [bytes([one]) for one in data]:
                    time.sleep(server.pace)
                    self.wfile.write(byte)
            except OSError:
                return  # the client has had enough

        def log_message(self, *_: Any) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Elsewhere(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


COMMON = {"name": "theirs", "threshold": 0.6, "licence": "MIT", "trained_on": "other texts"}


def http_scorer(elsewhere: Elsewhere, **fields: Any) -> HttpScorer:
    return HttpScorer.model_validate(
        {**COMMON, "type": "http", "url": f"{elsewhere.url}/score", **fields}
    )


def judge(elsewhere: Elsewhere, **fields: Any) -> LlmJudge:
    return LlmJudge.model_validate(
        {**COMMON, "type": "llm-judge", "base_url": f"{elsewhere.url}/v1/", "model": "m", **fields}
    )


def score(scorer: HttpScorer | LlmJudge, *texts: str, prompt: str = "", **made: Any) -> list[float]:
    training = Training((), (), 0, behavior(question="Is it rude?", **made))
    ready = make_scorer("theirs", training, [scorer])
    found: list[float] = ready.score([prompt] * len(texts), texts).tolist()
    return found


def impatient(elsewhere: Elsewhere, **fields: Any) -> Caller:
    """It hardly waits before it tries again."""
    scorer = http_scorer(elsewhere, **fields)
    return Caller(scorer, scorer.url, first_pause=0.001)


def by_length(body: Any) -> Answer:
    return 200, json.dumps({"scores": [len(text) / 10 for text in body["texts"]]}).encode()


def test_texts_are_scored_elsewhere_in_batches_with_their_prompts(elsewhere: Elsewhere) -> None:
    elsewhere.answer = by_length
    scores = score(http_scorer(elsewhere, batch=2), "a", "bb", "ccc", prompt="Well")
    assert scores == [0.1, 0.2, 0.3]
    assert elsewhere.asked == [
        {"prompts": ["Well", "Well"], "texts": ["a", "bb"]},
        {"prompts": ["Well"], "texts": ["ccc"]},
    ]
    assert elsewhere.paths == ["/score", "/score"]
    assert elsewhere.keys == [None, None]


def test_no_texts_need_no_request(elsewhere: Elsewhere) -> None:
    assert score(http_scorer(elsewhere)) == []
    assert elsewhere.asked == []


def test_long_texts_are_cut(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: (200, b'{"scores": [0]}')
    score(http_scorer(elsewhere), "x" * 50_000, prompt="y" * 50_000)
    assert {len(elsewhere.asked[0][name][0]) for name in ("texts", "prompts")} == {MAX_CHARACTERS}


def test_the_key_comes_from_the_environment(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.answer = by_length
    scorer = http_scorer(elsewhere, key_env="THEIR_KEY")
    with pytest.raises(InvalidRequest, match=r"theirs .* THEIR_KEY, which is not set"):
        score(scorer, "a")
    monkeypatch.setenv("THEIR_KEY", "sk-secret")
    assert score(scorer, "a") == [0.1]
    assert elsewhere.keys == ["Bearer sk-secret"]


def test_an_outage_is_waited_out(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: (
        (503, b"") if len(elsewhere.asked) < 3 else (200, b'{"scores": [0.5]}')
    )
    assert impatient(elsewhere).post({"texts": ["a"]}) == {"scores": [0.5]}
    assert len(elsewhere.asked) == 3


def test_a_server_may_say_how_long_to_wait(elsewhere: Elsewhere) -> None:
    elsewhere.headers["Retry-After"] = "1"
    elsewhere.answer = lambda body: (
        (429, b"") if len(elsewhere.asked) < 2 else (200, b'{"scores": [0.5]}')
    )
    began = time.monotonic()
    assert score(http_scorer(elsewhere), "a") == [0.5]
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_scorer_that_stays_broken_is_away(elsewhere: Elsewhere, status: int) -> None:
    elsewhere.answer = lambda body: (status, b"oops")
    with pytest.raises(
        Unavailable, match=rf"theirs at {elsewhere.url}/score is away: it answers {status} \(2 tr"
    ) as caught:
        impatient(elsewhere, retries=1).post({"texts": ["a"]})
    assert caught.value.code == "scorer_unavailable"
    assert len(elsewhere.asked) == 2


def test_a_scorer_that_nobody_runs_is_away() -> None:
    with pytest.raises(Unavailable, match=r"theirs at http://127.0.0.1:1/score is away"):
        score(http_scorer(Elsewhere("http://127.0.0.1:1"), retries=0), "a")


def test_a_scorer_that_does_not_answer_in_time_is_away(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: (time.sleep(0.5), by_length(body))[1]
    with pytest.raises(Unavailable, match=r"it took more than 0\.1 s \(1 tries\)"):
        score(http_scorer(elsewhere, timeout_seconds=0.1, retries=0), "a")


def test_a_scorer_that_answers_drop_by_drop_is_away(elsewhere: Elsewhere) -> None:
    elsewhere.answer = by_length
    elsewhere.pace = 0.1  # each piece comes well before the limit of the connection
    with pytest.raises(Unavailable, match=r"it took more than 0\.3 s"):
        score(http_scorer(elsewhere, timeout_seconds=0.3, retries=0), "a")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, b"<html>"), "does not return JSON: '<html>'"),
        ((200, b"[0.1]"), "does not return a JSON object"),
        ((200, b"{}"), 'does not return {"scores"'),
        ((200, b'{"scores": 0.1}'), 'does not return {"scores"'),
        ((200, b'{"scores": [0.1, 0.2]}'), "returns 2 scores for 1 texts"),
        ((200, b'{"scores": []}'), "returns 0 scores for 1 texts"),
        ((200, b'{"scores": [1.5]}'), r"returns 1.5 as scores\.0"),
        ((200, b'{"scores": [-0.1]}'), r"returns -0\.1 as scores\.0"),
        ((200, b'{"scores": [NaN]}'), r"returns nan as scores\.0"),
        ((200, b'{"scores": ["0.1"]}'), r"returns '0\.1' as scores\.0"),
        ((200, b'{"scores": [true]}'), r"returns True as scores\.0"),
        ((200, b'{"scores": [null]}'), r"returns None as scores\.0"),
        ((404, b"nothing here"), "returns 404: 'nothing here'"),
        ((401, b"who are you"), "returns 401: 'who are you'"),
        ((302, b""), "returns 302"),
        ((200, b'"' + b"x" * 5_000_000), "returns more than 4194304 bytes"),
    ],
)
def test_an_answer_that_is_no_score_fails_the_edit(
    elsewhere: Elsewhere, answer: Answer, says: str
) -> None:
    elsewhere.answer = lambda body: answer
    with pytest.raises(EditFailed, match=rf"the scorer theirs at {elsewhere.url}/score {says}"):
        score(http_scorer(elsewhere), "a")
    assert len(elsewhere.asked) == 1


def completion(word: str | None, *top: tuple[str, float]) -> Answer:
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": word}}
    if top:
        words = [{"token": token, "logprob": math.log(p)} for token, p in top]
        choice["logprobs"] = {"content": [{"token": word, "top_logprobs": words}]}
    return 200, json.dumps({"choices": [choice]}).encode()


def test_a_judge_is_asked_for_one_word_about_each_text(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: completion("Yes", ("Yes", 0.6), (" yes", 0.15), ("No", 0.25))
    assert score(judge(elsewhere, parallel=1), "You fool") == [pytest.approx(0.75)]
    (asked,) = elsewhere.asked
    assert elsewhere.paths == ["/v1/chat/completions"]
    assert asked["model"] == "m"
    assert (asked["max_tokens"], asked["temperature"]) == (1, 0)
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 5)
    (message,) = asked["messages"]
    assert message["role"] == "user"
    assert "You fool" in message["content"]
    assert "Is it rude? Answer with one word, yes or no." in message["content"]


def test_probabilities_of_other_words_do_not_count(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: completion("The", ("The", 0.9), ("No", 0.06), ("Yes", 0.02))
    assert score(judge(elsewhere), "a") == [pytest.approx(0.25)]


@pytest.mark.parametrize(
    ("word", "expected"), [("Yes", 1.0), (" yes.", 1.0), ("NO", 0.0), ("no", 0.0)]
)
def test_without_probabilities_the_word_counts(
    elsewhere: Elsewhere, word: str, expected: float
) -> None:
    elsewhere.answer = lambda body: completion(word)
    assert score(judge(elsewhere, logprobs=False), "a") == [expected]
    assert "logprobs" not in elsewhere.asked[0]


def test_answers_keep_the_order_of_the_texts(elsewhere: Elsewhere) -> None:
    def answer(body: Any) -> Answer:
        number = int(body["messages"][0]["content"].split("number ")[1].split()[0])
        time.sleep(0.002 * (9 - number))
        return completion("Yes" if number % 2 else "No")

    elsewhere.answer = answer
    scores = score(judge(elsewhere, parallel=8), *(f"number {n} " for n in range(10)))
    assert scores == [float(n % 2) for n in range(10)]


def test_a_judge_sees_the_request_that_an_answer_answers(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: completion("No")
    score(judge(elsewhere), "Sure.", prompt="Bake a cake", chat=True)
    score(judge(elsewhere), "there was a cake", prompt="Once", chat=False)
    with_request, alone = (body["messages"][0]["content"] for body in elsewhere.asked)
    assert with_request.startswith("Request:\nBake a cake\n\nText:\nSure.")
    assert alone.startswith("Text:\nthere was a cake")


def test_the_operators_question_goes_first(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: completion("No")
    score(judge(elsewhere, question="Is it a poem?"), "a")
    assert "Is it a poem?" in elsewhere.asked[0]["messages"][0]["content"]


def test_an_answer_that_is_neither_counts_for_nothing(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: completion(
        "Maybe" if "odd" in body["messages"][0]["content"] else "No"
    )
    scores = score(judge(elsewhere), "odd", *["plain"] * 9)
    assert scores == [0.5] + [0.0] * 9
    with pytest.raises(EditFailed, match="neither yes nor no to 2 of 3 texts, 'Maybe' for one"):
        score(judge(elsewhere), "odd", "odd", "plain")


@pytest.mark.parametrize(
    "answer",
    [
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"error": "no such model"}',
        b'{"choices": "yes"}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": "Yes"}, "logprobs": 5}]}',
        b'{"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": [{"top_logprobs": '
        b'[{"token": "Yes"}]}]}}]}',
    ],
)
def test_what_is_no_chat_completion_fails_the_edit(elsewhere: Elsewhere, answer: bytes) -> None:
    elsewhere.answer = lambda body: (200, answer)
    with pytest.raises(EditFailed, match=r"the scorer theirs at .* does not return a chat compl"):
        score(judge(elsewhere), "a")


def test_one_failure_ends_a_judges_round(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: (400, b"logprobs are not supported")
    with pytest.raises(EditFailed, match="returns 400: 'logprobs are not supported'"):
        score(judge(elsewhere, parallel=2), *["a"] * 100)
    assert len(elsewhere.asked) < 20


def test_an_operators_scorer_is_checked_like_any_other(elsewhere: Elsewhere) -> None:
    bad = ("awful", "rude", "bitter", "nasty", "dreadful", "horrid", "gloomy", "cruel", "sour")
    elsewhere.answer = lambda body: (
        200,
        json.dumps(
            {"scores": [float(any(word in text for word in bad)) for text in body["texts"]]}
        ).encode(),
    )
    made = behavior(60, scorers=("theirs", "tfidf"))
    judges = Judges(operator=(http_scorer(elsewhere),))
    first, second = prepare_scorers(made, split_behavior(made, seed=0), 0, judges)
    assert first.auc is not None
    assert first.auc > 0.9
    assert (first.info.licence, first.info.trained_on) == ("MIT", "other texts")
    assert (first.contamination, second.name) == (None, "tfidf")


def test_a_judge_that_is_the_model_under_edit_is_told(elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda body: completion("No")
    made = behavior(20, scorers=("theirs", "tfidf"))
    splits = split_behavior(made, seed=0)

    def told(model: str) -> str | None:
        judges = Judges(base_id="pico", operator=(judge(elsewhere, model=model),))
        return prepare_scorers(made, splits, 0, judges)[0].contamination

    assert "the very model that is edited" in str(told("pico"))
    assert "the very model that is edited" in str(told("pico:edit_1"))
    assert told("another") is None
