"""From texts to candidates: the stages `extract`, `probe` and `select`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.schemas.measurements import ProbeKind
from models_store.schemas.methods import FixedMethod
from models_store.schemas.report import ProbeReport
from workers import progress
from workers.evaluation.controls.baselines import PAPER_METHOD, PaperMethod
from workers.evaluation.estimate.estimate import Features
from workers.making.cache import Cache
from workers.making.fitting.material import Material
from workers.making.fitting.source import Source
from workers.runtime.edits.apply import WeightEditor
from workers.surgery.fitted import FittedEdit
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.probe import ProbeSettings, auc, cosine, fit_probe


@dataclass(frozen=True, eq=False)
class Prepared:
    """What could be made of the texts."""

    made: Mapping[FixedMethod, FittedEdit]
    failures: Mapping[FixedMethod, ScalpelError]
    """Why the others could not."""
    probe: ProbeReport | None
    paper: PaperMethod | None
    """To compare with."""
    features: Features | None
    """Of the texts, for how well the model separates the sides."""


NOTHING = Prepared({}, {}, None, None, None)
"""Where nothing is fitted."""


def prepare(source: Source, methods: Sequence[FixedMethod], cache: Cache) -> Prepared:
    """Fit methods, and the paper's beside them, on the model that the edit goes on top of.

    The probe is that of the first method, if it has one.

    Raises:
        InvalidRequest: a text cannot be encoded.
        EditFailed: the hidden states of a text are not finite.
    """
    with progress.step("extract"):
        material = Material.read(source, methods, cache)
    with progress.step("probe"):
        probe = _report(ProbeSettings(**methods[0].probe_settings), material)
    made: dict[FixedMethod, FittedEdit] = {}
    failures: dict[FixedMethod, ScalpelError] = {}
    # What methods look at from here on is the weights alone.
    with WeightEditor(source.model.loaded).applied(source.model.mixture), progress.step("select"):
        for method in progress.track(methods, of=len(methods) + 1):
            try:
                made[method] = material.fitted(method)
            except (InvalidRequest, EditFailed) as error:
                failures[method] = error
        paper = _paper(material, methods, made)
    features = Features(
        source.splits.fit,
        source.splits.heldout,
        material.fitted_features,
        material.heldout_features,
    )
    return Prepared(made, failures, probe, paper, features)


def _paper(
    material: Material, methods: Sequence[FixedMethod], made: Mapping[FixedMethod, FittedEdit]
) -> PaperMethod | None:
    """None where the paper's method is the requested one: it is not its own baseline."""
    max_tokens = max(method.max_tokens for method in methods)
    probes: tuple[ProbeKind, ...] = get_args(ProbeKind)
    settings = {probe: ModelSurgery(probe=probe, max_tokens=max_tokens) for probe in probes}
    if [method.type for method in methods] == [PAPER_METHOD]:
        return None
    try:
        return {
            probe: (made.get(method) or material.fitted(method)).terms
            for probe, method in settings.items()
        }
    except (InvalidRequest, EditFailed):
        return None  # a control that cannot be had does not stop the edit


def _report(settings: ProbeSettings, material: Material) -> ProbeReport:
    """How well the probe does on texts that nothing was fitted on, and how far its training came.

    Raises:
        EditFailed: the features are not finite, or the probe does not converge.
    """
    probe = material.probe(settings)
    seed = material.source.seed + 1
    other = fit_probe(material.fitted_features, material.texts.labels, settings, seed)
    heldout: Tensor = material.heldout_features
    labels = material.texts.heldout_labels
    margins = (heldout @ probe.weight.T + probe.bias) @ torch.tensor([-1.0, 1.0])
    return ProbeReport(
        train_accuracy=probe.train_accuracy,
        train_rows=len(probe.train_rows),
        heldout_accuracy=float(((margins > 0).long() == labels).double().mean()),
        heldout_auc=auc(margins, labels),
        heldout_rows=len(labels),
        direction_norm=float(probe.direction.norm()),
        kind=settings.kind,
        cosine_to_start=probe.cosine_to_start,
        norm_ratio=probe.norm_ratio,
        cosine_between_seeds=cosine(probe.direction, other.direction),
        antisymmetry=probe.antisymmetry,
    )
