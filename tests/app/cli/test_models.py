"""Behaviours, models, aliases, exports and conversations in the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.client import WrongUse
from app.cli.work.chat import at_strength
from tests.app.behaviors.test_drafts import answer
from tests.app.cli.command import Scalpel
from tests.app.support.generator import FakeGenerator, Lines
from tests.app.support.worker import Worker, edit_body, texts
from tests.support.services import Api


@pytest.fixture
def scalpel(command: Scalpel, api: Api, worker: Worker) -> Scalpel:
    return command.at(api)


@pytest.fixture
def kinder(api: Api, worker: Worker) -> str:
    id: str = api.http.post("/v1/edits", json=edit_body(suffix="kinder")).json()["id"]
    worker.succeed(id)
    return id


def test_a_behavior_is_made_of_files_shown_and_deleted(
    scalpel: Scalpel, api: Api, tmp_path: Path
) -> None:
    for side, word in (("undesired", "bad"), ("desired", "good")):
        (tmp_path / side).write_text("\n".join(texts(word)), encoding="utf-8")
    sides = [f"--{side}={tmp_path / side}" for side in ("undesired", "desired")]
    id = scalpel.done("behaviors", "create", "tone", *sides, "--scorer", "vader").strip()
    made = api.http.get(f"/v1/behaviors/{id}").json()
    assert (made["name"], made["scorers"]) == ("tone", ["vader"])
    assert [item["text"] for item in made["undesired"]] == texts("bad")

    shown = scalpel.done("behaviors", "show", id)
    assert texts("bad")[0] in shown
    assert "20 undesired, 20 desired" in shown
    assert json.loads(scalpel.done("behaviors", "show", id, "--json")) == made
    assert id in scalpel.done("behaviors", "list")
    assert "negativity" in scalpel.done("behaviors", "presets")
    scalpel.done("behaviors", "delete", id, "-y")
    assert "no behaviours of your own" in scalpel("behaviors", "list").err


def test_a_behavior_is_made_of_one_file(scalpel: Scalpel, api: Api, tmp_path: Path) -> None:
    lines, whole = tmp_path / "tone.jsonl", tmp_path / "tone.json"
    sides = {"undesired": texts("bad"), "desired": texts("good")}
    items = [{"label": side, "text": text} for side in sides for text in sides[side]]
    lines.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    whole.write_text(json.dumps(sides), encoding="utf-8")
    for file in (lines, whole):
        id = scalpel.done("behaviors", "create", "tone", file).strip()
        desired = api.http.get(f"/v1/behaviors/{id}").json()["desired"]
        assert [item["text"] for item in desired] == texts("good")
    lines.write_text('{"label": "wrong", "text": "x"}\n', encoding="utf-8")
    refused = scalpel("behaviors", "create", "tone", lines)
    assert (refused.code, "/0/label" in refused.err) == (2, True)
    assert scalpel("behaviors", "create", "tone").code == 2


def test_a_draft_is_shown_and_written(
    scalpel: Scalpel, generator: FakeGenerator, tmp_path: Path
) -> None:
    generator.answer = answer
    file = tmp_path / "draft.json"
    drafted = ("behaviors", "draft", "pico", "stop hedging", "--count", 20, "-o", file)
    assert "20 of 20 pairs kept" in scalpel(*drafted).err
    asked = len(generator.requests)
    assert len(json.loads(file.read_text())["undesired"]) == 20
    again = scalpel(*drafted)
    assert (again.code, "is there already" in again.err) == (2, True)
    assert len(generator.requests) == asked


def test_an_alias_is_set_shared_rolled_back_and_deleted(
    scalpel: Scalpel, api: Api, kinder: str
) -> None:
    made = scalpel.done("alias", "set", "bot", "pico:kinder@0.6")
    assert made == f"bot is pico:{kinder}@0.6 (version 1)\n"
    shared = scalpel.done("alias", "set", "bot", kinder, "--share", "pico=0.25")
    assert shared == f"bot is pico:{kinder}, 25% pico (version 2)\n"
    assert scalpel("alias", "set", "bot", kinder, "--share", "pico").code == 2
    assert scalpel.done("alias", "rollback", "bot").endswith("@0.6 (version 3)\n")
    assert len(scalpel.done("alias", "show", "bot").splitlines()) == 4
    assert json.loads(scalpel.done("alias", "list", "--json")) == (
        api.http.get("/v1/aliases").json()
    )
    assert f"pico:{kinder}@0.6" in scalpel.done("models", "show", "bot")
    scalpel.done("alias", "delete", "bot", "--yes")
    assert "no aliases yet" in scalpel("alias", "list").err


def test_models_and_base_models_are_listed_and_registered(
    scalpel: Scalpel, api: Api, kinder: str
) -> None:
    listed = scalpel.done("models", "list")
    assert f"pico:{kinder}" in listed
    assert "base model" in listed
    assert scalpel.done("models", "base").splitlines()[1].split()[:2] == ["pico", "succeeded"]
    added = scalpel.done("models", "add", "mine", "--folder", "/weights/mine", "--no-wait")
    assert added == "mine queued\n"
    assert api.http.get("/v1/base_models/mine").json()["source"]["path"] == "/weights/mine"
    for wrong in ((), ("--hub", "owner/name"), ("--folder", "a", "--package", "b")):
        assert scalpel("models", "add", "other", *wrong).code == 2


def test_an_export_is_downloaded_as_files_or_as_an_archive(
    scalpel: Scalpel, api: Api, worker: Worker, kinder: str, tmp_path: Path
) -> None:
    id = scalpel.done("export", kinder, "--format", "peft", "--no-wait").strip()
    worker.export(id, {"adapter.bin": b"weights", "README.md": b"# card"})
    done = scalpel("export", id, "-o", tmp_path / "got")
    assert (done.code, "2 files in" in done.err) == (0, True), done.err
    assert (tmp_path / "got" / "adapter.bin").read_bytes() == b"weights"
    scalpel.done("export", id, "-o", tmp_path / "got.zip")
    assert (tmp_path / "got.zip").read_bytes()[:2] == b"PK"
    assert scalpel("export", id, "-o", tmp_path / "got").code == 2
    assert scalpel("export", kinder, "-o", tmp_path / "got.zip").code == 2
    assert len(api.http.get("/v1/exports").json()["data"]) == 1
    merged = ("export", kinder, "--format", "merged-gguf", "--dtype", "q8_0", "--no-wait", "--json")
    assert json.loads(scalpel.done(*merged))["dtype"] == "q8_0"
    assert scalpel.done("exports").splitlines()[2].split()[:3] == [id, "peft", "succeeded"]


def test_the_strength_changes_while_one_talks(
    scalpel: Scalpel, generator: FakeGenerator, kinder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "hi\n/strength 0.8\n/seed 7\nagain\n/both\nboth\n/reset\n/nope\n/strength 9\nlast\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    talked = scalpel("chat", "pico:kinder@0.6")
    said = talked.out.splitlines()
    assert said == [
        f"I am pico:{kinder}@0.6",
        f"I am pico:{kinder}@0.8",
        "base: I am pico",
        f"edit: I am pico:{kinder}@0.8",
        "base: I am pico",
    ]
    assert talked.code == 0
    assert "there is no /nope" in talked.err
    assert "the strength 9 is outside [-4, 4]" in talked.err
    asked = [request["prompts"][0]["messages"] for request in generator.requests]
    assert [len(messages) for messages in asked] == [1, 3, 5, 5, 1]
    assert scalpel.done("chat", kinder, "hello", "--both").count("I am pico") == 2


def test_strengths_of_several_edits_are_multiplied() -> None:
    assert at_strength("base:a@0.6", 0.8) == "base:a@0.8"
    assert at_strength("base:a~3", -1) == "base:a~3@-1"
    assert at_strength("base:a@0.5+b", 0.5) == "base:a@0.25+b@0.5"
    with pytest.raises(WrongUse, match="base has no edit"):
        at_strength("base", 1)


def test_responses_are_compared_side_by_side(
    scalpel: Scalpel, generator: FakeGenerator, kinder: str
) -> None:
    shown = scalpel.done("compare", "kinder", "Say who you are", "-s", "0", "-s", "0.5")
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[0] == "Say who you are"
    assert lines[1].split() == ["base", "I", "am", "pico"]
    assert lines[2].split() == ["at", "0.5", "I", "am", f"pico:{kinder}@0.5"]


def test_text_of_a_model_does_not_steer_the_terminal(
    scalpel: Scalpel, generator: FakeGenerator, kinder: str
) -> None:
    def hostile(request: dict[str, Any]) -> Lines:
        return [
            {"type": "delta", "index": 0, "text": "\x1b[2Jgone\x9b1m\n"},
            {
                "type": "finish",
                "index": 0,
                "finish_reason": "stop",
                "prompt_tokens": 1,
                "completion_tokens": 1,
            },
        ]

    generator.answer = hostile
    assert scalpel.done("chat", kinder, "hi") == "\ufffd[2Jgone\ufffd1m\n\n"
