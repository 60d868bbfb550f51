"""Make the files of an export, and prove them before anybody can have them."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from torch import nn

from models_store.schemas.records import ExportFormat, ExportSettings, Variant, json_object
from models_store.weights.delta import FORMAT, dump_delta, load_delta
from models_store.weights.peft import CONFIG_NAME, WEIGHTS_NAME, to_peft
from workers.editor.jobs.inputs import base_of, mixture_of, registered_base
from workers.editor.jobs.proof import Loader, has_room, prove
from workers.editor.jobs.task import Outcome, Task
from workers.runtime.apply import WeightEditor
from workers.runtime.deltas import from_delta, to_delta
from workers.runtime.loading import BaseModel
from workers.surgery.terms import Mixture, scaled

Files = Mapping[str, bytes]
_NATIVE_NAME = "delta.safetensors"


def run(task: Task) -> Outcome:
    """Make the export; its outcome holds the files and the proof.

    Raises:
        InvalidRequest: the format cannot hold such edits.
        EditFailed: `export_mismatch`, what was loaded back is not the variant.
        BaseModelUnavailable, CorruptArtifact, NotFound: something that it is made from is missing
            or broken.
        Unavailable: the store stayed away.
    """
    settings = task.request.settings
    assert isinstance(settings, ExportSettings)
    task.report("load", 0.0)
    # Both formats hold fp32 numbers, so what they give in fp32 can be compared sharply.
    room = has_room(registered_base(task).facts.parameters, task.settings.device)
    base = base_of(task, dtype="float32" if room else None)
    mixture = mixture_of(task, settings.variant)
    task.report("evaluate", 0.0)
    make, loader = _FORMATS[settings.format]
    files = make(base, mixture, settings.variant)
    proof = prove(base, mixture, loader(files), lambda dtype: base_of(task, dtype=dtype))
    task.report("publish", 0.0)
    saved = tuple(task.save(name, f"files/{name}", data) for name, data in files.items())
    return Outcome(saved, {"proof": json_object(proof)})


def _native(base: BaseModel, mixture: Mixture, variant: Variant) -> Files:
    """All edits in one delta, with their strengths in the coefficients."""
    terms = [term for own, strength in mixture for term in scaled(own, strength)]
    return {_NATIVE_NAME: dump_delta(to_delta(terms, base.fingerprint, "mixture"))}


def _native_loader(files: Files) -> Loader:
    terms = from_delta(load_delta(files[_NATIVE_NAME]))
    name, number = FORMAT.split("/")
    return Loader(
        name,
        number,
        lambda base: WeightEditor(base).applied([(terms, 1.0)]),
    )


def _peft(base: BaseModel, mixture: Mixture, variant: Variant) -> Files:
    """One LoRA adapter for all edits."""
    weighted = [
        (term, strength)
        for own, strength in mixture
        for term in to_delta(own, base.fingerprint, "").terms
    ]
    linears = {
        name: (module.out_features, module.in_features)
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear)
    }
    config, weights = to_peft(weighted, linears, base.architecture, base_model=variant.base_model)
    return {CONFIG_NAME: json.dumps(config, indent=2).encode(), WEIGHTS_NAME: weights}


def _peft_loader(files: Files) -> Loader:
    @contextmanager
    def loaded(base: BaseModel) -> Iterator[None]:
        # Imported here: it takes seconds, and only an export has a use for it.
        from peft import PeftModel

        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            with warnings.catch_warnings():
                # PEFT asks transformers by a name that is going out of use.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                adapted = PeftModel.from_pretrained(base.model, folder)
        # It puts its layers into the model itself, which goes on running with them.
        try:
            yield
        finally:
            adapted.unload()

    return Loader("peft", version("peft"), loaded)


_FORMATS: Mapping[
    ExportFormat,
    tuple[Callable[[BaseModel, Mixture, Variant], Files], Callable[[Files], Loader]],
] = {"native": (_native, _native_loader), "peft": (_peft, _peft_loader)}
