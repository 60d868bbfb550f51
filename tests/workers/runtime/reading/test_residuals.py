"""The statistics of the `bias` method against plain loops over texts and tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from models_store.errors import InvalidRequest
from models_store.schemas.items import CompletionItem
from tests.workers.runtime.reading.alone import bias_statistics
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.residuals import first_tokens, spread
from workers.runtime.tokens import Encoded, encode
from workers.surgery.methods.bias.fit import combine
from workers.surgery.regression import FirstTokens, fit_layer

DESIRED = [
    "the film was good and kind",
    "a",
    CompletionItem(prompt="people", completion=" love the lovely food"),
]
UNDESIRED = ["people hate awful food and terrible service", "bad and cruel"]
LAYER = 1


def sides(base: LoadedModel) -> tuple[list[Encoded], list[Encoded]]:
    desired, undesired = (
        encode(base, side, max_tokens=50, chat=False) for side in (DESIRED, UNDESIRED)
    )
    return desired, undesired


def through_layer(base: LoadedModel, text: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of `down_proj` and residual stream of one text alone, fp64 `[tokens, …]`."""
    seen: list[torch.Tensor] = []
    down = base.blocks[LAYER].get_submodule("mlp.down_proj")
    handle = down.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    after: list[torch.Tensor] = []
    other = base.blocks[LAYER].register_forward_hook(lambda _, __, out: after.append(out[0]))
    base.model(torch.tensor([text.ids]))
    handle.remove()
    other.remove()
    return seen[0].double(), after[0].double()


def test_statistics_are_those_of_each_text_alone(pico: LoadedModel) -> None:
    desired, undesired = sides(pico)
    (found,) = bias_statistics(pico, desired, undesired, [LAYER])
    inputs = []
    means: dict[str, list[torch.Tensor]] = {"desired": [], "undesired": []}
    for side, texts in (("desired", desired), ("undesired", undesired)):
        for text in texts:
            h, x = through_layer(pico, text)
            inputs += list(h[1:])
            counted = [x[i] for i in range(1, len(text)) if text.scored[i]]
            if counted:
                means[side].append(torch.stack(counted).mean(dim=0))
    assert len(means["desired"]) == 2  # a text of one token has no token after its first
    assert torch.allclose(found.desired, torch.stack(means["desired"]).mean(dim=0), atol=1e-5)
    assert torch.allclose(found.undesired, torch.stack(means["undesired"]).mean(dim=0), atol=1e-5)
    every = torch.stack(inputs)
    assert found.rest.count == len(every)
    assert torch.allclose(found.rest.mean, every.mean(dim=0), atol=1e-5)
    assert torch.allclose(found.rest.second, every.T @ every / len(every), atol=1e-4)
    outputs = every @ pico.model.model.layers[LAYER].mlp.down_proj.weight.double().T
    norm = outputs.square().sum(dim=1).mean().sqrt()
    assert found.output_norm == pytest.approx(float(norm), rel=1e-5)


def test_first_tokens_stand_alone_and_the_chat_s_is_among_them(pico: LoadedModel) -> None:
    found = first_tokens(pico, [0, LAYER])[LAYER]
    assert len(found.fitted) + len(found.checked) == pico.vocabulary + 1
    start = pico.tokenizer.convert_tokens_to_ids("<|im_start|>")
    (expected, _) = through_layer(pico, Encoded((start,), (True,), 0))
    assert torch.allclose(found.fitted[0].double(), expected[0], atol=1e-5)
    again = first_tokens(pico, [LAYER])[LAYER]
    assert torch.equal(again.checked, found.checked)


def test_a_tokenizer_with_a_first_token_of_its_own_leaves_only_that(pico: LoadedModel) -> None:
    start = pico.tokenizer.convert_tokens_to_ids("<|im_start|>")
    pico.tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    assert pico.tokenizer("a")["input_ids"][0] == start
    found = first_tokens(pico, [LAYER])[LAYER]
    assert found.fitted.shape == found.checked.shape == (1, 64)
    (expected, _) = through_layer(pico, Encoded((start,), (True,), 0))
    assert torch.allclose(found.checked[0].double(), expected[0], atol=1e-5)


def test_an_edit_fitted_on_a_model_shifts_it_by_the_difference_of_means(pico: LoadedModel) -> None:
    desired, undesired = sides(pico)
    statistics = bias_statistics(pico, desired, undesired, [LAYER])
    # A pico model has no attention sink; here its first tokens may move.
    tokens = first_tokens(pico, [LAYER])[LAYER]
    still = FirstTokens(tokens.fitted * 0, tokens.checked * 0)
    fit = combine([fit_layer(statistics[0], still)])
    before = torch.stack([through_layer(pico, text)[1][1:].mean(dim=0) for text in undesired])
    with WeightEditor(pico).applied([(fit.terms, 1.0)]):
        after = torch.stack([through_layer(pico, text)[1][1:].mean(dim=0) for text in undesired])
    moved = (after - before).mean(dim=0)
    difference = statistics[0].difference
    cosine = torch.nn.functional.cosine_similarity(moved, difference, dim=0)
    assert cosine > 0.99
    assert 0.3 < moved.norm() / difference.norm() < 1.5


def test_the_spread_is_over_tokens_of_other_texts(pico: LoadedModel) -> None:
    desired, _ = sides(pico)
    direction = torch.randn(64, generator=torch.Generator().manual_seed(0))
    found = spread(pico, {LAYER: direction}, desired)[LAYER]
    responses = [through_layer(pico, text)[0] @ direction.double() for text in desired]
    rest = torch.cat([own[1:] for own in responses])
    first = torch.stack([own[0] for own in responses])
    assert found.mean == pytest.approx(float(rest.mean()), rel=1e-4)
    assert found.first_rms == pytest.approx(float(first.square().mean().sqrt()), rel=1e-4)
    assert found.low == pytest.approx(float(torch.quantile(rest, 0.05)), rel=1e-3)
    assert found.high == pytest.approx(float(torch.quantile(rest, 0.95)), rel=1e-3)


def test_layers_of_routed_experts_are_refused(load_pico: Callable[..., LoadedModel]) -> None:
    base = load_pico("mixtral")
    desired, undesired = sides(base)
    with pytest.raises(InvalidRequest, match="no matrix"):
        bias_statistics(base, desired, undesired, [0])
    with pytest.raises(InvalidRequest, match="no matrix"):
        first_tokens(base, [0])
