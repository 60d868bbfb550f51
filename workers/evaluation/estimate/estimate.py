"""What can be said of an edit before it is made: whether its texts can carry it.

The same checks are behind `POST /v1/edits/estimate` and in every receipt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models_store.errors import EditFailed
from models_store.schemas.behaviors import Behavior
from models_store.schemas.estimates import Distinction
from models_store.schemas.items import text_of
from models_store.schemas.report import Remark, Separability
from workers.evaluation.context.plan import TEST_CONFIDENCE, EvaluationPlan
from workers.evaluation.data.duplicates import clusters
from workers.evaluation.data.splits import Sides, Splits, left_out
from workers.evaluation.estimate.separability import SEPARABLE, separability
from workers.evaluation.statistics import (
    FEWEST_UNITS,
    Floats,
    count_units,
    errors_to_see,
    groups_of,
)
from workers.evaluation.verdict import LEAST_PROMPTS, counted
from workers.surgery.probe import auc

FEW_TEXTS = 100
"""Texts of a side below which a direction is mostly that of the texts' topics."""
FEW_PROMPTS = 100
"""Test prompts below which only large effects are significant."""
LOPSIDED = 4
"""Times as many texts on one side as on the other."""
MANY_DUPLICATES = 0.2
"""Share of texts that nearly repeat another one."""
ALIKE = 0.5
"""Share of a side whose texts nearly repeat one of the other side."""


@dataclass(frozen=True, eq=False)
class Features:
    """Features (`runtime.reading.extract.features`) of texts of two parts of a behaviour."""

    fit: Sides
    """What a probe may learn from."""
    heldout: Sides
    """What it is judged on."""
    fit_features: Tensor
    """fp32 `[texts, hidden]`, undesired ones first."""
    heldout_features: Tensor

    def probe_auc(self) -> float:
        """How well a linear classifier separates the held-out texts.

        Raises:
            EditFailed: the features are not finite.
        """
        margins = probe_margins(self.fit_features, self.fit.labels, self.heldout_features)
        return auc(margins, self.heldout.labels)


@dataclass(frozen=True)
class Checks:
    """The outcome; nothing of it stops an edit from being made."""

    separability: Distinction
    duplicates: int
    """Texts that nearly repeat another one."""
    smallest_effect: float
    """Change of a rate that the test prompts would mostly show; 1 if they are too few for any."""
    warnings: tuple[Remark, ...]


def checks(
    behavior: Behavior,
    splits: Splits,
    features: Features | None,
    *,
    seed: int,
    plan: EvaluationPlan,
) -> Checks:
    """Look at a behaviour and its splits.

    Args:
        features: of some or all fit and held-out texts; without any there is no probe. The
            other figures are from the same texts, so that they can be compared with it.
        seed: of the request.
        plan: how much will be measured.

    Raises:
        EditFailed: the features are not finite.
    """
    probe_auc = None
    if features is not None:
        splits = replace(splits, fit=features.fit, heldout=features.heldout)
        probe_auc = features.probe_auc()
    by_text = separability(splits, seed)
    distinction = Distinction(
        probe_auc=probe_auc,
        words_auc=by_text.words_auc,
        length_auc=by_text.length_auc,
        heldout_texts=len(splits.heldout),
        note=_note(by_text, probe_auc),
    )
    visible, about_prompts = checks_of_prompts(behavior, splits, plan)
    warnings = (
        *_sides(behavior),
        *_duplicates(behavior, splits),
        *_distinction(distinction),
        *about_prompts,
    )
    return Checks(distinction, splits.near_duplicates, visible, warnings)


def checks_of_prompts(
    behavior: Behavior, splits: Splits, plan: EvaluationPlan
) -> tuple[float, tuple[Remark, ...]]:
    """What can be said of the test prompts alone: the smallest effect, and warnings."""
    prompts = splits.test[: plan.prompts_for(behavior.max_new_tokens)]
    units = count_units(len(prompts), groups_of(prompts))
    return smallest_effect(units), tuple(_prompts(splits, len(prompts), units))


def probe_margins(features: Tensor, labels: Sequence[int], judged: Tensor) -> Floats:
    """Fit a linear classifier and say how undesired it calls other texts.

    A ridge-regularised logistic regression on standardised features. The probe of the paper is
    trained for so few steps that on a hundred texts it is mostly the weights it started from: it
    gives a direction, but says little about how separable the sides are.

    Args:
        features: `[texts, hidden]`.
        labels: 1 for undesired.
        judged: `[others, hidden]`.

    Returns:
        Logits, `[others]`.

    Raises:
        EditFailed: the features are not finite.
    """
    if not (bool(torch.isfinite(features).all()) and bool(torch.isfinite(judged).all())):
        raise EditFailed("the hidden states of some texts are not finite")
    # Generators, which seldom estimate, start sooner without it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    fitted = make_pipeline(StandardScaler(), classifier).fit(features.double().numpy(), labels)
    return np.asarray(fitted.decision_function(judged.double().numpy()), dtype=np.float64)


def smallest_effect(prompts: int) -> float:
    """The smallest change of a rate that so many prompts would show in 4 of 5 repetitions.

    Those of one template count as one prompt, as if they all said the same.

    `errors_to_see` standard errors of a paired difference of two rates near one half, whose
    variance is one half a prompt where base and edit agree by chance only; measured differences
    have about that. With fewer than `FEWEST_UNITS` it is 1: none would be seen.
    """
    if prompts < FEWEST_UNITS:
        return 1.0
    return float(errors_to_see(prompts, TEST_CONFIDENCE) * (0.5 / prompts) ** 0.5)


