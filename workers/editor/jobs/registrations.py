"""Register a base model: bring its files, check them, pin them, and try them once."""

from __future__ import annotations

import torch

from models_store.errors import BaseModelUnavailable
from models_store.schemas.records import RegistrationSettings, json_object
from models_store.work.base_models import BaseFacts
from workers import progress
from workers.editor.jobs.task import Outcome, Task
from workers.runtime.base_models import check, materialise
from workers.runtime.chat_template import check_template
from workers.runtime.loading import LoadedModel, load_base


def run(task: Task) -> Outcome:
    """What a registration found out is its outcome; it leaves no files in the store.

    Every machine brings the files to its own cache and compares the fingerprint.

    Raises:
        InvalidRequest: Scalpel does not take such a model.
        BaseModelUnavailable: the files cannot be had, or are broken.
    """
    settings = task.request.settings
    assert isinstance(settings, RegistrationSettings)
    source = settings.spec.source
    with progress.watch(task.report):
        with progress.step("load"):
            with progress.step("files", 0.5):
                folder = materialise(source, task.settings.cache, task.settings.allowed_folders)
            checked = check(folder, values=True)
            base = load_base(
                folder,
                device=task.settings.device,
                dtype=task.settings.dtype,
                threads=task.settings.threads,
                cache=task.settings.cache,
            )
        with progress.step("evaluate"):
            _try(base)
            if base.has_chat_template:
                check_template(base.tokenizer)
    facts = BaseFacts(
        fingerprint=base.fingerprint,
        architecture=checked.model_type,
        layers=checked.layers,
        hidden_size=base.hidden_size,
        parameters=checked.parameters,
        dtype=str(base.model.config.dtype).removeprefix("torch."),
        chat_template=checked.chat,
        context_length=base.context_length,
        bytes=checked.weight_bytes,
    )
    return Outcome(data=json_object(facts))


@torch.no_grad()
def _try(base: LoadedModel) -> None:
    """Raise BaseModelUnavailable unless the model says something finite."""
    ids = torch.tensor([[base.pad_id, *sorted(base.stop_ids)]], device=base.device)
    states = base.decoder(input_ids=ids, use_cache=False).last_hidden_state
    if not bool(torch.isfinite(base.logits(states).float()).all()):
        raise BaseModelUnavailable(
            "the model's weights are finite, but its outputs for single tokens are not: are "
            "weights and configuration from the same model?"
        )
