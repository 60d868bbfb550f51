"""What comes with the package is of the built-in base model, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workers.making.fitting.model_readings import benign_texts
from workers.making.fitting.shipped import shipped_curvature
from workers.making.search.recipes import methods_of, recipes
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.shifts import shift_curvature


def test_other_weights_have_nothing_of_it(pico: LoadedModel) -> None:
    assert shipped_curvature(pico, range(pico.layers)) == {}


@pytest.mark.smollm2
def test_all_that_a_search_needs_is_there_for_the_built_in_base(smollm2: LoadedModel) -> None:
    for method in methods_of(recipes(smollm2.layers, 100)):
        for need in method.needs(smollm2.layers):
            if need.reading == "shift curvature":
                assert shipped_curvature(smollm2, need.layers).keys() == {*need.layers}
    assert shipped_curvature(replace(smollm2, fingerprint="another"), [12]) == {}


@pytest.mark.smollm2
def test_it_is_what_would_be_read(smollm2: LoadedModel) -> None:
    read = shift_curvature(smollm2, benign_texts(smollm2)[:6], [12, 20])
    for layer, moment in shipped_curvature(smollm2, [12, 20]).items():
        generator = torch.Generator().manual_seed(layer)
        directions = torch.randn(20, smollm2.hidden_size, generator=generator)
        ratios = [moment.quadratic(v) / read[layer].quadratic(v) for v in directions]
        assert 0.6 < sum(ratios) / len(ratios) < 1.6
