"""Edits that are still to be scaled: what each method makes of the material, and pairs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import JsonValue

from models_store.schemas.methods import (
    Attribution,
    Bias,
    Conditional,
    FixedMethod,
    ModelSurgery,
    Natural,
    NaturalBias,
)
from workers.making.fitting.material import Material, gate_layers, written_layers
from workers.surgery.methods import bias, model_surgery
from workers.surgery.methods.attribution import fit_attribution
from workers.surgery.methods.conditional import condition
from workers.surgery.methods.natural import fit_natural
from workers.surgery.methods.natural_bias import NaturalBiasFit, fit_natural_bias
from workers.surgery.probe import Probe, ProbeSettings, fit_probe
from workers.surgery.region import select_region
from workers.surgery.terms import Term, scaled


@dataclass(frozen=True, eq=False)
class Candidate:
    """An edit at scale 1, which means something else for every method."""

    method: str
    """Type of the method; of a pair both, such as `natural+bias`."""
    label: str
    """Method and place in words."""
    terms: Sequence[Term]
    guess: float
    """A scale to start the calibration from."""
    details: Mapping[str, JsonValue]
    """What the method tells of its fit."""
    alpha: float | None = None
    """Of `model_surgery`, at scale 1."""
    relative_alpha: float | None = None
    felt_kl: float = 0.0
    """Estimate of the KL at scale 1 where the edit is felt; not 0 where what is measured does not
    feel it, as of `conditional`."""

    def at(self, scale: float) -> list[Term]:
        """The terms at another scale."""
        return scaled(self.terms, scale)


def make(material: Material, method: FixedMethod) -> Candidate:
    """Fit a method; the weights must be those of the model that is edited, and nothing is run.

    Raises:
        InvalidRequest, EditFailed: the method has nothing to write, here or with these settings.
    """
    failure = material.failures.get(method.type)
    if failure is not None:
        raise failure
    match method:
        case ModelSurgery():
            return _model_surgery(material, method)
        case Bias():
            return _bias(material, method)
        case Natural():
            return _natural(material, method)
        case NaturalBias():
            return _natural_bias(material, method)
        case Conditional():
            return _conditional(material, method)
        case Attribution():
            return _attribution(material, method)


def pair(first: Candidate, second: Candidate, scales: tuple[float, float]) -> Candidate:
    """Two edits as one, at their scales; scaled further they keep their proportion."""
    one, other = scales
    return Candidate(
        method=f"{first.method}+{second.method}",
        label=f"{first.label} with {second.label}",
        terms=[*first.at(one), *second.at(other)],
        guess=0.5,  # each alone has the whole KL at 1
        details={
            "parts": [
                {"label": part.label, "scale": scale, **part.details}
                for part, scale in ((first, one), (second, other))
            ]
        },
    )


def describe(method: FixedMethod) -> str:
    """Method and place in words."""
    if isinstance(method, ModelSurgery):
        return "model_surgery"
    if isinstance(method, NaturalBias) and method.answer_tokens is not None:
        whole = describe(method.model_copy(update={"answer_tokens": None}))
        return f"{whole}, first {method.answer_tokens} tokens of answers"
    where = (
        method.layers if isinstance(method, Bias | Natural | NaturalBias | Conditional) else None
    )
    if where is None:
        return method.type
    return f"{method.type}, layer{'s' if len(where) > 1 else ''} {_numbers(where)}"


def probe_settings(method: FixedMethod | None = None) -> ProbeSettings:
    """How the probe is trained: as the method has it, else as the paper has."""
    if not isinstance(method, ModelSurgery):
        return ProbeSettings()
    return ProbeSettings(
        epochs=method.epochs,
        learning_rate=method.learning_rate,
        batch_size=method.batch_size,
        train_fraction=method.train_fraction,
    )


def probe_of(material: Material, settings: ProbeSettings) -> Probe:
    """The probe on the fit texts, trained once for all that ask for it with these settings."""
    if settings not in material.probes:
        material.probes[settings] = fit_probe(
            material.fitted_features, material.texts.labels, settings, material.source.seed
        )
    return material.probes[settings]


def _model_surgery(material: Material, method: ModelSurgery) -> Candidate:
    base = material.source.base
    direction = probe_of(material, probe_settings(method)).direction
    keys = list(base.architecture.gates())
    region = select_region(map(base.matrix, keys), direction, method.fraction)
    alpha = method.alpha if method.alpha is not None else model_surgery.PAPER_ALPHA
    if method.relative_alpha is not None:
        alpha = model_surgery.absolute_alpha(method.relative_alpha, direction, region)
    return Candidate(
        method=method.type,
        label=describe(method),
        terms=model_surgery.terms_from(keys, region, direction, alpha),
        guess=1.0,
        details={
            "rows": region.size,
            "total_rows": region.total_rows,
            "cut": region.cut,
            "mean_row_norm": region.mean_row_norm,
        },
        alpha=alpha,
        relative_alpha=model_surgery.relative_alpha(alpha, direction, region),
    )


def _bias(material: Material, method: Bias) -> Candidate:
    layers = written_layers(method, material.source.base.layers)
    fitted = bias.combine([material.bias_layer(layer, method.ridge) for layer in layers])
    return Candidate(
        method=method.type,
        label=describe(method.model_copy(update={"layers": layers})),
        terms=fitted.terms,
        guess=fitted.guess,
        details={"layers": [asdict(check) for check in fitted.checks]},
    )


def _natural(material: Material, method: Natural) -> Candidate:
    wanted = set(gate_layers(method, material.source.base.layers))
    gradients = material.gates.gradients
    fitted = fit_natural(
        {key: own for key, own in gradients.items() if key.layer in wanted},
        material.curvature,
        damping=method.damping,
        fraction=method.fraction,
    )
    return Candidate(
        method=method.type,
        label=describe(method),
        terms=fitted.terms,
        guess=fitted.guess,
        details={"layers": [asdict(step) for step in fitted.steps]},
    )


def _natural_bias(material: Material, method: NaturalBias) -> Candidate:
    layers = written_layers(method, material.source.base.layers)
    fitted = fit_natural_bias(
        [material.bias_layer(layer, method.ridge) for layer in layers],
        material.shifts[method.answer_tokens],
        material.shift_curvature,
        damping=method.damping,
    )
    return _shift(method, layers, fitted)


def _conditional(material: Material, method: Conditional) -> Candidate:
    layers = written_layers(method, material.source.base.layers)
    conditions = [
        condition(material.answer_starts[layer], material.first_tokens[layer], method.ridge)
        for layer in layers
    ]
    fitted = fit_natural_bias(
        [regression for regression, _ in conditions],
        material.answer_shifts[method.answer_tokens],
        material.shift_curvature,
        damping=method.damping,
    )
    made = _shift(method, layers, fitted)
    more: dict[str, JsonValue] = {
        "felt": [asdict(felt) for _, felt in conditions],
        "felt_kl": fitted.kl,
    }
    return replace(made, details={**made.details, **more}, felt_kl=fitted.kl)


def _shift(
    method: NaturalBias | Conditional, layers: Sequence[int], fitted: NaturalBiasFit
) -> Candidate:
    return Candidate(
        method=method.type,
        label=describe(method.model_copy(update={"layers": layers})),
        terms=fitted.terms,
        guess=fitted.guess,
        details={
            "layers": [asdict(check) for check in fitted.checks],
            "steps": [asdict(step) for step in fitted.steps],
        },
    )


def _attribution(material: Material, method: Attribution) -> Candidate:
    fitted = fit_attribution(
        material.gates.gradients,
        material.curvature,
        material.gates.undesired,
        material.gates.desired,
        damping=method.damping,
        fraction=method.fraction,
    )
    return Candidate(
        method=method.type,
        label=describe(method),
        terms=fitted.terms,
        guess=fitted.guess,
        details={"rows": fitted.rows, "total_rows": fitted.total_rows},
    )


def _numbers(layers: Sequence[int]) -> str:
    """Layers in words: runs of three or more as their ends."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )
