"""Parts of the comparison with other methods that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.beside import heretic, lora
from benchmarks.beside.measuring import arms_of
from benchmarks.beside.rows import Cost, CostFile
from benchmarks.beside.table import costs_table, effects_table, fall, heretic_line, missing_line
from tests.benchmarks.rows import rates, row
from tests.support.pico import save_pico
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import Encoded, encode

# peft reads what transformers deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
TEXTS = ["the food was good", "people are kind and very happy today", "thanks"]
PRINTED = """\
* Initial refusals: 3/100
Running trial 1 of 2...
  * KL divergence: 0.0400
  * Refusals: 2/100
Running trial 2 of 2...
  * KL divergence: 0.1200
  * Refusals: 1/100
"""


@pytest.fixture
def base(tmp_path: Path) -> LoadedModel:
    return load_base(save_pico(tmp_path / "base"), device="cpu", dtype="float32")


def states(base: LoadedModel) -> torch.Tensor:
    encoded = encode(base, TEXTS, max_tokens=20, chat=False)
    return EditedModel(base).reading(encoded).states


def test_an_adapter_is_there_within_the_block_at_its_scale_and_gone_after_it(
    base: LoadedModel, tmp_path: Path
) -> None:
    before, weights = states(base), dict(base.model.state_dict())
    texts = encode(base, TEXTS, max_tokens=20, chat=False)
    losses = lora.train(base, texts, 30, tmp_path / "adapter", seed=0)
    assert len(losses) == 30
    assert losses[-1] < losses[0]
    assert torch.equal(states(base), before)
    with lora.adapted(base, tmp_path / "adapter") as scale_to:
        whole = states(base) - before
        assert whole.abs().max() > 1e-3
        scale_to(0.01)
        little = states(base) - before
        scale_to(0.0)
        assert torch.equal(states(base), before)
    # To first order the states follow the scale.
    assert torch.allclose(little.norm() / whole.norm(), torch.tensor(0.01), rtol=0.5)
    assert torch.equal(states(base), before)
    assert base.model.state_dict().keys() == weights.keys()


def test_training_twice_gives_the_same_adapter(base: LoadedModel, tmp_path: Path) -> None:
    texts = encode(base, TEXTS, max_tokens=20, chat=False)
    first, second = (lora.train(base, texts, 2, tmp_path / n, seed=1) for n in ("a", "b"))
    assert first == second


def test_padding_has_no_loss_and_no_attention() -> None:
    texts = [Encoded((5, 6, 7), (False, True, True), 1), Encoded((8,), (True,), 0)]
    ids, mask, labels = lora.padded(texts, pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert labels.tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_costs_are_kept_the_last_of_a_row_and_a_line_that_was_cut_is_dropped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out" / "costs.jsonl"
    file = CostFile(path)
    file.append(Cost(row="bare", label="bare", seconds=2.0))
    file.append(Cost(row="lora_1", label="LoRA", seconds=8.0))
    path.write_text(path.read_text()[:-5])
    again = CostFile(path)
    assert {name: cost.seconds for name, cost in again.rows.items()} == {"bare": 2.0}
    again.append(Cost(row="bare", label="bare", seconds=3.0))
    assert {name: cost.seconds for name, cost in CostFile(path).rows.items()} == {"bare": 3.0}


def test_arms_are_as_they_are_and_scaled_for_rows_that_make_an_edit() -> None:
    assert arms_of(["bare", "lora_1", "natural_bias", "heretic"]) == [
        "base",
        "lora_1",
        "lora_1/equal",
        "natural_bias/equal",
    ]


def test_times_are_multiples_of_the_bare_pass_and_a_row_that_failed_says_why() -> None:
    costs = {
        "bare": Cost(
            row="bare",
            label="bare pass",
            processes=2,
            seconds=1.2,
            core_seconds=2.0,
            peak_bytes=10**9,
        ),
        "lora_1": Cost(
            row="lora_1", label="LoRA", seconds=9.4, core_seconds=9.0, stored_bytes=5_000_000
        ),
        "heretic": Cost(row="heretic", label="heretic", failed="no data set"),
    }
    *_, bare, trained, failed = costs_table(costs, ["bare", "other", "lora_1", "heretic"]).split(
        "\n"
    )
    assert bare == "| bare pass | 2 | 1 | 2 | 1.0 | 1,000 |  |"
    assert trained == "| LoRA | 1 | 9 | 9 | 4.5 |  | 5,000 |"
    assert failed.startswith("| heretic | not run: no data set |")


def test_a_change_is_paired_by_prompt_and_prompts_of_a_template_count_once() -> None:
    before, after = row("base", rates(*[1.0] * 20)), row("edit", rates(*[1.0, 0.0] * 10))
    alone = fall(before, after, "test", "tfidf", list(range(20)))
    grouped = fall(before, after, "test", "tfidf", [i % 10 for i in range(20)])
    assert alone.value == grouped.value == -0.5
    assert grouped.high - grouped.low > alone.high - alone.low
    with pytest.raises(ValueError, match="other prompts"):
        fall(before, row("edit", rates(1.0)), "test", "tfidf", [0])


def test_effects_name_the_limits_that_are_exceeded() -> None:
    rows = [row("base", rates(*[1.0] * 8)), row("lora_1", rates(*[0.5] * 8))]
    harmful = row("lora_1/equal", rates(*[0.0] * 8))
    harmful = harmful.model_copy(update={"harm": harmful.harm.model_copy(update={"kl": 0.4})})
    costs = {"lora_1": Cost(row="lora_1", label="LoRA")}
    groups = list(range(8))
    plain = effects_table([*rows, harmful], costs, ["lora_1"], groups, equal=False)
    assert plain.split("\n")[-1].startswith("| LoRA | -50.0 [-50.0, -50.0] | -50.0 ")
    assert plain.endswith("|  |")
    equal = effects_table([*rows, harmful], costs, ["lora_1"], groups, equal=True)
    assert "-100.0" in equal
    assert equal.endswith("| KL |")


def test_what_was_not_measured_is_named() -> None:
    costs = {"bare": Cost(row="bare", label="bare")}
    line = missing_line(["bare", "auto"], costs, ["base", "auto", "auto/equal"], ["base"])
    assert line == (
        "Not measured in this run: the cost of `auto`; effect and damage of `auto`, `auto/equal`."
    )
    assert missing_line(["bare"], costs, ["base"], ["base"]) == ""


def test_what_heretic_prints_is_read() -> None:
    printed = heretic.read_log(PRINTED.splitlines())
    assert (printed.before, printed.prompts) == (3, 100)
    assert printed.trials == [(0.04, 2), (0.12, 1)]
    with pytest.raises(ValueError, match="no trial"):
        heretic.read_log(PRINTED.splitlines()[:2])
    assert heretic.reason(["Traceback\n", "│ OSError: no network │\n", "╰──╯\n"], 1) == (
        "OSError: no network"
    )
    assert heretic.reason([], 3) == "it ended with status 3"


def test_the_time_of_all_of_heretics_trials_is_estimated() -> None:
    figures = {"before": 3, "prompts": 100, "refusals": 1, "kl": 0.1}
    figures |= {"before_trials": 20.0, "a_trial": 5.0}
    cost = Cost(row="heretic", label="heretic", seconds=30.0, figures=figures)
    assert "about 17 core-minutes for its 200" in heretic_line({"heretic": cost})
    assert heretic_line({}) == ""
