"""Edits in the terminal: making, finding, showing, downloading."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.work.bodies import put
from app.cli.work.files import import_files
from models_store.schemas.report_views import summary_of
from models_store.work.store import Place
from tests.app.behaviors.test_drafts import answer
from tests.app.cli.command import Scalpel
from tests.app.support.generator import FakeGenerator
from tests.app.support.sample_report import full_report
from tests.app.support.worker import Worker, edit_body, small_delta
from tests.support.services import Api


@pytest.fixture
def scalpel(command: Scalpel, api: Api, worker: Worker) -> Scalpel:
    return command.at(api)


@pytest.fixture
def kinder(api: Api, worker: Worker) -> str:
    """An edit with a whole receipt."""
    body = edit_body(suffix="kinder", metadata={"team": "docs"})
    id: str = api.http.post("/v1/edits", json=body).json()["id"]
    report = full_report()
    worker.end(
        Place("edit", "default", id),
        files={"delta": small_delta(), "report": report.model_dump_json().encode()},
        data={"points": [], "report_summary": summary_of(report).model_dump(mode="json")},
    )
    return id


def test_edits_are_listed_and_chosen(
    scalpel: Scalpel, api: Api, worker: Worker, kinder: str
) -> None:
    running = api.http.post("/v1/edits", json=edit_body(suffix="calmer")).json()["id"]
    worker.claim(running)
    worker.tell_stage(running, "tune", 0.43)

    first, second = scalpel.done("list").splitlines()[1:]
    assert first.split()[:6] == [running, "calmer", "tone", "running", "tune", "43%"]
    assert second.split()[:4] == [kinder, "kinder", "tone", "succeeded"]
    assert " % → " in second
    for chosen in (
        ("--status", "succeeded"),
        ("--suffix", "kinder"),
        ("--metadata", "team=docs"),
    ):
        assert scalpel.done("list", *chosen).split()[-1:] != []
        assert running not in scalpel.done("list", *chosen)
    assert len(scalpel.done("list", "--behavior", "tone", "--base-model", "pico").splitlines()) == 3
    assert "no such edits" in scalpel("list", "--behavior", "other").err
    more = scalpel("list", "-n", "1")
    assert (len(more.out.splitlines()), "there are more" in more.err) == (2, True)


def test_a_list_and_an_edit_are_the_apis_own_json(scalpel: Scalpel, api: Api, kinder: str) -> None:
    assert json.loads(scalpel.done("list", "--json")) == api.http.get("/v1/edits").json()
    assert json.loads(scalpel.done("show", kinder, "--json")) == (
        api.http.get(f"/v1/edits/{kinder}").json()
    )
    report = json.loads(scalpel.done("receipt", "kinder", "--json"))
    assert report == api.http.get(f"/v1/edits/{kinder}/report").json()


def test_an_edit_is_shown_by_any_of_its_names(scalpel: Scalpel, kinder: str) -> None:
    shown = scalpel("show", kinder)
    summary = summary_of(full_report())
    for name in ("kinder", "pico:kinder"):
        assert f"{kinder} (kinder)" in scalpel.done("show", name)
    assert f"{kinder} (kinder)" in shown.out
    assert summary.verdict.split(";")[0][:60] in shown.out
    assert f"undesired by {summary.scorer}" in shown.out
    assert f"scalpel receipt {kinder}" in shown.err
    assert not any(len(word) > 12 and word.replace(".", "").isdigit() for word in shown.out.split())
    missing = scalpel("show", "nobody")
    assert (missing.code, missing.err) == (
        2,
        "scalpel: there is no edit 'nobody': `scalpel list` shows them\n",
    )


def test_the_name_of_an_edit_that_failed_passes_on(
    scalpel: Scalpel, api: Api, worker: Worker
) -> None:
    ids = []
    for _ in range(2):
        ids.append(api.http.post("/v1/edits", json=edit_body(suffix="twice")).json()["id"])
        worker.fail(ids[-1])
    assert ids[-1] in scalpel.done("show", "twice")
    for words in (("delete", "twice", "--yes"), ("cancel", "pico:twice")):
        refused = scalpel(*words)
        assert (refused.code, [id in refused.err for id in ids]) == (2, [True, True])
    kept = api.http.post("/v1/edits", json=edit_body(suffix="twice")).json()["id"]
    assert kept in scalpel.done("show", "twice")


def test_a_receipt_is_drawn_and_comes_in_each_format(
    scalpel: Scalpel, api: Api, kinder: str, tmp_path: Path
) -> None:
    report = full_report()
    drawn = scalpel.done("receipt", "kinder")
    assert drawn.startswith(report.verdict.conclusion or "not tested")
    for title in ("Effect: share", "Beside controls", "Damage", "Samples", "Cost"):
        assert f"\n{title}" in drawn
    for effect in report.effects:
        assert f"  {effect.scorer} " in drawn
    file = tmp_path / "receipt.html"
    scalpel.done("receipt", "kinder", "--html", "--output", file)
    again = ("receipt", "kinder", "--html", "--output", file)
    assert (scalpel(*again).code, scalpel(*again, "--force").code) == (2, 0)
    headers = {"Accept": "text/html"}
    page = api.http.get(f"/v1/edits/{kinder}/report", headers=headers).text
    assert file.read_text(encoding="utf-8") == page
    assert scalpel.done("receipt", "kinder", "--markdown").startswith("---\nbase_model: ")
    assert scalpel("receipt", "kinder", "--markdown", "--html").code == 2


def test_a_delta_is_downloaded_once_and_checked(
    scalpel: Scalpel, kinder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(small_delta()).hexdigest()
    assert scalpel.done("download", "pico:kinder") == f"{digest}  kinder.safetensors\n"
    assert Path("kinder.safetensors").read_bytes() == small_delta()
    again = scalpel("download", "kinder")
    assert (again.code, "--force replaces it" in again.err) == (2, True)
    assert scalpel("download", "kinder", "--force").code == 0
    assert scalpel("download", "kinder", "--point", "7", "-o", "other").code == 2
    assert sorted(path.name for path in tmp_path.glob("*.safetensors*")) == ["kinder.safetensors"]
    assert not list(tmp_path.glob(".*.part"))


def test_a_damaged_delta_is_not_left_behind(
    scalpel: Scalpel, api: Api, kinder: str, tmp_path: Path
) -> None:
    result = api.store.work.read("edit", "default", kinder).result
    assert result is not None
    path = next(one.path for one in result.artifacts if one.name == "delta")
    api.store.objects.put(path, small_delta()[:-1] + b"\1")
    ended = scalpel("download", "kinder", "-o", tmp_path / "kinder.safetensors")
    assert (ended.code, "damaged" in ended.err) == (1, True)
    assert not (tmp_path / "kinder.safetensors").exists()


def test_every_field_of_a_request_can_be_set(scalpel: Scalpel, api: Api, tmp_path: Path) -> None:
    file, kept = tmp_path / "request.json", tmp_path / "kept.txt"
    file.write_text(json.dumps(edit_body(seed=5, limits={"max_loops": 0.3}, suffix="one")))
    kept.write_text('A text that stays.\n{"prompt": "Ask", "completion": "Say"}\n')
    made = json.loads(
        scalpel.done(
            *("edit", "--request", file, "--suffix", "two", "--effort", "quick"),
            *("--max-kl", "0.05", "--metadata", "team=docs", "--preserve", kept),
            *("--set", "method.type=bias", "--set", "method.layers=[1]"),
            *("--set", "limits.max_domain=0.2", "--no-wait", "--json"),
        )
    )
    assert made == api.http.get(f"/v1/edits/{made['id']}").json()
    assert (made["seed"], made["suffix"], made["effort"]) == (5, "two", "quick")
    assert (made["method"]["type"], made["method"]["layers"]) == ("bias", [1])
    limits = made["limits"]
    assert [limits[name] for name in ("max_loops", "max_kl", "max_domain")] == [0.3, 0.05, 0.2]
    assert made["metadata"] == {"team": "docs"}


def test_settings_are_json_or_text_and_make_their_place(tmp_path: Path) -> None:
    file = tmp_path / "texts.json"
    file.write_text('["a"]')
    body: dict[str, Any] = {"limits": None}
    for setting in ("limits.max_kl=0.1", "suffix=kinder", f"preserve=@{file}", 'm.a="1"', "x=a=b"):
        put(body, setting)
    assert body == {
        "limits": {"max_kl": 0.1},
        "suffix": "kinder",
        "preserve": ["a"],
        "m": {"a": "1"},
        "x": "a=b",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "nothing"), "write PATH=VALUE"),
        (("--set", "suffix=a", "--set", "suffix.b=c"), "suffix has no fields"),
        (("--set", "limits.max_kl=-1"), "/limits/max_kl: must be greater than 0"),
        (("--set", "seed=x", "--set", "no_field=1"), "2 fields are wrong\n  /"),
        (("--metadata", "team"), "write KEY=VALUE"),
        (("--request", "/nowhere.json"), "/nowhere.json cannot be read"),
        (("--suffix", "Not a name"), "/suffix: "),
    ],
)
def test_what_is_wrong_is_said_with_its_field(
    scalpel: Scalpel, words: tuple[str, ...], said: str
) -> None:
    ended = scalpel("edit", "pico", "negativity", "--no-wait", *words)
    assert ended.code == 2
    assert ended.err.startswith("scalpel: ")
    assert said in ended.err


def test_watching_ends_with_the_outcome(
    scalpel: Scalpel, api: Api, worker: Worker, kinder: str
) -> None:
    watched = scalpel("watch", "kinder")
    assert (watched.code, "verdict" not in watched.err) == (0, True)
    assert f"scalpel compare {kinder}" in watched.err
    assert "status      succeeded" in watched.out
    failed = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    worker.fail(failed)
    ended = scalpel("watch", failed)
    assert (ended.code, ended.err) == (
        1,
        f"scalpel: {failed} failed: it went wrong (edit_error)\n",
    )
    assert scalpel("receipt", failed).code == 2
    waiting = api.http.post("/v1/edits", json=edit_body()).json()["id"]
    assert scalpel("receipt", waiting).code == 3


def test_an_edit_is_deleted_only_if_that_is_said(
    scalpel: Scalpel, api: Api, kinder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert scalpel("delete", "kinder").code == 1
    assert api.http.get(f"/v1/edits/{kinder}").status_code == 200
    assert scalpel.done("delete", "kinder", "--yes") == f"{kinder} deleted\n"
    assert api.http.get(f"/v1/edits/{kinder}").status_code == 404


def test_a_sentence_becomes_an_edit_once_its_texts_were_shown(
    scalpel: Scalpel, api: Api, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator.answer = answer
    described = ("edit", "pico", "--describe", "stop hedging", "--count", 20, "--no-wait")
    made = scalpel(*described, "--yes", "--json")
    assert made.code == 0, made.err
    assert "20 of 20 pairs kept, written by pico" in made.err
    assert "Perhaps it might be so" in " ".join(made.err.split())
    assert json.loads(made.out)["behavior"]["counts"]["undesired"] == 20
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert scalpel(*described).code == 1
    assert len(api.http.get("/v1/edits").json()["data"]) == 1
    assert scalpel("edit", "pico", "negativity", "--describe", "stop hedging").code == 2


def test_files_of_an_import_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(Exception, match=r"adapter_model\.safetensors is not there"):
        import_files(tmp_path)
