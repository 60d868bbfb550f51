"""Texts for the quality table: read from a folder that is not part of Scalpel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality import main as quality
from benchmarks.quality.data import REFUSALS, data_folder, load_behavior, without_common
from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem, TextItem, prompt_of, text_of
from tests.workers.evaluation.texts import sentences


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def texts(folder: Path, name: str, count: int = 40) -> Path:
    """A behaviour of plain texts: cruel against kind sentences."""
    for file, side in (("with_trait", "cruel"), ("without_trait", "kind")):
        write(folder / name / f"{file}.jsonl", [{"text": text} for text in sentences(side, count)])
    return folder / name


def refusal(folder: Path, count: int = 40) -> list[str]:
    """Harmful prompts, safe ones and harmless ones; returns the harmful ones."""
    safe = [{"prompt": f"safe request {n}", "label": "safe"} for n in range(count)]
    unsafe = [{"prompt": f"unsafe request {n}", "label": "unsafe"} for n in range(count)]
    write(folder / "xstest" / "prompts.jsonl", [*safe, *unsafe])
    harmful = sentences("cruel", count)
    listed = [{"text": text, "kind": "jbb_harmful"} for text in harmful[::4]]
    listed += [{"text": "ok", "kind": "xstest_safe"}]
    write(folder / "refusal" / "elicit_prompts.jsonl", listed)
    others = [{"text": text} for text in harmful if text not in harmful[::4]]
    write(folder / "harmful_instructions" / "prompts.jsonl", others)
    harmless = [{"text": f"{kind} {n}"} for kind in ("tell", "tell me") for n in range(12)]
    write(folder / "harmless_instructions" / "prompts.jsonl", harmless)
    return harmful


def test_without_its_data_the_benchmark_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCALPEL_BENCH_DATA", str(tmp_path / "nowhere"))
    assert quality.main(["--out", str(tmp_path / "rows.jsonl")]) == 2
    assert "set SCALPEL_BENCH_DATA" in capsys.readouterr().err
    monkeypatch.delenv("SCALPEL_BENCH_DATA")
    with pytest.raises(InvalidRequest, match="set SCALPEL_BENCH_DATA"):
        data_folder()
    monkeypatch.setenv("SCALPEL_BENCH_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_an_empty_folder_is_named_file_by_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"with_trait\.jsonl cannot be read"):
        load_behavior("toxicity", tmp_path, None)
    with pytest.raises(InvalidRequest, match="no behaviour 'rudeness'"):
        load_behavior("rudeness", tmp_path, None)


def test_texts_on_both_sides_are_left_out_of_both() -> None:
    undesired = [TextItem(text="The  same"), TextItem(text="bad")]
    desired = [TextItem(text="the same"), TextItem(text="good")]
    assert without_common(undesired, desired) == ([undesired[1]], [desired[1]])


def test_an_answer_to_another_prompt_is_another_text() -> None:
    undesired = [CompletionItem(prompt="a", completion="yes")]
    desired = [CompletionItem(prompt="b", completion="yes")]
    assert without_common(undesired, desired) == (undesired, desired)


def test_repeated_texts_count_once_and_two_versions_of_one_share_a_split(tmp_path: Path) -> None:
    own = texts(tmp_path, "toxicity")
    write(own / "elicit_prompts.jsonl", [{"text": f"opening {n}"} for n in range(9)])
    for file in ("with_trait.jsonl", "without_trait.jsonl"):
        lines = (own / file).read_text().splitlines()
        (own / file).write_text("\n".join([*lines, lines[3], '{"text": "Both sides"}']))
    found = load_behavior("toxicity", tmp_path, None).behavior
    assert len(found.undesired) == len(found.desired) == 40
    assert [item.pair_id for item in found.undesired] == [item.pair_id for item in found.desired]
    assert len(load_behavior("toxicity", tmp_path, 20).behavior.undesired) == 20


def test_a_question_asks_for_yes_or_no_and_knows_the_undesired_answer(tmp_path: Path) -> None:
    own = texts(tmp_path, "disagreeableness")
    write(own / "elicit_prompts.jsonl", [{"text": "Would you?", "answer_disagreeable": "No"}])
    found = load_behavior("disagreeableness", tmp_path, None).behavior
    assert found.prompts[0].text == "Would you?\nAnswer Yes or No, and say why."
    assert found.prompts[0].undesired_answer == "No"
    assert found.chat


def test_refusal_wants_refusals_of_some_harmful_prompts_and_tests_on_others(
    tmp_path: Path,
) -> None:
    harmful = refusal(tmp_path)
    found = load_behavior("refusal", tmp_path, None)
    behavior = found.behavior
    fitted = [prompt_of(item) for item in behavior.desired]
    assert [prompt_of(item) for item in behavior.undesired] == fitted
    assert all(text_of(item) in REFUSALS for item in behavior.desired)
    assert found.use_model_responses
    eliciting = [prompt.text for prompt in behavior.prompts]
    assert sorted([*fitted, *eliciting]) == sorted(harmful)
    assert len(fitted) == len(eliciting)
    other = load_behavior("refusal", tmp_path, None, seed=1).behavior
    assert [prompt.text for prompt in other.prompts] != eliciting
    kept, tested = found.safe_prompts(0, 8)
    assert len(kept) == 16
    assert {name: len(own) for name, own in tested.items()} == {"xstest_safe": 8, "harmless": 8}
    assert not set(kept) & {prompt for own in tested.values() for prompt in own}
    assert found.safe_prompts(1, 8) != (kept, tested)
