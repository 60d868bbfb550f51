"""From texts to the terms of an edit: the stages `extract` to `tune`, for each method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from pydantic import JsonValue
from torch import Tensor

from models_store.items import Item
from models_store.methods import Bias, Limits, ModelSurgery
from models_store.report import ProbeReport
from workers.editor.stages import Stages, span
from workers.evaluation.neutral import KlMeter, NeutralTexts, calibration_meter
from workers.evaluation.splits import Splits
from workers.runtime.apply import WeightEditor
from workers.runtime.extract import features
from workers.runtime.loading import BaseModel
from workers.runtime.residuals import bias_statistics, first_tokens
from workers.runtime.tokens import Encoded, encode
from workers.surgery.calibrate import Calibration, calibrate
from workers.surgery.methods import bias, model_surgery
from workers.surgery.probe import DESIRED, UNDESIRED, Probe, ProbeSettings, auc, fit_probe
from workers.surgery.region import select_region
from workers.surgery.terms import Mixture, Term, scaled

KL_SHARE = 0.9
"""An edit is calibrated to this share of its limit: the limit is judged on other texts."""
_CALIBRATION_EACH = 64
"""Plain texts and answers that the KL is calibrated on, so many of each: about 6,000 positions,
which leave a standard error of 6 % of the KL."""
_PRESERVED = 64
"""Items to preserve that the KL is calibrated on, at most."""
_PRESERVED_TOKENS = 64


@dataclass(frozen=True, eq=False)
class Fitted:
    """An edit at strength 1, and what the receipt tells of how it was made."""

    terms: list[Term]
    probe: ProbeReport
    alpha: float | None
    relative_alpha: float | None
    details: dict[str, JsonValue]


@dataclass(frozen=True, eq=False)
class Fit:
    """What an edit is fitted on."""

    base: BaseModel
    """Its weights must be the base's own."""
    splits: Splits
    chat: bool
    """Prompts pass through the chat template."""
    preserve: Sequence[Item]
    on_top: Mixture
    """Edits that are on the model while the new one is fitted."""
    limits: Limits
    seed: int


@dataclass(frozen=True, eq=False)
class _Texts:
    """The texts that are read, encoded."""

    fit: list[Encoded]
    """Undesired ones first, each side in the order of the behaviour."""
    labels: Tensor
    heldout: list[Encoded]
    heldout_labels: Tensor

    @property
    def undesired(self) -> list[Encoded]:
        return self.fit[: int((self.labels == UNDESIRED).sum())]

    @property
    def desired(self) -> list[Encoded]:
        return self.fit[len(self.undesired) :]


def fit(task: Fit, method: ModelSurgery | Bias, stages: Stages) -> Fitted:
    """Make the terms of an edit.

    Raises:
        InvalidRequest: the texts or the settings do not fit the model.
        EditFailed: the method finds nothing that it could write.
    """
    if isinstance(method, ModelSurgery):
        return _model_surgery(task, method, stages)
    return _bias(task, method, stages)


def _model_surgery(task: Fit, method: ModelSurgery, stages: Stages) -> Fitted:
    base = task.base
    # Probe and region are those of the model that the edit goes on top of, as in the paper.
    with WeightEditor(base).applied(task.on_top):
        with stages.stage("extract") as progress:
            texts = _encode(task, method.max_tokens)
            read = features(base, [*texts.fit, *texts.heldout], progress=progress)
        with stages.stage("probe"):
            settings = ProbeSettings(
                epochs=method.epochs,
                learning_rate=method.learning_rate,
                batch_size=method.batch_size,
                train_fraction=method.train_fraction,
            )
            probe = fit_probe(read[: len(texts.fit)], texts.labels, settings, task.seed)
        with stages.stage("select"):
            keys = list(base.architecture.gates())
            region = select_region(map(base.matrix, keys), probe.direction, method.fraction)
    with stages.stage("tune"):
        alpha = method.alpha if method.alpha is not None else model_surgery.PAPER_ALPHA
        if method.relative_alpha is not None:
            alpha = model_surgery.absolute_alpha(method.relative_alpha, probe.direction, region)
        terms = model_surgery.terms_from(keys, region, probe.direction, alpha)
    return Fitted(
        terms=terms,
        probe=_probe_report(probe, read[len(texts.fit) :], texts.heldout_labels),
        alpha=alpha,
        relative_alpha=model_surgery.relative_alpha(alpha, probe.direction, region),
        details={
            "rows": region.size,
            "total_rows": region.total_rows,
            "cut": region.cut,
            "mean_row_norm": region.mean_row_norm,
        },
    )


