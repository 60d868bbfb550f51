"""What methods make of the texts, on the model that the edit goes on top of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from models_store.errors import InvalidRequest
from models_store.objects.store import open_store
from models_store.schemas.items import CompletionItem, Item, TextItem
from models_store.schemas.methods import METHODS, FixedMethod
from models_store.settings import Settings
from models_store.weights.architectures import DOWN, GATE, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.workers.evaluation.texts import behavior, sentences
from workers.evaluation.damage.damage import REPORTED
from workers.evaluation.damage.neutral import encode_neutral
from workers.evaluation.data.splits import split_behavior
from workers.making.cache import Cache
from workers.making.fitting.fitting import Prepared, prepare
from workers.making.fitting.model_readings import BENIGN_TOKENS, benign_texts
from workers.making.fitting.source import Source
from workers.making.search.recipes import recipes
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.extract import features
from workers.runtime.reading.residuals import spread
from workers.runtime.tokens import encode
from workers.surgery.fitted import FittedEdit, pair
from workers.surgery.methods.attribution import Attribution
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.conditional import Conditional
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.natural import Natural
from workers.surgery.methods.natural_bias import NaturalBias
from workers.surgery.terms import Mixture, Term, make_term

EVERY: tuple[FixedMethod, ...] = (
    Bias(layers=(0, 1)),
    Natural(),
    Natural(layers=(1,)),
    Attribution(fraction=0.2),
    ModelSurgery(epochs=2),
)


@pytest.fixture
def load_pico(load_pico: Callable[..., LoadedModel]) -> Callable[..., LoadedModel]:
    """Its texts all begin with one token, so that `bias` finds layers to write into."""
    return partial(load_pico, first_token=True)


@pytest.fixture
def prepared_on(settings: Settings) -> Callable[..., Prepared]:
    def on(
        base: LoadedModel,
        methods: Sequence[FixedMethod] = EVERY,
        on_top: Mixture = (),
        preserve: Sequence[Item] = (),
        **texts: Any,
    ) -> Prepared:
        splits = split_behavior(behavior(**texts), seed=0)
        cache = Cache(open_store(settings), "default", EditedModel(base, on_top))
        source = Source(EditedModel(base, on_top), splits, chat=False, seed=0, preserve=preserve)
        return prepare(source, methods, cache)

    return on


def digests(candidate: FittedEdit) -> set[str]:
    return {term.digest for term in candidate.terms}


def below() -> list[Term]:
    """An edit of what methods read and of the gates that they choose rows of."""
    generator = torch.Generator().manual_seed(4)
    return [
        make_term(
            key,
            torch.randn(columns, generator=generator),
            torch.arange(rows),
            torch.randn(rows, generator=generator),
        )
        for key, rows, columns in (
            (MatrixKey(0, DOWN), HIDDEN, INTERMEDIATE),
            (MatrixKey(1, GATE), INTERMEDIATE, HIDDEN),
        )
    ]


def assert_close(one: FittedEdit, other: FittedEdit) -> None:
    """The same matrices and rows, and nearly the same numbers in them."""
    assert len(one.terms) == len(other.terms)
    for term, like in zip(one.terms, other.terms, strict=True):
        assert term.key == like.key
        assert torch.equal(term.rows, like.rows)
        written, expected = (
            torch.outer(each.coefficients, each.direction).double() for each in (term, like)
        )
        assert (written - expected).norm() < 1e-3 * expected.norm()


def test_neutral_text_that_weighs_feels_less_of_a_shift(
    pico: LoadedModel, prepared_on: Callable[..., Prepared]
) -> None:
    plain, gated = NaturalBias(layers=(0, 1)), NaturalBias(layers=(0, 1), neutral_weight=1.0)
    made = prepared_on(pico, (plain, gated)).made
    neutral = encode_neutral(pico, "calibration", each=20).texts
    own = encode(pico, behavior().desired, max_tokens=20, chat=False)
    for layer in (0, 1):
        felt = {}
        for method in (plain, gated):
            (term,) = [term for term in made[method].terms if term.layer == layer]
            on = [
                spread(pico, {layer: term.direction}, texts)[layer].mean for texts in (neutral, own)
            ]
            felt[method] = on[0] / on[1]
        assert felt[gated] < felt[plain] - 0.02
    assert made[gated].label == "natural_bias, layers 0, 1, neutral text weighs 1"


def test_every_method_makes_a_candidate_of_the_same_material(
    pico: LoadedModel, prepared_on: Callable[..., Prepared]
) -> None:
    prepared = prepared_on(pico)
    assert prepared.failures == {}
    made = prepared.made
    assert {term.key for term in made[EVERY[0]].terms} == {MatrixKey(0, DOWN), MatrixKey(1, DOWN)}
    assert {term.key for term in made[EVERY[1]].terms} == {MatrixKey(0, GATE), MatrixKey(1, GATE)}
    assert {term.key for term in made[EVERY[2]].terms} == {MatrixKey(1, GATE)}
    assert sum(len(term.rows) for term in made[EVERY[3]].terms) == round(0.2 * 2 * INTERMEDIATE)
    assert made[EVERY[4]].alpha == 1.0
    assert all(candidate.guess > 0 for candidate in made.values())


def test_what_is_remembered_makes_the_same_candidates_bit_by_bit(
    pico: LoadedModel, prepared_on: Callable[..., Prepared], settings: Settings
) -> None:
    first = prepared_on(pico)
    again = prepared_on(pico)
    objects = open_store(settings)
    files = objects.files("cache/statistics/_")
    assert len(files) == 4  # first tokens and curvature of two layers
    for info in files:
        objects.put(info.path, objects.read(info.path)[:-8])
    anew = prepared_on(pico)
    for method in EVERY:
        assert digests(first.made[method]) == digests(again.made[method])
        assert digests(first.made[method]) == digests(anew.made[method])
    whole = {info.path: info.size for info in objects.files("cache/statistics/_")}
    assert whole == {info.path: info.size for info in files}


def test_methods_are_fitted_on_the_model_that_they_go_on_top_of(
    load_pico: Callable[..., LoadedModel], prepared_on: Callable[..., Prepared]
) -> None:
    base, by_hand = load_pico(), load_pico()
    alone = prepared_on(base)
    stacked = prepared_on(base, on_top=[(below(), 0.7)])
    WeightEditor(by_hand).apply_([(below(), 0.7)])
    # Another tenant's empty cache would do: weights changed by hand must not be remembered.
    expected = prepared_on(by_hand, on_top=[(below(), 0.0)])
    for method in EVERY:
        assert_close(stacked.made[method], expected.made[method])
        assert stacked.made[method].details.keys() == expected.made[method].details.keys()
        assert digests(stacked.made[method]) != digests(alone.made[method])
    chosen, among_base = (one.made[EVERY[4]].details["mean_row_norm"] for one in (stacked, alone))
    assert chosen != pytest.approx(among_base)
    assert torch.equal(base.matrix(MatrixKey(0, DOWN)), load_pico().matrix(MatrixKey(0, DOWN)))


def test_an_edit_below_is_not_rounded_into_the_weights_to_be_read(
    load_pico: Callable[..., LoadedModel], prepared_on: Callable[..., Prepared]
) -> None:
    """In half precision a small edit of many numbers is mostly lost in the weights."""
    base = load_pico(load_dtype="bfloat16")
    tiny = [replace(term, coefficients=2e-4 * term.coefficients) for term in below()]
    inside, beside = load_pico(load_dtype="bfloat16"), SidePath(base)
    WeightEditor(inside).apply_([(tiny, 1.0)])
    found = prepared_on(base, [ModelSurgery(epochs=2)], on_top=[(tiny, 1.0)]).features.fit_features
    split = split_behavior(behavior(), seed=0)
    texts = encode(base, split.fit.items, max_tokens=100, chat=False)
    with beside.rows([[(tiny, 1.0)]]):
        expected = features(base, texts)
    # Rows are read in other batches there, which rounds otherwise.
    assert (found - expected).norm() < 0.5 * (features(inside, texts) - expected).norm()


def test_a_method_that_a_model_cannot_have_leaves_its_reason(
    load_pico: Callable[..., LoadedModel], prepared_on: Callable[..., Prepared]
) -> None:
    prepared = prepared_on(load_pico("mixtral"))
    assert set(prepared.made) == {EVERY[4]}
    assert all(isinstance(error, InvalidRequest) for error in prepared.failures.values())
    assert "experts" in prepared.failures[EVERY[1]].message


def test_the_papers_method_is_made_beside_the_edit_with_both_probes(
    pico: LoadedModel, prepared_on: Callable[..., Prepared]
) -> None:
    beside = prepared_on(pico, [Bias(layers=(1,))])
    assert beside.paper is not None
    assert set(beside.paper) == {"paper", "converged"}
    for probe, terms in beside.paper.items():
        method = ModelSurgery(probe=probe)
        itself = prepared_on(pico, [method])
        assert itself.paper is None
        assert {term.digest for term in terms} == digests(itself.made[method])
        assert itself.probe.kind == probe
        assert (itself.probe.cosine_to_start is None) == (probe == "converged")
    assert beside.probe.kind == "converged"


def test_a_pair_has_both_parts_at_their_scales(
    pico: LoadedModel, prepared_on: Callable[..., Prepared]
) -> None:
    made = prepared_on(pico).made
    both = pair(made[EVERY[1]], made[EVERY[0]], (0.5, 2.0))
    assert both.method == "natural+bias"
    assert both.label == "natural with bias, layers 0, 1"
    expected = [*made[EVERY[1]].at(0.5), *made[EVERY[0]].at(2.0)]
    assert [term.digest for term in both.terms] == [term.digest for term in expected]


def asked(kind: str, count: int = 40) -> list[CompletionItem]:
    """Answers to prompts of a kind, which their last word tells."""
    responses = ("i hate it", "the good food", "we like you")
    end = {"cruel": "people", "kind": "service"}[kind]
    return [
        CompletionItem(prompt=f"{text} {end}", completion=responses[number % 3])
        for number, text in enumerate(sentences(kind, count))
    ]


def test_a_conditional_edit_is_felt_at_the_ends_of_its_own_prompts(
    pico: LoadedModel, prepared_on: Callable[..., Prepared]
) -> None:
    method = Conditional(layers=(0, 1))
    own = {"undesired": asked("cruel"), "desired": asked("cruel")[::-1]}
    prepared = prepared_on(pico, [method], preserve=asked("kind"), **own)
    (candidate,) = prepared.made.values()
    assert candidate.label == "conditional, layers 0, 1"
    assert [term.key for term in candidate.terms] == [MatrixKey(0, DOWN), MatrixKey(1, DOWN)]
    told = candidate.details["felt"]
    assert isinstance(told, list)
    for felt in told:
        assert isinstance(felt, dict)
        assert felt["asked"] > 0.5 > felt["spared"]
    assert candidate.felt_kl * candidate.guess**2 == pytest.approx(0.1)


@pytest.mark.parametrize("preserve", [(), (TextItem(text="the good food"),)])
def test_a_condition_needs_prompts_that_it_does_not_hold_for(
    pico: LoadedModel, prepared_on: Callable[..., Prepared], preserve: Sequence[Item]
) -> None:
    own = {"undesired": asked("cruel"), "desired": asked("cruel")[::-1]}
    methods = [Bias(layers=(0,)), Conditional(layers=(0,))]
    prepared = prepared_on(pico, methods, preserve=preserve, **own)
    assert set(prepared.made) == {methods[0]}
    assert "`preserve` to fit on is an answer" in prepared.failures[methods[1]].message


def test_curvature_is_read_on_texts_that_no_scale_is_calibrated_on(pico: LoadedModel) -> None:
    calibrated = encode_neutral(
        pico, "calibration", each=REPORTED.neutral_each, max_tokens=BENIGN_TOKENS
    )
    benign = {text.ids for text in benign_texts(pico)}
    assert len(benign) > 60
    assert benign.isdisjoint(text.ids for text in calibrated.texts)
    reported = encode_neutral(pico, "reporting", max_tokens=BENIGN_TOKENS)
    assert benign.isdisjoint(text.ids for text in reported.texts)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Bias(layers=(17,)), "bias, layer 17"),
        (Bias(layers=(20, 14, 17)), "bias, layers 14, 17, 20"),
        (Bias(layers=tuple(range(12, 21))), "bias, layers 12 to 20"),
        (Bias(layers=(1, 2, 4, 5, 6)), "bias, layers 1, 2, 4 to 6"),
        (Natural(), "natural"),
        (ModelSurgery(), "model_surgery"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_method_is_described_with_its_layers(method: FixedMethod, words: str) -> None:
    assert method.label == words


def test_the_table_names_layers_of_any_depth() -> None:
    every = [recipe.label for recipe in recipes(30, 100, responses=True, preserved=True)]
    assert len(every) == len(set(every)) == sum(len(own.search) for own in METHODS.values())
    labels = [recipe.label for recipe in recipes(30, 100, responses=True)]
    assert labels == every[1:]
    assert every[0] == "conditional"
    assert [recipe.label for recipe in recipes(30, 100, preserved=True)] == [
        label for label in labels if label != "natural_bias, first 10 tokens of answers"
    ]
    assert labels[0] == "natural_bias"
    assert "bias, layers 14, 17, 20" in labels
    for depth in (1, 2, 6, 18, 80):
        for recipe in recipes(depth, 100):
            for method in recipe.methods:
                if isinstance(method, Bias | NaturalBias) and method.layers is not None:
                    assert all(0 <= layer < depth for layer in method.layers)
