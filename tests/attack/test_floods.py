"""A short part of each flood, longer than keys are remembered; `make attack` has the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.floods import ATTACKS, Attack
from tests.attack.scene import scene
from tests.attack.victim import GROWTH_BYTES, run

_ALWAYS = ("wrong keys", "streams", "downloads", "echo")
"""What is bounded in one way each; the others take a while longer."""


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(
            attack, id=attack.name, marks=[] if attack.name in _ALWAYS else [pytest.mark.long]
        )
        for attack in ATTACKS
    ],
)
def test_a_flood_refuses_no_other_tenant_and_fills_no_memory(
    tmp_path: Path, attack: Attack
) -> None:
    with scene(tmp_path, attack) as there:
        outcome = run(attack, there, seconds=4)
    print(outcome)
    assert not outcome.wrong
    assert outcome.growth < GROWTH_BYTES
    assert outcome.reads
    assert outcome.completions