def _bias(task: Fit, method: Bias, stages: Stages) -> Fitted:
    base = task.base
    layers = method.layers or bias.default_layers(base.layers)
    with WeightEditor(base).applied(task.on_top):
        with stages.stage("extract") as progress:
            texts = _encode(task, method.max_tokens)
            read = features(base, [*texts.fit, *texts.heldout], progress=span(progress, 0, 0.5))
            statistics = bias_statistics(
                base, texts.desired, texts.undesired, layers, progress=span(progress, 0.5, 0.9)
            )
            firsts = first_tokens(base, layers)
        with stages.stage("probe"):
            # Nothing is made of it here; it tells how well the model sees the trait.
            probe = fit_probe(read[: len(texts.fit)], texts.labels, ProbeSettings(), task.seed)
    with stages.stage("select"):
        fitted = bias.fit_bias(statistics, firsts, method.ridge)
    with stages.stage("tune") as progress:
        found = None
        scale = method.scale
        if scale is None:
            found = _calibrated(task, list(fitted.terms), fitted.guess, progress)
            scale = found.scale
        terms = scaled(fitted.terms, scale)
    return Fitted(
        terms=terms,
        probe=_probe_report(probe, read[len(texts.fit) :], texts.heldout_labels),
        alpha=None,
        relative_alpha=None,
        details={
            "scale": scale,
            "layers": [asdict(check) for check in fitted.checks],
            "calibration": None if found is None else _details(found, task.limits),
        },
    )


def _encode(task: Fit, max_tokens: int) -> _Texts:
    def encoded(items: Sequence[Item]) -> list[Encoded]:
        return encode(task.base, items, max_tokens=max_tokens, chat=task.chat)

    def labels(undesired: Sequence[Item], desired: Sequence[Item]) -> Tensor:
        return torch.tensor([UNDESIRED] * len(undesired) + [DESIRED] * len(desired))

    fit, heldout = task.splits.fit, task.splits.heldout
    return _Texts(
        fit=encoded([*fit.undesired, *fit.desired]),
        labels=labels(fit.undesired, fit.desired),
        heldout=encoded([*heldout.undesired, *heldout.desired]),
        heldout_labels=labels(heldout.undesired, heldout.desired),
    )


def _calibrated(
    task: Fit, terms: list[Term], guess: float, progress: Callable[[float], None]
) -> Calibration:
    """The scale at which neutral text, and what is to be preserved, changes as much as it may."""
    meters = [calibration_meter(task.base, on_top=task.on_top, each=_CALIBRATION_EACH)]
    if task.preserve:
        order = torch.randperm(
            len(task.preserve), generator=torch.Generator().manual_seed(task.seed)
        )
        items = [task.preserve[i] for i in order[:_PRESERVED].tolist()]
        texts = encode(task.base, items, max_tokens=_PRESERVED_TOKENS, chat=task.chat)
        meters.append(KlMeter(task.base, NeutralTexts(texts, len(texts)), on_top=task.on_top))
    measured = 0

    def kl(scale: float) -> float:
        nonlocal measured
        worst = max(meter.kl(terms, scale) for meter in meters)
        measured += 1
        progress(measured / (measured + 1))  # nobody knows how many more there will be
        return worst

    return calibrate(kl, KL_SHARE * task.limits.max_kl, guess=guess)


def _details(found: Calibration, limits: Limits) -> JsonValue:
    return {
        "target_kl": KL_SHARE * limits.max_kl,
        "kl": found.kl,
        "reached": found.reached,
        "trace": [{"scale": scale, "kl": kl} for scale, kl in found.trace],
    }


def _probe_report(probe: Probe, heldout: Tensor, labels: Tensor) -> ProbeReport:
    """How well the probe does on texts that nothing was fitted on."""
    margins = (heldout @ probe.weight.T + probe.bias) @ torch.tensor([-1.0, 1.0])
    return ProbeReport(
        train_accuracy=probe.train_accuracy,
        train_rows=len(probe.train_rows),
        heldout_accuracy=float(((margins > 0).long() == labels).double().mean()),
        heldout_auc=auc(margins, labels),
        heldout_rows=len(labels),
        direction_norm=float(probe.direction.norm()),
    )
