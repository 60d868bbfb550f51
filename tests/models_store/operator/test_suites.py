"""The operator's file of suites, and what is said when it, or a request, is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from models_store.errors import InvalidRequest
from models_store.operator.suites import (
    SUITES,
    check_suites,
    configured_suites,
    read_suites,
)
from models_store.settings import Settings
from workers.evaluation.suites.capability import CapabilityTable
from workers.evaluation.suites.refusal import RefusalTable
from workers.evaluation.suites.toxicity import ToxicityTable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(folder: Path, text: str) -> Path:
    path = folder / "suites.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_suites(write(folder, text))
    assert "suites.toml" in caught.value.message
    return caught.value


def test_each_suite_has_a_table_and_paths_count_from_the_file(tmp_path: Path) -> None:
    tables = read_suites(
        write(
            tmp_path,
            f"""
            [toxicity]
            data = "rtp/prompts.jsonl"
            items = 7

            [refusal.data]
            harmful = "/elsewhere/harmful.jsonl"
            safe = "xstest.jsonl"

            [capability]
            data = {{ text = "wiki.raw", gsm8k = "hub:owner/name@{COMMIT}/main/test.jsonl" }}
            """,
        )
    )
    assert sorted(tables) == list(SUITES)
    toxicity, refusal, capability = tables.values()
    assert isinstance(toxicity, ToxicityTable)
    assert toxicity.data.path == tmp_path / "rtp" / "prompts.jsonl"
    assert toxicity.items == 7
    assert isinstance(refusal, RefusalTable)
    assert refusal.data.harmful is not None
    assert refusal.data.harmful.path == Path("/elsewhere/harmful.jsonl")
    assert isinstance(capability, CapabilityTable)
    assert capability.data.gsm8k is not None
    assert capability.data.gsm8k.source is not None
    assert capability.data.gsm8k.source.repo == "owner/name"
    assert capability.data.gsm8k.path == Path("main/test.jsonl")


def test_one_file_of_refusal_states_the_kinds_itself(tmp_path: Path) -> None:
    table = read_suites(write(tmp_path, '[refusal]\ndata = "xstest.jsonl"'))["refusal"]
    assert isinstance(table, RefusalTable)
    assert table.data.mixed is not None
    assert table.data.mixed.path == tmp_path / "xstest.jsonl"


@pytest.mark.parametrize(
    ("text", "pointer", "says"),
    [
        ("[toxcity]\ndata = 'x'", "/toxcity", "is no suite; there are capability, refusal"),
        ("toxicity = 5", "/toxicity", "must be a table"),
        ("[toxicity]", "/toxicity/data", "required"),
        ("[toxicity]\ndata = 5", "/toxicity/data", "must be a path, or hub:OWNER/NAME@COMMIT/PATH"),
        ("[toxicity]\ndata = 'hub:a/b'", "/toxicity/data", "not 'hub:a/b'"),
        ("[toxicity]\ndata = 'hub:a/b@main/x'", "/toxicity/data/revision", "full commit"),
        (f"[toxicity]\ndata = 'hub:a/b@{COMMIT}/../x'", "/toxicity/data", "must be hub:"),
        ("[toxicity]\ndata = 'x'\nitems = 0", "/toxicity/items", "greater than or equal to 1"),
        ("[toxicity]\ndata = 'x'\nitmes = 3", "/toxicity/itmes", "not permitted"),
        (
            "[toxicity]\ndata = 'x'\nscorer = 'tfidf'",
            "/toxicity/scorer",
            "is none of formality-markers",
        ),
        ("[refusal]\ndata = {}", "/refusal/data", "name one for harmful, harmless or safe"),
        ("[refusal]\ndata = { harm = 'x' }", "/refusal/data/harm", "not permitted"),
        ("[capability]\ndata = 'x'", "/capability/data", "must be a table"),
        ("[capability.data]", "/capability/data", "text, gsm8k or multiple_choice"),
    ],
)
def test_what_is_wrong_is_named_by_table_and_field(
    tmp_path: Path, text: str, pointer: str, says: str
) -> None:
    error = refused(tmp_path, text)
    assert error.errors[0].pointer == pointer
    assert f"{pointer[1:].replace('/', '.')}: " in error.message
    assert says in error.message


def test_a_suite_may_use_a_server_of_the_operators_that_scores(tmp_path: Path) -> None:
    suites = write(tmp_path, "[toxicity]\ndata = 'x'\nscorer = 'perspective'")
    scorers = tmp_path / "scorers.toml"
    scorers.write_text(
        """
        [[scorer]]
        name = "perspective"
        type = "http"
        url = "http://10.0.0.7:8000/score"
        threshold = 0.5
        licence = "terms of its own"
        trained_on = "comments"
        """
    )
    config = configured_suites(Settings(suites=suites, scorers=scorers))
    assert [scorer.name for scorer in config.scorers] == ["perspective"]
    with pytest.raises(InvalidRequest, match=r"toxicity\.scorer: 'perspective' is none of"):
        configured_suites(Settings(suites=suites))


def test_a_file_that_is_not_toml_or_not_there_is_told(tmp_path: Path) -> None:
    assert "not valid TOML" in refused(tmp_path, "[toxicity").message
    with pytest.raises(InvalidRequest, match=r"SCALPEL_SUITES: .*absent\.toml cannot be read"):
        configured_suites(Settings(suites=tmp_path / "absent.toml"))


def test_without_a_file_there_is_no_suite() -> None:
    assert not configured_suites(Settings()).tables


def test_a_request_hears_what_is_configured() -> None:
    check_suites(("refusal", "toxicity"), {"toxicity", "refusal"})
    for names, code, says in (
        (("mmlu",), "unknown_suite", "'mmlu' is no suite; there are capability, refusal, toxicity"),
        (("capability",), "suite_not_configured", "(configured here: refusal, toxicity)"),
        (("refusal", "refusal"), "duplicate", "'refusal' is there twice"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            check_suites(names, {"toxicity", "refusal"})
        error = caught.value.errors[0]
        assert (error.pointer, error.code) == (f"/suites/{len(names) - 1}", code)
        assert says in caught.value.message
    with pytest.raises(InvalidRequest, match="configured here: none"):
        check_suites(("refusal",), ())
