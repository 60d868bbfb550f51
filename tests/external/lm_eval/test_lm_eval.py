"""lm-eval scores a model through `/v1/completions` as it scores the same weights in its process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models_store.schemas.catalogue import SMOLLM2
from tests.system.service import running_service

pytestmark = [pytest.mark.lm_eval, pytest.mark.smollm2, pytest.mark.timeout(1200)]

PYTHON = "SCALPEL_LM_EVAL_PYTHON"
_QUESTIONS = [
    ("Snow is", ["white and cold", "green and hot"]),
    ("At night the sky is", ["dark", "made of bread"]),
    ("Fish live in", ["water", "the oven"]),
    ("A week has", ["seven days", "nine hundred days"]),
    ("To cut bread one takes a", ["knife", "cloud"]),
    ("The opposite of hot is", ["cold", "table"]),
    ("Birds can", ["fly", "fry"]),
    ("Paris is the capital of", ["France", "Japan"]),
    ("Two and two make", ["four", "nine"]),
    ("Apples grow on", ["trees", "trains"]),
    ("People drink coffee from a", ["cup", "shoe"]),
    ("Ice melts when it gets", ["warm", "late"]),
]
_TASK = """\
task: plain_sense
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small task."""
    folder = tmp_path_factory.mktemp("tasks")
    data = folder / "plain_sense.jsonl"
    rows = [
        {
            "question": question,
            "choices": choices[:: 1 if place % 3 else -1],
            "answer": int(place % 3 == 0),
        }
        for place, (question, choices) in enumerate(_QUESTIONS)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "plain_sense.yaml").write_text(_TASK.format(data=data), encoding="utf-8")
    return folder


def scored(tasks: Path, out: Path, model: str, arguments: str) -> list[dict[str, Any]]:
    """What lm-eval found for each question."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"no lm-eval: {PYTHON} names no interpreter with it; run make test-lm-eval")
    done = subprocess.run(
        [
            *(python, "-m", "lm_eval", "--model", model, "--model_args", arguments),
            *("--tasks", "plain_sense", "--include_path", str(tasks), "--batch_size", "4"),
            *("--output_path", str(out), "--log_samples", "--device", "cpu"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (samples,) = out.rglob("samples_plain_sense_*.jsonl")
    found = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return sorted(found, key=lambda sample: int(sample["doc_id"]))


def test_a_score_through_the_api_is_the_score_in_process(
    tasks: Path, tmp_path: Path, smollm2_folder: Path
) -> None:
    with running_service(tmp_path / "data", SCALPEL_DTYPE="float32") as service:
        ours = scored(
            tasks,
            tmp_path / "ours",
            "local-completions",
            f"base_url={service.url}/v1/completions,model={SMOLLM2.id},"
            f"tokenizer={smollm2_folder},tokenized_requests=True,num_concurrent=2",
        )
    theirs = scored(tasks, tmp_path / "theirs", "hf", f"pretrained={smollm2_folder},dtype=float32")
    assert len(ours) == len(theirs) == len(_QUESTIONS)
    for own, other in zip(ours, theirs, strict=True):
        assert (own["acc"], own["acc_norm"]) == (other["acc"], other["acc_norm"])
        for (mine, greedy), (reference, argmax) in zip(
            _likelihoods(own), _likelihoods(other), strict=True
        ):
            assert mine == pytest.approx(reference, abs=1e-3)
            assert greedy == argmax
    assert sum(sample["acc"] for sample in ours) > len(_QUESTIONS) / 2


def _likelihoods(sample: dict[str, Any]) -> list[tuple[float, bool]]:
    """Of each choice: its log-likelihood, and whether it is what greedy decoding says."""
    found = []
    for response in sample["filtered_resps"]:
        logprob, greedy = response
        found.append((float(logprob), str(greedy) == "True"))
    return found
