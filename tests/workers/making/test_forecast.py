"""What an edit is said to take, against what edits have taken and what their files hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models_store.schemas.estimates import EstimatedSeconds, PastCost
from models_store.schemas.items import CompletionItem
from models_store.schemas.methods import Auto, FixedMethod, Limits
from models_store.weights.architectures import DOWN, GATE, MatrixKey
from models_store.weights.delta import dump_delta
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.estimate.costs import GENERATED, READ, generation_meter_tokens
from workers.making.forecast import Speed, delta_bytes, memory_bytes
from workers.making.forecast import seconds as seconds_of
from workers.making.search.choosing import recipes_of
from workers.making.search.recipes import Recipe, methods_of, recipes
from workers.runtime.edits.deltas import to_delta
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, cpu_capability, device_name, load_base
from workers.surgery.methods.attribution import Attribution
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.conditional import Conditional
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.natural import Natural
from workers.surgery.methods.natural_bias import NaturalBias
from workers.surgery.terms import Term, make_term

PROMPTS = [f"prompt number {number} asks something" for number in range(900)]
REFERENCE = Speed(READ, GENERATED)


def context(
    base: LoadedModel, effort: Any = "standard", prompts: int = 300, max_new_tokens: int = 24
) -> EvaluationContext:
    asked = behavior(400, prompts=PROMPTS[:prompts], max_new_tokens=max_new_tokens)
    return EvaluationContext(
        model=EditedModel(base),
        behavior=asked,
        splits=split_behavior(asked, 0),
        method="bias",
        limits=Limits(),
        seed=0,
        plan=plan_for(effort),
    )


def seconds(
    asked: EvaluationContext, method: Any, effort: Any, speed: Speed, *, tokens_per_text: float
) -> EstimatedSeconds:
    tried = recipes_of(asked, method, effort)
    return seconds_of(asked, method, tried, effort, speed, tokens_per_text=tokens_per_text)


def alone(method: FixedMethod) -> list[Recipe]:
    return [Recipe((method,), (1.0,))]


def conditions(asked: EvaluationContext) -> bool:
    """Whether a search tries the method `conditional`."""
    methods = methods_of(recipes_of(asked, Auto(), "quick"))
    return any(isinstance(method, Conditional) for method in methods)


def test_standard_is_a_few_minutes_for_a_model_of_the_measured_speeds(pico: LoadedModel) -> None:
    found = seconds(context(pico), Bias(), "standard", REFERENCE, tokens_per_text=40)

    assert found.search == 0
    # 121 s were measured for such an edit with less to evaluate, some 40 of them to fit it.
    assert 30 < found.fit < 90
    assert 100 < found.test < 300
    assert found.total == pytest.approx(found.fit + found.test, abs=0.2)


def test_a_search_costs_more_the_greater_the_effort(pico: LoadedModel) -> None:
    found = {
        effort: seconds(context(pico, effort), Auto(), effort, REFERENCE, tokens_per_text=40)
        for effort in ("quick", "standard", "thorough")
    }

    assert found["quick"].search < found["standard"].search < found["thorough"].search
    assert found["quick"].total < found["standard"].total < found["thorough"].total
    assert 100 < found["standard"].search < 500


@pytest.mark.parametrize(
    ("prompts", "max_new_tokens", "generations"),
    [(300, 24, 100), (900, 24, 100), (300, 240, 30), (50, 24, 10 * 4)],
)
def test_a_search_generates_with_no_more_prompts_than_it_uses(
    pico: LoadedModel, prompts: int, max_new_tokens: int, generations: int
) -> None:
    asked = context(pico, "thorough", prompts, max_new_tokens)
    one_a_second = Speed(read=1e12, generated=1)

    found = seconds(asked, Auto(), "thorough", one_a_second, tokens_per_text=40)

    finals_and_base = 1.5 * BUDGETS["thorough"].finalists + 1
    arms = 0.7 * len(recipes(pico.layers, 100)) + finals_and_base
    of_meter = 2 * generation_meter_tokens(asked, BUDGETS["thorough"].final_damage)
    assert found.search == pytest.approx(arms * generations * max_new_tokens + of_meter)


def earlier(base: LoadedModel, **changes: Any) -> PastCost:
    """What an edit took on this machine: 300 texts, and 2,400 generated tokens."""
    stages = {"load": 3.0, "extract": 20.0, "probe": 1.0, "select": 2.0, "tune": 40.0}
    fields: dict[str, Any] = {
        "stages": {**stages, "evaluate": 100.0, "publish": 1.0},
        "texts": 300,
        "generated": 2400,
        "device": device_name(base.device),
        "dtype": "float32",
        "cpu_capability": cpu_capability(),
    }
    return PastCost(**{**fields, **changes})


@pytest.mark.parametrize(
    ("method", "expected"), [(Bias(), (86.0, 0.0, 201.0)), (Auto(), (46.0, 80.0, 201.0))]
)
def test_it_takes_as_long_as_before_for_each_text_and_token(
    pico: LoadedModel, method: Any, expected: tuple[float, float, float]
) -> None:
    asked = context(pico)
    # Half as many texts and tokens as now.
    texts = (len(asked.splits.fit) + len(asked.splits.heldout)) // 2
    generated = len(asked.prompts) * asked.plan.samples * 24 // 2
    past = [
        earlier(pico, texts=texts, generated=generated),
        *[earlier(pico, device="another"), earlier(pico, dtype="bfloat16")] * 2,
    ]
    tried = recipes_of(asked, method, "standard")

    found = seconds_of(asked, method, tried, "standard", REFERENCE, tokens_per_text=40, past=past)

    assert (found.fit, found.search, found.test) == pytest.approx(expected, rel=0.01)
    assert found.total == pytest.approx(sum(expected), rel=0.01)


def test_of_several_earlier_edits_the_middle_one_counts(pico: LoadedModel) -> None:
    asked = context(pico)
    past = [
        earlier(pico, stages={"load": taken, "evaluate": 10 * taken}, generated=10**9)
        for taken in (4.0, 1.0, 90.0)
    ]

    found = seconds_of(
        asked, Bias(), alone(Bias()), "standard", REFERENCE, tokens_per_text=40, past=past
    )

    assert found.fit == 4.0


def test_half_the_speed_takes_twice_as_long(pico: LoadedModel) -> None:
    half = Speed(READ / 2, GENERATED / 2)
    fast, slow = (
        seconds(context(pico), Natural(), "quick", speed, tokens_per_text=40)
        for speed in (REFERENCE, half)
    )

    assert slow.test == pytest.approx(2 * fast.test, rel=0.01)
    assert fast.fit < slow.fit < 2 * fast.fit  # loading and solving do not depend on them


def test_a_search_that_tries_a_condition_reads_for_it(pico: LoadedModel) -> None:
    sides = {
        side: [
            CompletionItem(prompt=f"{side} request {number}", completion=text)
            for number, text in enumerate(sentences(tone, 100))
        ]
        for side, tone in (("undesired", "cruel"), ("desired", "kind"))
    }
    asked = behavior(**sides, prompts=PROMPTS[:60])
    plain = replace(context(pico), behavior=asked, splits=split_behavior(asked, 0))
    kept = tuple(CompletionItem(prompt=prompt, completion="yes") for prompt in PROMPTS[:40])
    tokens_a_second = Speed(read=1, generated=1e12)
    few, enough = (replace(plain, preserve=kept[:number]) for number in (15, 40))

    assert not conditions(few)
    assert conditions(enough)
    found = [
        seconds(one, Auto(), "quick", tokens_a_second, tokens_per_text=10).fit
        for one in (few, enough)
    ]
    # Moments, on a pass over the texts that there is anyway, and a pass over what is preserved.
    fit = 10 * len(plain.splits.fit)
    assert found[1] - found[0] == pytest.approx(0.3 * fit + 1.3 * 10 * 40, rel=1e-3)


def written(base: LoadedModel, method: FixedMethod) -> int:
    """Bytes of a delta of the shape that a method gives."""
    terms: list[Term] = []
    for layer in range(base.layers):
        if isinstance(method, Bias | NaturalBias | Conditional):
            key, rows = MatrixKey(layer, DOWN), HIDDEN
            direction = torch.full((INTERMEDIATE,), layer + 1.0)
        else:
            key, rows = MatrixKey(layer, GATE), round(method.fraction * INTERMEDIATE)
            # The paper's direction is the same in every layer, and is stored once.
            paper = isinstance(method, ModelSurgery)
            direction = torch.full((HIDDEN,), 1.0 if paper else layer + 1.0)
        terms.append(make_term(key, direction, torch.arange(rows), torch.ones(rows)))
    return len(dump_delta(to_delta(terms, base.fingerprint, method.type)))


@pytest.mark.parametrize(
    "method",
    [
        Bias(layers=(0, 1)),
        NaturalBias(layers=(0, 1)),
        Conditional(layers=(0, 1)),
        ModelSurgery(fraction=0.25),
        Natural(),
        Attribution(fraction=0.5),
    ],
    ids=lambda method: method.type,
)
def test_the_size_of_a_delta_is_foretold(pico: LoadedModel, method: FixedMethod) -> None:
    assert delta_bytes(pico, alone(method)) == pytest.approx(written(pico, method), rel=0.35)


def test_memory_grows_with_what_a_method_keeps(pico: LoadedModel) -> None:
    every, conditional = (
        methods_of(recipes(pico.layers, 100, responses=True, preserved=preserved))
        for preserved in (False, True)
    )
    plain, shifted, gradients, search = (
        memory_bytes(pico, methods) for methods in ([Bias()], [NaturalBias()], [Natural()], every)
    )

    assert 500e6 < plain < min(shifted, gradients)
    assert max(shifted, gradients) < search < 2e9
    # The moments of one layer more, of the two of the model the only one that is written.
    assert memory_bytes(pico, conditional) == search + 4 * INTERMEDIATE**2


def test_any_model_with_gates_has_a_forecast(load_pico: Callable[..., LoadedModel]) -> None:
    for family in ("mixtral", "phi3"):
        base = load_pico(family)
        assert delta_bytes(base, alone(ModelSurgery())) > 0
        assert memory_bytes(base, [ModelSurgery()]) > 500e6


@pytest.mark.smollm2
def test_memory_and_size_are_those_that_were_measured(smollm2_folder: Path) -> None:
    base = load_base(smollm2_folder, device="cpu", dtype="auto")

    # A receipt of `bias` with three layers has 1.3 GB and 33 kB.
    assert memory_bytes(base, [Bias()]) == pytest.approx(1.3e9, rel=0.25)
    assert delta_bytes(base, alone(Bias())) == pytest.approx(33_000, rel=0.1)
