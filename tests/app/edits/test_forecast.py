"""How little the prompts of an edit can show, known before it is made."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain.edits.forecast import least_rate_to_halve, unseen_halving
from models_store.schemas.behaviors import Behavior
from tests.app.support.worker import edit_body
from tests.support.services import Api


def test_a_halving_of_the_least_rate_is_seen_four_times_in_five() -> None:
    rng = np.random.default_rng(3)
    rate = least_rate_to_halve(80)
    before, after = (rng.binomial(3, share, size=(2_000, 80)) / 3 for share in (rate, rate / 2))
    falls = before - after
    errors = falls.std(axis=1, ddof=1) / np.sqrt(80)
    # 2.24 errors: the interval is of 97.5 % at each of two looks.
    assert (falls.mean(axis=1) > 2.24 * errors).mean() == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [(0, None), (30, "about 24 of the prompts"), (100, "about 67 of the prompts"), (300, None)],
)
def test_few_prompts_are_told_what_they_do_not_show(prompts: int, told: str | None) -> None:
    body = edit_body()["behavior"] | {"prompts": [f"Prompt {number}" for number in range(prompts)]}
    remarks = unseen_halving(Behavior.model_validate(body))
    assert [one.pointer for one in remarks] == ["/behavior/prompts"] * (told is not None)
    assert all(told is not None and told in one.detail for one in remarks)


@pytest.mark.usefixtures("worker")
def test_an_edit_says_so_when_it_is_submitted(api: Api) -> None:
    body = edit_body()
    body["behavior"]["prompts"] = [f"Prompt {number}" for number in range(100)]
    (warning,) = api.http.post("/v1/edits", json=body).json()["warnings"]
    assert warning["code"] == "halving_unseen"
    assert "less than 23 % of its answers" in warning["detail"]
