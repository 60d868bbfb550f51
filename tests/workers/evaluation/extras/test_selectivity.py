from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from models_store.schemas.items import Item, TextItem
from models_store.schemas.measurements import Selectivity
from models_store.weights.architectures import DOWN, MatrixKey
from tests.support.pico import HIDDEN, INTERMEDIATE
from tests.workers.evaluation.texts import sentences
from workers.evaluation.damage.domain import LikelihoodMeter, heldout_meter
from workers.evaluation.data.splits import Sides
from workers.evaluation.extras.selectivity import selectivity
from workers.evaluation.statistics import Bootstrap
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Term, make_term

HELDOUT = Sides(
    tuple(TextItem(text=text) for text in sentences("cruel", 6)),
    tuple(TextItem(text=text) for text in sentences("kind", 4)),
)


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


def _term(size: float = 0.3) -> Term:
    generator = torch.Generator().manual_seed(0)
    return make_term(
        MatrixKey(1, DOWN),
        torch.randn(INTERMEDIATE, generator=generator),
        torch.arange(HIDDEN),
        size * torch.randn(HIDDEN, generator=generator),
    )


def _meter(base: LoadedModel, side: Sequence[Item]) -> LikelihoodMeter:
    meter = heldout_meter(EditedModel(base), side, chat=False, at_most=9)
    assert meter is not None
    return meter


def _selectivity(base: LoadedModel, heldout: Sides, term: Term | None = None) -> Selectivity | None:
    meters = [_meter(base, side) for side in (heldout.undesired, heldout.desired)]
    return selectivity(*meters, [term or _term()], Bootstrap(0, 500))


def _slow_nll(base: LoadedModel, side: tuple[TextItem, ...]) -> float:
    """Mean over all tokens but first ones, one text at a time."""
    nats, tokens = 0.0, 0
    for item in side:
        ids = base.tokenizer(item.text)["input_ids"]
        logs = base.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for place in range(1, len(ids)):
            nats -= float(logs[place - 1, ids[place]])
            tokens += 1
    return nats / tokens


def test_selectivity_is_the_rise_of_both_sides_and_their_difference(base: LoadedModel) -> None:
    sides = (HELDOUT.undesired, HELDOUT.desired)
    before = [_slow_nll(base, side) for side in sides]
    with WeightEditor(base).applied([([_term()], 1.0)]):
        rises = [_slow_nll(base, side) - b for side, b in zip(sides, before, strict=True)]
    found = _selectivity(base, HELDOUT)
    assert found is not None
    assert found.undesired.value == pytest.approx(rises[0], abs=1e-4)
    assert found.desired.value == pytest.approx(rises[1], abs=1e-4)
    assert found.difference.value == pytest.approx(rises[0] - rises[1], abs=1e-4)
    assert found.difference.low <= found.difference.value <= found.difference.high


def test_the_sides_are_resampled_apart(base: LoadedModel) -> None:
    """The same texts on both sides differ by nothing, and yet by chance."""
    same = Sides(HELDOUT.undesired, HELDOUT.undesired)
    found = _selectivity(base, same)
    assert found is not None
    assert found.difference.value == 0
    assert found.difference.low < 0 < found.difference.high


def test_a_text_is_read_with_the_edit_once(base: LoadedModel) -> None:
    meter = _meter(base, HELDOUT.desired)
    rises = meter.rises([_term()])
    passes: list[int] = []
    with base.decoder.register_forward_hook(lambda *_: passes.append(1)):
        selectivity(_meter(base, HELDOUT.undesired), meter, [_term()], Bootstrap(0, 50))
    assert len(passes) == 2  # of the undesired side, without the edit and with it
    assert (meter.rises([_term(0.4)]) != rises).all()


def test_a_model_that_gives_no_numbers_has_no_selectivity(base: LoadedModel) -> None:
    found = _selectivity(base, HELDOUT, _term(size=1e38))
    assert found is None
    assert np.isfinite(base.model.get_parameter("lm_head.weight").detach().numpy()).all()
