"""A report as an editor would write it, small enough to read in a test."""

from __future__ import annotations

from typing import Any

from models_store.behaviors import BehaviorRef
from models_store.report import (
    Contrast,
    Control,
    Cost,
    Damage,
    Effect,
    Interval,
    MethodReport,
    ProbeReport,
    Provenance,
    Report,
    Sample,
    ScorerCard,
    Separability,
    SplitCounts,
    TermReport,
    TextQuality,
    Verdict,
)
from models_store.scorers import SCORERS


def effect(scorer: str, base: float, edited: float, margin: float = 0.08) -> Effect:
    change = edited - base
    return Effect(
        scorer=scorer,
        rate=Contrast(
            base=base,
            edited=edited,
            difference=Interval(value=change, low=change - margin, high=change + margin),
        ),
        score=Contrast(
            base=0.5, edited=0.4, difference=Interval(value=-0.1, low=-0.12, high=-0.08)
        ),
    )


def sample_report(**changes: Any) -> Report:
    """A success of the `bias` method; `changes` replace whole fields."""
    quality = TextQuality(distinct2=0.77, loops=0.0, mean_tokens=23.5, ended=0.06)
    fields: dict[str, Any] = {
        "verdict": Verdict(
            sentence="Undesired text falls from 52 % to 25 % of generations.",
            distinguishable=True,
            within_limits=True,
            underpowered=False,
            smallest_visible=0.13,
        ),
        "provenance": Provenance(
            edit_id="edit_01KB0000000000000000000000",
            created_at=1_795_000_000,
            base_model="smollm2-135m-instruct",
            base_fingerprint="sha256:" + "ab" * 32,
            on_top_of=None,
            behavior=BehaviorRef(
                id=None,
                name="negativity",
                version=None,
                sha256="sha256:" + "cd" * 32,
                counts={"undesired": 400, "desired": 400, "prompts": 300},
            ),
            seed=0,
            seeds={"split": 1, "bootstrap": 2},
            terms_sha256="ef" * 32,
            delta_bytes=180_000,
            versions={"python": "3.11.2", "torch": "2.13.0"},
            decoding={
                "prompts": 120,
                "samples": 1,
                "max_new_tokens": 24,
                "temperature": 0.8,
                "top_k": 40,
                "chat": False,
                "resamples": 10_000,
            },
            request={"base_model": "smollm2-135m-instruct", "behavior": "negativity"},
        ),
        "method": MethodReport(
            type="bias",
            settings={"layers": None, "ridge": 0.01},
            alpha=None,
            relative_alpha=None,
            details={"scale": 0.62},
            terms=(
                TermReport(layer=14, module="mlp.down_proj", expert=None, rows=576, norm=0.5),
                TermReport(layer=17, module="mlp.down_proj", expert=None, rows=576, norm=0.7),
            ),
        ),
        "limits": {"max_kl": 0.1},
        "splits": SplitCounts(
            fit_undesired=242,
            fit_desired=242,
            scorer_undesired=100,
            scorer_desired=100,
            heldout_undesired=60,
            heldout_desired=60,
            validate_prompts=100,
            test_prompts=200,
            prompts_made=False,
            prompts_dropped=0,
            near_duplicates=0,
            clusters_broken=False,
        ),
        "separability": Separability(words_auc=0.97, length_auc=0.51, note=None),
        "probe": ProbeReport(
            train_accuracy=1.0,
            train_rows=435,
            heldout_accuracy=0.975,
            heldout_auc=0.99,
            heldout_rows=120,
            direction_norm=0.9,
        ),
        "scorers": tuple(
            ScorerCard(
                info=SCORERS[name],
                reversed=False,
                auc=auc,
                heldout_texts=120,
                headline=True,
                agreement=agreement,
            )
            for name, auc, agreement in (("tfidf", 0.96, 1.0), ("vader", 1.0, 0.66))
        ),
        "effects": (effect("tfidf", 0.52, 0.25), effect("vader", 0.17, 0.025, 0.06)),
        "damage": Damage(
            kl=0.096,
            kl_plain=Interval(value=0.096, low=0.083, high=0.11),
            kl_chat=Interval(value=0.078, low=0.068, high=0.089),
            neutral_texts=88,
            neutral_positions=4180,
            perplexity_ratio=Interval(value=1.098, low=1.08, high=1.117),
            domain=Interval(value=0.026, low=-0.012, high=0.063),
            fluency=Interval(value=0.037, low=-0.034, high=0.112),
            base=quality,
            edited=quality,
            distinct2_ratio=1.0,
        ),
        "controls": (
            Control(
                kind="random_direction",
                draw=0,
                scale=1.9,
                kl=0.067,
                target_kl=0.069,
                matched=True,
                evaluations=2,
                effects=(effect("tfidf", 0.5, 0.6, 0.18), effect("vader", 0.24, 0.2, 0.14)),
                versus_edit=Interval(value=-0.3, low=-0.46, high=-0.16),
            ),
        ),
        "samples": (
            Sample(
                prompt="The tea tasted like",
                base=" a happy couple, in the glass.\n\nI was determined to",
                edited=" a sunrise, and a cup of tea was just a warm place to be.",
            ),
        ),
        "cost": Cost(
            stages={"load": 1.1, "extract": 24.0, "evaluate": 95.0},
            evaluation={"base_text": 20.0, "neutral": 20.0},
            total_seconds=131.0,
            load_seconds=1.1,
            peak_memory_bytes=1_330_000_000,
            device_memory_bytes=None,
            threads=2,
            device="cpu",
            dtype="bfloat16",
        ),
    }
    return Report(**{**fields, **changes})
