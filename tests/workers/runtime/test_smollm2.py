"""What only a real model shows: the attention sink, real logits, real calibration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models_store.weights.architectures import GATE
from tests.support.edits import random_edit
from tests.workers.runtime.reading.alone import bias_statistics
from workers.runtime.decoding.decode import generate
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.reading.residuals import first_tokens, spread
from workers.runtime.tokens import encode, encode_prompt
from workers.surgery.calibrate import Scales
from workers.surgery.methods.bias import Bias
from workers.surgery.methods.bias.fit import BiasFit, combine
from workers.surgery.regression import fit_layer

# DEFAULT_LAYERS bias
from workers.surgery.terms import Mixture

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]

_SUBJECTS = ["The film", "Our dinner", "The service here", "My new phone", "That long trip"]
_DESIRED = ["was a joy from start to end", "turned out better than I had hoped", "made me smile"]
_UNDESIRED = ["was a waste of my time", "turned out worse than I had feared", "made me angry"]
_NEUTRAL = [
    "Water boils at a lower temperature on a mountain, since the air presses less there.",
    "To add two fractions, first bring them to the same denominator, then add the numerators.",
    "The train leaves at nine, stops in two towns, and arrives a little before noon.",
    "A list keeps the order of its items, while a set does not and drops repeated ones.",
]


@pytest.fixture(scope="module")
def bias_fit(smollm2: LoadedModel) -> BiasFit:
    layers = Bias().default_layers(smollm2.layers)
    desired, undesired = (
        encode(smollm2, [f"{s} {w}." for s in _SUBJECTS for w in words], max_tokens=50, chat=False)
        for words in (_DESIRED, _UNDESIRED)
    )
    statistics = bias_statistics(smollm2, desired, undesired, layers)
    still = first_tokens(smollm2, layers)
    return combine([fit_layer(one, still[one.layer]) for one in statistics])


def test_the_bias_method_leaves_the_attention_sink_alone(
    smollm2: LoadedModel, bias_fit: BiasFit
) -> None:
    assert [check.layer for check in bias_fit.checks] == [14, 17, 20]
    assert all(check.used and check.first_token_rms < 0.1 for check in bias_fit.checks)
    texts = encode(smollm2, _NEUTRAL, max_tokens=100, chat=False)
    for found in spread(smollm2, {t.layer: t.direction for t in bias_fit.terms}, texts).values():
        assert found.first_rms < 0.1
        assert 0.4 < found.mean < 1.3


def test_the_bias_method_is_calibrated_from_its_guess(
    smollm2: LoadedModel, bias_fit: BiasFit
) -> None:
    texts = encode(smollm2, _NEUTRAL, max_tokens=100, chat=False)
    reference, side = EditedModel(smollm2).reading(texts), SidePath(smollm2)

    def kl(scale: float) -> float:
        mixture: Mixture = [(bias_fit.terms, scale)]
        return EditedModel(smollm2, mixture, side=side).divergence(texts, reference).mean_kl

    scales = Scales(0.1, guess=bias_fit.guess)
    for scale in scales:
        scales.measured(kl(scale))
    found = scales.calibration()
    assert found.reached
    assert len(found.trace) <= 4


def test_served_rows_follow_their_merged_models(smollm2_folder: Path, bias_fit: BiasFit) -> None:
    """Teacher-forced on its greedy tokens, each row of a mixed batch against an fp64 model."""
    base = load_base(smollm2_folder, device="cpu", dtype="float32")
    exact = load_base(smollm2_folder, device="cpu", dtype="float64")
    gates = [
        type(t)(*t.key, t.direction, t.rows, t.coefficients * 0.2)
        for t in random_edit(base, modules=(GATE,))
    ]
    mixtures: list[Mixture] = [
        [(bias_fit.terms, 0.5)],
        [],
        [(gates, 1.0), (bias_fit.terms, -0.3)],
    ]
    prompt = encode_prompt(base, "What is a good way to spend an evening?", chat=True)
    made = generate(base, [prompt] * 3, mixtures=mixtures, max_new_tokens=24, stop_ids=frozenset())
    ids = torch.tensor([[*prompt, *own.ids] for own in made])
    with SidePath(base).rows(mixtures):
        side = base.model(ids).logits.double()
    for row, mixture in enumerate(mixtures):
        with WeightEditor(exact).applied(mixture):
            truth = exact.model(ids[row : row + 1]).logits[0]
        with WeightEditor(base).applied(mixture):
            merged = base.model(ids[row : row + 1]).logits[0].double()
        assert (side[row] - truth).abs().max() <= 3 * (merged - truth).abs().max()
        predicted, margin = _greedy_and_margin(truth[len(prompt) - 1 : -1])
        clear = margin > 1e-3
        assert predicted[clear].tolist() == ids[row, len(prompt) :][clear].tolist()


def _greedy_and_margin(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best = logits.topk(2, dim=-1)
    return best.indices[:, 0], best.values[:, 0] - best.values[:, 1]
