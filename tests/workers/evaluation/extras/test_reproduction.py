"""The receipt of a repeated edit, held against the earlier one."""

from __future__ import annotations

from models_store.schemas.measurements import Interval
from models_store.schemas.report import Report
from tests.app.support.sample_report import effect, sample_report
from workers.evaluation.extras.reproduction import compare_reports


def made_elsewhere(report: Report, **cost: object) -> Report:
    return report.model_copy(update={"cost": report.cost.model_copy(update=cost)})


def test_the_same_digest_is_bit_equal_and_nothing_differs() -> None:
    earlier = sample_report()

    found = compare_reports(earlier, earlier)

    assert found.bit_equal
    assert found.edit_id == earlier.provenance.edit_id
    assert found.terms_sha256 == earlier.provenance.terms_sha256
    assert (found.environment, found.outside) == ((), ())
    assert {"effects.tfidf.rate", "effects.vader.score", "damage.kl_plain"} <= set(found.inside)
    assert "controls.random_direction.0" in found.inside


def test_what_differs_of_the_machine_is_told() -> None:
    earlier = sample_report()
    new = made_elsewhere(
        earlier, threads=8, dtype="float32", cpu_capability="AVX512", batch_tokens=768
    )
    versions = {**earlier.provenance.versions, "torch": "3.0.0"}
    provenance = earlier.provenance.model_copy(
        update={"versions": versions, "terms_sha256": "01" * 32}
    )

    found = compare_reports(earlier, new.model_copy(update={"provenance": provenance}))

    assert not found.bit_equal
    assert set(found.environment) == {
        "threads: 2 then, 8 now",
        "dtype: bfloat16 then, float32 now",
        "cpu_capability: unknown then, AVX512 now",
        "batch_tokens: unknown then, 768 now",
        "version of torch: 2.13.0 then, 3.0.0 now",
    }


def test_figures_are_judged_by_the_earlier_intervals() -> None:
    earlier = sample_report()
    damage = earlier.damage.model_copy(
        update={"perplexity_ratio": Interval(value=1.3, low=1.0, high=1.6), "kl_chat": None}
    )
    # The rate moves by less than its margin of .08; the other scorer's by more than its .06.
    effects = (effect("tfidf", 0.52, 0.27), effect("vader", 0.17, 0.1))

    found = compare_reports(
        earlier, earlier.model_copy(update={"damage": damage, "effects": effects})
    )

    assert "effects.tfidf.rate" in found.inside
    assert set(found.outside) == {
        "effects.vader.rate",
        "damage.perplexity_ratio",
        "damage.kl_chat",
    }
