"""Reports as an editor would write them, small enough to read in a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from models_store.schemas.behaviors import BehaviorRef
from models_store.schemas.measurements import (
    Contrast,
    Control,
    ControlKind,
    Damage,
    Dose,
    Effect,
    Interval,
    KindKl,
    LongForm,
    PointDamage,
    Preserved,
    ProbeKind,
    ScorerCard,
    Selectivity,
    SideEffect,
    SuiteMetric,
    SuiteResult,
    TextQuality,
    Trait,
)
from models_store.schemas.report import (
    Candidate,
    Cost,
    EditProvenance,
    MethodReport,
    ProbeReport,
    Report,
    Reproduction,
    Sample,
    Search,
    Separability,
    SplitCounts,
    TermReport,
    Verdict,
)
from models_store.schemas.scorers import SCORERS


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
        "provenance": EditProvenance(
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
        "separability": Separability(probe_auc=0.94, words_auc=0.97, length_auc=0.51, note=None),
        "probe": ProbeReport(
            train_accuracy=1.0,
            train_rows=435,
            heldout_accuracy=0.975,
            heldout_auc=0.99,
            heldout_rows=120,
            direction_norm=0.9,
            kind="converged",
            cosine_between_seeds=0.97,
            antisymmetry=-1.0,
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
            kl_by_kind={
                "news": KindKl(kl=Interval(value=0.071, low=0.06, high=0.085), texts=4),
                "code": KindKl(kl=Interval(value=0.142, low=0.119, high=0.177), texts=5),
            },
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


def full_report(**changes: Any) -> Report:
    """A success of `auto` with every part that a thorough receipt may have, and a domain damage
    over its limit; `changes` replace whole fields."""
    plain = sample_report()
    fields: dict[str, Any] = {
        "verdict": Verdict(
            sentence=(
                "Undesired text falls from 52 % to 25 % of generations by tfidf (-27 points, 95 % "
                "interval -35 to -19), confirmed by vader; it does more than a random direction of "
                "the same size; the cost is within the limits but for domain: the model's own "
                "desired text has become 0.31 nats a token less likely, and 0.25 were allowed."
            ),
            conclusion="confirmed",
            success=True,
            distinguishable=True,
            beats_random_direction=True,
            within_limits=False,
            exceeded=("max_domain",),
            underpowered=False,
            smallest_visible=0.09,
        ),
        "effort": "thorough",
        "limits": {
            "max_kl": 0.1,
            "max_perplexity_ratio": 1.12,
            "max_domain": 0.25,
            "max_fluency": 0.25,
            "max_kl_p95": 0.5,
            "max_changed_choices": 0.25,
            "max_loops": 0.15,
            "max_repetition": 0.1,
            "max_harmless_refusals": 0.1,
        },
        "damage": plain.damage.model_copy(
            update={
                "domain": _interval(0.31, 0.07),
                "domain_source": "samples",
                "domain_samples": _interval(0.31, 0.07),
                "domain_heldout": _interval(0.04, 0.03),
                "fluency_reader": "gemma-3-270m",
                "fluency_pairs": 54,
                "fluency_source": "heldout",
                "fluency_against_base": _interval(0.17, 0.05),
                "kl_preserve": _interval(0.05, 0.01),
                "preserve_worst": (
                    Preserved(text="The invoice is due on the first of the month, and", kl=0.21),
                    Preserved(text="def mean(values): return sum(values) / len(values)", kl=0.12),
                ),
                "kl_p95": _interval(0.37, 0.04),
                "changed_choices": _interval(0.13, 0.01),
                "loops": _contrast(0.04, 0.08, 0.06),
                "repetition": _contrast(0.17, 0.19, 0.03),
                "long_texts": 24,
                "harmless_refusals": _contrast(0.03, 0.0, 0.05),
                "harmless_requests": 32,
            }
        ),
        "controls": tuple(
            _control(kind, edited, against)
            for kind, edited, against in (
                ("random_direction", 0.47, -0.21),
                ("permuted_labels", 0.49, -0.23),
                ("random_region", 0.5, -0.24),
                ("prompt_only", 0.41, -0.15),
                ("paper_alpha", 0.49, -0.23),
                ("paper_equal_kl", 0.36, -0.10),
            )
        ),
        "search": Search(
            candidates=(
                _candidate(0, "bias", "bias, layers 14, 17, 20", 0.24, 0.089),
                _candidate(1, "bias", "bias, layers 12 to 20", 0.19, 0.091),
                _candidate(2, "natural", "natural, all layers", 0.27, 0.088, ("max_domain",)),
                _candidate(3, "natural", "half of natural, with bias in layer 17", 0.26, 0.071),
                _candidate(4, "attribution", "attribution", 0.06, 0.09),
            ),
            skipped=("bias, layers 8, 11, 14: layer 11 moves first tokens",),
        ),
        "doses": (
            *(_dose(strength) for strength in (-1.0, 0.25, 0.5, 0.75, 1.0)),
            Dose(strength=1.25, damage=None),
        ),
        "side_effects": (
            SideEffect(
                name="length",
                measures="tokens of a generation",
                unit="tokens",
                of=_contrast(23.5, 22.1, 0.8),
            ),
            SideEffect(
                name="profanity",
                measures=SCORERS["profanity"].measures,
                of=_contrast(0.06, 0.02, 0.03),
            ),
            SideEffect(
                name="formality (tfidf)",
                measures="likeness to the undesired texts of the preset formality",
                of=_contrast(0.31, 0.42, 0.07),
            ),
            SideEffect(
                name="refusal-phrases",
                measures=SCORERS["refusal-phrases"].measures,
                of=_contrast(0.0, 0.0, 0.0),
            ),
        ),
        "long_form": (
            _long("long", 256),
            _long("three_turns", 64),
        ),
        "selectivity": Selectivity(
            undesired=_interval(0.4, 0.1),
            desired=_interval(0.04, 0.03),
            difference=_interval(0.36, 0.1),
        ),
        "composition": (
            _trait("negativity", "tfidf", 0.52, 0.5, 0.25, 0.27),
            _trait("formality", "formality-markers", 0.44, 0.05, 0.41, 0.08),
        ),
        "suites": (
            SuiteResult(
                name="toxicity",
                protocol="RealToxicityPrompts, greedy, 20 tokens.",
                data="/data/rtp.jsonl, sha256:0123abcd",
                metrics=(
                    SuiteMetric(
                        name="toxic_share",
                        higher_is_better=False,
                        of=_contrast(0.104, 0.061, 0.02),
                        items=1200,
                    ),
                ),
                seconds=312.0,
            ),
        ),
        "reproduction": Reproduction(
            edit_id="edit_01KA0000000000000000000000",
            bit_equal=False,
            terms_sha256="aa" * 32,
            environment=("threads: 2, earlier 4",),
            inside=("tfidf rate", "kl"),
            outside=(),
        ),
        "provenance": plain.provenance.model_copy(
            update={"on_top_of": "edit_01KA0000000000000000000001"}
        ),
        "cost": plain.cost.model_copy(
            update={"cpu_capability": "AVX512", "cached": ("benign_statistics", "base_text")}
        ),
    }
    return sample_report(**{**fields, **changes})


def early_report() -> Report:
    """A receipt as it was stored before there were four limits and a search."""
    written = json.loads(sample_report().model_dump_json())
    written["schema_version"] = 1
    for name in _LATER:
        *parts, last = name.split(".")
        for part in _all_of(written, parts):
            del part[last]
    return Report.model_validate(written)


_LATER = (
    *("effort", "search", "doses", "side_effects", "long_form", "selectivity", "composition"),
    *("suites", "reproduction", "verdict.success", "verdict.beats_random_direction"),
    *("verdict.conclusion", "verdict.prompts_needed", "verdict.looks", "earlier_tests"),
    *("verdict.exceeded", "damage.domain_source", "damage.domain_samples"),
    *("damage.domain_heldout", "damage.fluency_reader", "damage.fluency_pairs"),
    *("damage.kl_preserve", "damage.preserve_worst", "cost.cpu_capability", "cost.cached"),
    *("controls.wording", "scorers.contamination", "warnings", "damage.preserve_items"),
    *("controls.probe", "controls.role", "probe.kind", "probe.cosine_to_start", "probe.norm_ratio"),
    *("probe.cosine_between_seeds", "probe.antisymmetry"),
    *(
        "cost.batch_tokens",
        "cost.batch_rows",
        "damage.fluency_source",
        "damage.fluency_against_base",
        "damage.kl_by_kind",
        *("damage.kl_p95", "damage.changed_choices", "damage.loops", "damage.repetition"),
        *("damage.long_texts", "damage.harmless_refusals", "damage.harmless_requests"),
        "separability.probe_auc",
    ),
)
"""Fields that receipts of schema 1 do not have."""


def _all_of(written: Any, parts: Sequence[str]) -> list[Any]:
    """The objects at a place of a JSON document; each element of an array on the way counts."""
    found = [written]
    for part in parts:
        inner = [one[part] for one in found]
        found = [one for of in inner for one in (of if isinstance(of, list) else [of])]
    return found


def _interval(value: float, margin: float) -> Interval:
    return Interval(value=value, low=value - margin, high=value + margin)


def _contrast(base: float, edited: float, margin: float) -> Contrast:
    return Contrast(base=base, edited=edited, difference=_interval(edited - base, margin))


def _control(kind: ControlKind, edited: float, against: float) -> Control:
    prompt = kind == "prompt_only"
    probes: dict[ControlKind, ProbeKind] = {"paper_alpha": "paper", "paper_equal_kl": "converged"}
    return Control(
        kind=kind,
        probe=probes.get(kind),
        draw=0,
        scale=1.3,
        kl=0.42 if prompt else 0.068,
        target_kl=None if prompt or kind == "paper_alpha" else 0.069,
        matched=kind not in ("prompt_only", "paper_alpha"),
        evaluations=3,
        effects=(effect("tfidf", 0.52, edited, 0.1), effect("vader", 0.17, 0.14, 0.07)),
        versus_edit=_interval(against, 0.09),
        wording="Write only in a warm and friendly way." if prompt else None,
        role="before_prompt" if prompt else None,
    )


def _damage(kl: float) -> PointDamage:
    return PointDamage(
        kl=kl,
        perplexity_ratio=1 + kl,
        domain=3 * kl - 0.1,
        fluency=0.02,
        distinct2_ratio=0.99,
    )


def _candidate(
    index: int, method: str, label: str, gain: float, kl: float, exceeded: tuple[str, ...] = ()
) -> Candidate:
    return Candidate(
        index=index,
        method=method,
        label=label,
        scale=0.62,
        prompts=100 if index in (0, 2, 3) else 60,
        effects=(effect("tfidf", 0.5, 0.5 - gain, 0.07), effect("vader", 0.2, 0.1, 0.05)),
        gain_low=gain - 0.07,
        damage=_damage(kl),
        exceeded=exceeded,
        selected=index == 3,
        seconds=21.0,
    )


def _dose(strength: float) -> Dose:
    rate = 0.52 - 0.27 * strength
    return Dose(
        strength=strength,
        damage=_damage(0.096 * strength**2),
        effects=(effect("tfidf", 0.52, rate), effect("vader", 0.17, 0.17 - 0.1 * strength, 0.05)),
    )


def _long(kind: Literal["long", "three_turns"], tokens: int) -> LongForm:
    quality = TextQuality(distinct2=0.61, loops=0.04, mean_tokens=0.8 * tokens, ended=0.2)
    return LongForm(
        kind=kind,
        prompts=24,
        max_new_tokens=tokens,
        effects=(effect("tfidf", 0.6, 0.3, 0.17), effect("vader", 0.3, 0.2, 0.15)),
        base=quality,
        edited=quality.model_copy(update={"loops": 0.08}),
    )


def _trait(
    behavior: str, scorer: str, base: float, parents: float, edit: float, both: float
) -> Trait:
    return Trait(
        behavior=behavior,
        scorer=scorer,
        prompts=60,
        base=base,
        parents=parents,
        edit=edit,
        both=both,
        interaction=_interval((both - parents) - (edit - base), 0.09),
    )
