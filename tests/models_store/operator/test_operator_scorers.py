from __future__ import annotations

from pathlib import Path

import pytest

from models_store.errors import InvalidRequest
from models_store.operator.scorers import HttpScorer, LlmJudge, all_scorers, read_scorers
from models_store.schemas.scorers import SCORERS

HTTP = """
[[scorer]]
name = "hate"
type = "http"
url = "http://10.0.0.5:9000/score"
measures = "hateful language"
threshold = 0.4
licence = "MIT"
trained_on = "forum posts"
"""
JUDGE = """
[[scorer]]
name = "judge"
type = "llm-judge"
base_url = "https://api.example.com/v1"
model = "large"
key_env = "JUDGE_KEY"
question = "Is this text rude?"
threshold = 0.6
licence = "its maker's terms"
trained_on = "its maker does not say"
"""


def _file(folder: Path, text: str) -> Path:
    file = folder / "scorers.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_a_file_there_are_only_the_built_in_scorers() -> None:
    assert read_scorers(None) == ()
    assert all_scorers(()) == SCORERS


def test_scorers_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    http, judge = read_scorers(_file(tmp_path, HTTP + JUDGE))
    assert isinstance(http, HttpScorer)
    assert isinstance(judge, LlmJudge)
    assert (http.timeout_seconds, http.retries, http.batch) == (30, 2, 32)
    assert (judge.logprobs, judge.parallel, judge.key_env) == (True, 4, "JUDGE_KEY")


def test_what_the_operator_states_is_known_of_each(tmp_path: Path) -> None:
    known = all_scorers(read_scorers(_file(tmp_path, HTTP + JUDGE)))
    assert list(known) == [*SCORERS, "hate", "judge"]
    hate, judge = known["hate"], known["judge"]
    assert (hate.measures, hate.licence, hate.trained_on) == (
        "hateful language",
        "MIT",
        "forum posts",
    )
    assert (hate.threshold, hate.learns, hate.exact) == (0.4, False, False)
    assert judge.measures == "yes to “Is this text rude?”, says large"


def test_only_a_judge_with_a_question_of_its_own_may_mean_the_other_side(tmp_path: Path) -> None:
    asks_theirs = JUDGE.replace('question = "Is this text rude?"\n', "")
    (own,) = read_scorers(_file(tmp_path, JUDGE))
    (theirs,) = read_scorers(_file(tmp_path, asks_theirs))
    assert own.info.turnable
    assert not theirs.info.turnable


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        (("type", '"magic"'), "/scorer/1", "'http', 'llm-judge'"),
        (("type", None), "/scorer/1", "discriminator"),
        (("name", '"Not A Name"'), "/scorer/1/name", "pattern"),
        (("name", '"hate"'), "/scorer/1/name", "'hate' is there twice"),
        (("name", '"tfidf"'), "/scorer/1/name", "'tfidf' is built in"),
        (("base_url", '"api.example.com"'), "/scorer/1/base_url", "pattern"),
        (("base_url", '"https://me:secret@example.com"'), "/scorer/1/base_url", "pattern"),
        (("base_url", None), "/scorer/1/base_url", "required"),
        (("model", None), "/scorer/1/model", "required"),
        (("threshold", None), "/scorer/1/threshold", "required"),
        (("threshold", "0.5"), "/scorer/1/threshold", "greater than 0.5"),
        (("threshold", "nan"), "/scorer/1/threshold", "finite"),
        (("licence", None), "/scorer/1/licence", "required"),
        (("licence", '""'), "/scorer/1/licence", "at least 1 character"),
        (("trained_on", None), "/scorer/1/trained_on", "required"),
        (("key_env", '"sk-secret"'), "/scorer/1/key_env", "pattern"),
        (("license", '"MIT"'), "/scorer/1/license", "not permitted"),
        (("url", '"http://a"'), "/scorer/1/url", "not permitted"),
        (("timeout_seconds", "0"), "/scorer/1/timeout_seconds", "greater than 0"),
        (("retries", "99"), "/scorer/1/retries", "less than or equal to 10"),
        (("parallel", "0"), "/scorer/1/parallel", "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_told_with_file_table_and_field(
    tmp_path: Path, change: tuple[str, str | None], pointer: str, says: str
) -> None:
    field, value = change
    lines = [line for line in JUDGE.splitlines() if not line.startswith(f"{field} =")]
    lines += [] if value is None else [f"{field} = {value}"]
    with pytest.raises(InvalidRequest) as caught:
        read_scorers(_file(tmp_path, HTTP + "\n".join(lines)))
    found = {error.pointer: error.detail for error in caught.value.errors}
    assert says in found[pointer]
    assert "scorers.toml" in caught.value.message
    assert pointer[1:].replace("/", ".") in caught.value.message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = 'title = "mine"\n[[scorer]]\ntype = "http"\nname = "a"\n'
    with pytest.raises(InvalidRequest) as caught:
        read_scorers(_file(tmp_path, text))
    assert [error.pointer for error in caught.value.errors] == [
        "/title",
        "/scorer/0/threshold",
        "/scorer/0/licence",
        "/scorer/0/trained_on",
        "/scorer/0/url",
    ]


@pytest.mark.parametrize("text", ['scorer = "a"', '[scorer]\nname = "a"'])
def test_a_table_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"scorer: write \[\[scorer\]\]"):
        read_scorers(_file(tmp_path, text))


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"scorers\.toml is not valid TOML.*line 2"):
        read_scorers(_file(tmp_path, '[[scorer]]\nname = "a\n'))


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"SCALPEL_SCORERS: .*absent\.toml cannot be read"):
        read_scorers(tmp_path / "absent.toml")
