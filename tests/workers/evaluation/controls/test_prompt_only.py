from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from models_store.schemas.items import Prompt
from tests.support.pico import END, SPECIAL, START
from tests.workers.evaluation.contexts import PLAN, bias_term, small_context
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.controls.alternatives import prompt_wordings
from workers.evaluation.controls.prompt_only import Wording, best_wording, kl_of_wording
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.effect.effect import score_grid
from workers.evaluation.evaluate import evaluate
from workers.evaluation.scorers.prepare import PreparedScorer, prepare_scorers
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import MAX_PROMPT_TOKENS, encode_prompt


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _scorer(context: EvaluationContext) -> PreparedScorer:
    return prepare_scorers(context.behavior, context.splits, context.seed)[0]


def _best(context: EvaluationContext) -> Wording:
    return best_wording(context, _scorer(context))


def test_the_wording_that_does_most_on_validation_prompts_is_chosen(base: LoadedModel) -> None:
    context = small_context(base)
    asked = [prompt.text for prompt in context.splits.validate[: PLAN.wording_prompts]]
    scorer = _scorer(context)
    found = {}
    for wording in prompt_wordings(context.behavior, context.splits.fit):
        prompts = [_before(wording).with_prompt(text) for text in asked]
        arm = context.generate(context.model, prompts, seed=context.seeds["wording"])
        scores = score_grid(scorer, asked, arm.texts)
        found[wording] = (float((scores >= 0.5).mean()), float(scores.mean()))
    assert len(set(found.values())) > 1
    assert _best(context) == _before(min(found, key=lambda wording: found[wording]))


def _before(text: str) -> Wording:
    return Wording(text, "before_prompt")


def test_in_a_chat_the_wording_is_the_system_message(make_pico: Callable[..., Path]) -> None:
    base = load_base(make_pico("llama"), device="cpu", dtype="float32")
    context = small_context(base)
    chat = replace(context, behavior=context.behavior.model_copy(update={"chat": True}))
    assert (_best(context).role, _best(chat).role) == ("before_prompt", "system")
    (ids,) = chat.encoded([Wording("be kind", "system").with_prompt("people are")])
    assert base.tokenizer.decode(ids) == (
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\npeople are<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    base = load_base(make_pico("llama"), device="cpu", dtype="float32")
    base.tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    assert _best(replace(chat, model=EditedModel(base))).role == "before_prompt"


def test_the_kl_of_a_system_message_is_that_of_answers_after_it(base: LoadedModel) -> None:
    wording = "You are kind and happy people"
    found = kl_of_wording(EditedModel(base), Wording(wording, "system"), each=3)
    assert found == pytest.approx(_slow_kl(base, wording, 3, system=True), rel=1e-4)


def test_the_wording_does_not_depend_on_the_test_prompts(base: LoadedModel) -> None:
    for seed in range(3):
        context = small_context(base, seed=seed)
        other = tuple(Prompt(text=f"a bad day {i}, a sad day") for i in range(12))
        changed = replace(context, splits=replace(context.splits, test=other))
        assert _best(changed) == _best(context)


def test_without_validation_prompts_the_first_wording_is_taken(base: LoadedModel) -> None:
    context = small_context(base)
    none = replace(context, splits=replace(context.splits, validate=()))
    assert _best(none).text == prompt_wordings(none.behavior, none.splits.fit)[0]


def test_the_receipt_tells_the_wording_and_what_it_does(base: LoadedModel) -> None:
    plan = replace(PLAN, controls=("prompt_only",))
    context = small_context(base, plan=plan)
    (control,) = evaluate(context, [bias_term()]).controls
    best = _best(context)
    assert (control.wording, control.role) == (best.text, best.role)
    assert (control.target_kl, control.matched) == (None, False)
    asked = [prompt.text for prompt in context.prompts[: plan.control_prompts]]
    prompts = [best.with_prompt(text) for text in asked]
    arm = context.generate(context.model, prompts)
    scores = score_grid(_scorer(context), asked, arm.texts)
    assert control.effects[0].score.edited == pytest.approx(scores.mean())
    assert control.kl > 0


def _slow_kl(base: LoadedModel, wording: str, each: int, *, system: bool = False) -> float:
    """Token by token, from full logits, without batches."""
    neutral = encode_neutral(base, "calibration", each=each)
    means = []
    plain, answers = neutral.parts
    for part in (answers,) if system else (plain, answers):
        total, positions = 0.0, 0
        for text in part:
            if text.prompt_length == 0:
                start = encode_prompt(base, wording + "\n\n", chat=False)
                special = len(base.tokenizer("")["input_ids"])
                ids = [*start, *text.ids[special:]]
            else:
                whole = base.tokenizer.decode(list(text.ids[: text.prompt_length]))
                begin = f"{START}user\n"
                asked = whole[whole.index(begin) :]
                if system:
                    asked = f"{START}system\n{wording}{END}\n{asked}"
                else:
                    asked = asked.replace(begin, begin + wording + "\n\n", 1)
                start = base.tokenizer(asked, add_special_tokens=False)["input_ids"]
                if len(start) > MAX_PROMPT_TOKENS:
                    start = [start[0], *start[1 - MAX_PROMPT_TOKENS :]]
                ids = [*start, *text.ids[text.prompt_length :]]
            with torch.no_grad():
                before = base.model(torch.tensor([text.ids])).logits[0].double().log_softmax(-1)
                after = base.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            for back in range(1, len(text.ids)):
                if not text.scored[-back]:
                    break
                p, q = before[-back - 1], after[-back - 1]
                total += float((p.exp() * (p - q)).sum())
                positions += 1
        means.append(total / positions)
    return max(means)


def test_the_kl_of_a_wording_is_that_of_every_token_behind_it(base: LoadedModel) -> None:
    wording = "You are kind and happy people"
    found = kl_of_wording(EditedModel(base), _before(wording), each=3)
    assert found == pytest.approx(_slow_kl(base, wording, 3), rel=1e-4)


def test_a_tokenizer_that_begins_every_text_begins_it_once(make_pico: Callable[..., Path]) -> None:
    base = load_base(make_pico("llama"), device="cpu", dtype="float32")
    base.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, SPECIAL.index(START))]
    )
    wording = "You are kind and happy people"
    found = kl_of_wording(EditedModel(base), _before(wording), each=3)
    assert found == pytest.approx(_slow_kl(base, wording, 3), rel=1e-4)


def test_a_model_without_a_chat_template_is_asked_in_plain_text(
    make_pico: Callable[..., Path],
) -> None:
    base = load_base(make_pico("llama", chat=False), device="cpu", dtype="float32")
    found = kl_of_wording(EditedModel(base), _before("You are kind"), each=3)
    assert found > 0