def _note(by_text: Separability, probe_auc: float | None) -> str | None:
    if by_text.note is not None or probe_auc is None or probe_auc >= SEPARABLE:
        return by_text.note
    return (
        f"Hidden states of the base model hardly separate the sides (AUC {probe_auc:.2f}), "
        f"though words do (AUC {by_text.words_auc:.2f}): the model may not see the difference."
    )


def _sides(behavior: Behavior) -> Iterator[Remark]:
    sizes = {"undesired": len(behavior.undesired), "desired": len(behavior.desired)}
    small = min(sizes, key=lambda side: sizes[side])
    large = "desired" if small == "undesired" else "undesired"
    if sizes[large] >= LOPSIDED * sizes[small]:
        yield Remark(
            code="one_sided",
            pointer=f"/behavior/{small}",
            detail=f"{sizes[small]} {small} texts against {sizes[large]} {large} ones: the edit "
            f"will know the {large} side much better; give about as many of both",
        )
    for side, size in sizes.items():
        if size < FEW_TEXTS:
            yield Remark(
                code="few_texts",
                pointer=f"/behavior/{side}",
                detail=f"{size} {side} texts: with less than {FEW_TEXTS} the edit may learn what "
                "they are about instead of how they are said; 200 or more work well",
            )


def _duplicates(behavior: Behavior, splits: Splits) -> Iterator[Remark]:
    total = len(behavior.undesired) + len(behavior.desired)
    alike = _share_alike(behavior)
    if alike >= ALIKE:
        yield Remark(
            code="near_identical_sets",
            pointer="/behavior/desired",
            detail=f"{100 * alike:.0f} % of the texts of the smaller side nearly repeat a text of "
            "the other side (70 % of their words): there may be too little to learn from",
        )
    if splits.near_duplicates >= MANY_DUPLICATES * total:
        yield Remark(
            code="near_duplicates",
            pointer="/behavior/undesired",
            detail=f"{splits.near_duplicates} of {total} texts nearly repeat another one: they "
            "say less than their number suggests"
            + (", and repeat texts of other splits" if splits.clusters_broken else ""),
        )


def _share_alike(behavior: Behavior) -> float:
    """Share of the smaller side's texts whose words are mostly those of one on the other side."""
    texts = [text_of(item) for item in (*behavior.undesired, *behavior.desired)]
    groups = clusters(texts)
    border = len(behavior.undesired)
    first, second = groups[:border], groups[border:]
    if len(second) < len(first):
        first, second = second, first
    others = set(second)
    return sum(group in others for group in first) / len(first)


def _distinction(measured: Distinction) -> Iterator[Remark]:
    best = max(measured.words_auc, measured.probe_auc or 0.0)
    if measured.length_auc >= SEPARABLE and measured.length_auc >= best - 0.02:
        yield Remark(
            code="length_alone",
            pointer="/behavior/desired",
            detail=f"length alone separates the sides (AUC {measured.length_auc:.2f}): the edit "
            "may learn to write shorter or longer and nothing else; give sides of like length",
        )
    if best < SEPARABLE:
        yield Remark(
            code="not_separable",
            pointer="/behavior/desired",
            detail=f"nothing separates held-out texts of the two sides (best AUC {best:.2f}): "
            "give texts that differ more clearly, or more of them",
        )
    elif measured.probe_auc is not None and measured.probe_auc < SEPARABLE:
        yield Remark(
            code="not_seen_by_the_model",
            pointer="/behavior/desired",
            detail=f"words separate the sides (AUC {measured.words_auc:.2f}), but hidden states of "
            f"the base model hardly do (AUC {measured.probe_auc:.2f}): the edit may do little",
        )


def _prompts(splits: Splits, used: int, units: int) -> Iterator[Remark]:
    """`used` is how many test prompts the plan would use, `units` of how many templates."""
    if splits.prompts_made:
        yield Remark(
            code="no_prompts",
            pointer="/behavior/prompts",
            detail="there are no prompts: those of held-out texts, or their first words, "
            "will be used, which elicit the behaviour by chance only",
        )
    if splits.prompts_dropped:
        yield Remark(
            code="prompts_dropped",
            pointer="/behavior/prompts",
            detail=f"prompts {left_out(splits.dropped)}; give prompts that no text answers or "
            "repeats, or take those texts out",
        )
    seen = (
        f"{counted(used, units)}: a change of less than {100 * smallest_effect(units):.0f} points "
        "would mostly go unseen"
    )
    if units < FEWEST_UNITS:
        yield Remark(
            code="few_templates",
            pointer="/behavior/prompts",
            detail=f"{counted(used, units)}: with fewer than {FEWEST_UNITS} different templates, "
            "or prompts without one, no change can be significant; prompts that nearly repeat each "
            "other are of one template",
        )
    if units < LEAST_PROMPTS:
        yield Remark(
            code="underpowered",
            pointer="/behavior/prompts",
            detail=f"{seen}; at least {LEAST_PROMPTS} of different templates, or without one, are "
            "needed for a verdict, 200 work well",
        )
    elif used < FEW_PROMPTS and len(splits.test) <= used:
        yield Remark(code="few_prompts", pointer="/behavior/prompts", detail=seen)
