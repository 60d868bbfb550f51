"""Make the edit of one row, timed, in a process that has done nothing else."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from benchmarks.beside import lora
from benchmarks.beside.rows import Cost
from benchmarks.edit_cost import load, official
from benchmarks.memory import peak_resident
from benchmarks.quality.data import TableBehavior
from benchmarks.quality.rows import RULES, Options
from benchmarks.quality.setting import Setting
from models_store.errors import EditFailed
from models_store.objects.store import open_store
from models_store.presets import load_preset
from models_store.schemas.behaviors import Behavior
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.methods import Auto, FixedMethod
from models_store.settings import Settings
from models_store.weights.delta import dump_delta, load_delta
from models_store.work.store import SHARED_TENANT
from workers.evaluation.context.budget import BUDGETS
from workers.evaluation.damage.damage import DamagePlan
from workers.evaluation.damage.neutral import calibration_meter
from workers.evaluation.data.splits import Sides, Splits, drawn, split_behavior
from workers.making.cache import Cache
from workers.making.fitting.fitting import prepare
from workers.making.fitting.source import Source
from workers.making.search.choosing import recipes_of
from workers.making.search.recipes import methods_of
from workers.making.search.search import search
from workers.runtime import ranks
from workers.runtime.edits.deltas import from_delta, to_delta
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel
from workers.runtime.reading.passes import read_texts
from workers.runtime.tokens import Encoded, encode
from workers.surgery.calibrate import Scales
from workers.surgery.methods.model_surgery import ModelSurgery
from workers.surgery.methods.natural_bias import NaturalBias
from workers.surgery.probe import ProbeSettings
from workers.surgery.terms import Term

BEHAVIOR = "negativity"
SEED = 0
KL = 0.1
"""To which edits are scaled, nats a token of neutral text."""
MAX_TOKENS = 100
"""Texts are cut there, by all methods."""
TEXTS = 100
"""Texts a side that edits are fitted on: the official procedure reads them 20 times."""
OPTIONS = Options(prompts=100, samples=1, effort="quick", texts=None, rules=RULES)
DAMAGE = DamagePlan(neutral_each=20, own_samples=40, heldout_texts=30, fluency_pairs=60)
"""About half of a receipt's texts."""
WARM_UP = 16
"""Texts that are read before the clock starts."""


def load_fp32(*, shared: bool) -> LoadedModel:
    """The base model, in fp32 on every machine.

    Args:
        shared: work is shared by processes of one thread each, else there is only one of them.
    """
    threads = Settings().threads if shared else 1
    return load(device="cpu", dtype="float32", threads=threads, ranks=shared)


def behavior() -> Behavior:
    return load_preset(BEHAVIOR)


def splits_of(subject: Behavior) -> Splits:
    """Its parts, with the texts to fit on that all rows have."""
    splits = split_behavior(subject, SEED)
    # Sides are as long as each other and in one order, so pairs stay together.
    sides = (drawn(side, TEXTS) for side in (splits.fit.undesired, splits.fit.desired))
    return replace(splits, fit=Sides(*map(tuple, sides)))


def setting_of(base: LoadedModel) -> Setting:
    """What edits are measured with, and what a search chooses by."""
    subject = behavior()
    setting = Setting(base, SMOLLM2.id, TableBehavior(subject), SEED, OPTIONS, Settings())
    context = setting.context
    plan = replace(context.plan, damage=DAMAGE)
    setting.context = replace(context, splits=splits_of(subject), plan=plan)
    return setting


@dataclass(frozen=True, eq=False)
class Task:
    """What a row is made from."""

    base: LoadedModel
    splits: Splits
    folder: Path
    """Of the row."""
    remembered: Path
    """An empty folder, so that nothing is known of the model from before."""
    figures: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    """What a search has chosen, in words."""

    @cached_property
    def texts(self) -> list[Encoded]:
        """Those that edits are fitted on, undesired ones first."""
        return encode(self.base, self.splits.fit.items, max_tokens=MAX_TOKENS, chat=False)

    def cache(self, model: EditedModel) -> Cache:
        settings = Settings(store_url=f"file://{self.remembered}")
        return Cache(open_store(settings), SHARED_TENANT, model)


Make = Callable[[Task], Sequence[Term] | None]
"""Gives the edit; None where there is none, or where it is in the folder already."""


def _bare(task: Task) -> None:
    read_texts(task.base, task.texts, [])


def _official(task: Task, epochs: int) -> list[Term]:
    torch.manual_seed(SEED)
    labels = torch.tensor(task.splits.fit.labels)
    return official(task.base, task.texts, labels, ProbeSettings(kind="paper", epochs=epochs))


def _lora(task: Task, epochs: int) -> None:
    desired = task.texts[len(task.splits.fit.undesired) :]
    losses = lora.train(task.base, desired, epochs, task.folder, seed=SEED)
    task.figures.update(steps=len(losses), first_loss=losses[0], last_loss=losses[-1])


def _method(task: Task, method: FixedMethod) -> list[Term]:
    """Fitted, and scaled as the service does it: on neutral texts that nothing is reported on."""
    model = EditedModel(task.base)
    source = Source(model=model, splits=task.splits, chat=behavior().chat, seed=SEED)
    begun = cores_time()
    prepared = prepare(source, [method], task.cache(model))
    if method in prepared.failures:
        raise prepared.failures[method]
    task.figures["fitting"] = cores_time() - begun
    edit, meter = prepared.made[method], calibration_meter(model)
    scales = Scales(KL, guess=edit.guess)
    for scale in scales:
        scales.measured(meter.kl(edit.terms, scale))
    task.figures["measurements"] = len(scales.trace)
    return edit.at(scales.calibration().scale)


def _auto(task: Task) -> list[Term]:
    """The whole search of the service; it begins with nothing, the scorers included."""
    setting = setting_of(task.base)
    setting.cache = task.cache(setting.model)
    recipes = recipes_of(setting.context, Auto(), OPTIONS.effort)
    with setting.context.opened():
        prepared = prepare(setting.source, methods_of(recipes), setting.cache)
        budget = BUDGETS[OPTIONS.effort]
        result = search(setting.validation, recipes, prepared, budget)
    if result.winner is None:
        raise EditFailed("nothing that was tried helps within the limits on validation prompts")
    task.found.append(result.winner.candidate.label)
    return result.winner.terms


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    label: str
    make: Make
    shared: bool = False
    """See `load_fp32`; training goes batch by batch, which cannot be shared."""
    repeats: int = 1
    as_it_is: bool = True
    """Whether it is also measured without scaling it to the common KL."""
    edits: bool = True


_TIMES = 3

ROWS: Mapping[str, Row] = {
    "bare": Row("bare forward pass", _bare, shared=True, repeats=_TIMES, edits=False),
    "official_9": Row("Model Surgery, official, 9 epochs", partial(_official, epochs=9)),
    "official_20": Row("Model Surgery, official, 20 epochs", partial(_official, epochs=20)),
    "lora_1": Row("LoRA, 1 epoch", partial(_lora, epochs=1)),
    "lora_3": Row("LoRA, 3 epochs", partial(_lora, epochs=3)),
    "natural_bias": Row(
        "Scalpel, `natural_bias`, fitted and scaled",
        partial(_method, method=NaturalBias(max_tokens=MAX_TOKENS)),
        shared=True,
        as_it_is=False,
    ),
    "model_surgery": Row(
        "Scalpel, `model_surgery`, its probe converged, fitted and scaled",
        partial(_method, method=ModelSurgery(max_tokens=MAX_TOKENS)),
        shared=True,
        as_it_is=False,
    ),
    "auto": Row("Scalpel, `auto`, effort `quick`", _auto, shared=True),
}


def make(name: str, folder: Path) -> Cost:
    """Make a row and store its edit in a folder.

    Args:
        folder: of all rows.
    """
    row = ROWS[name]
    base = load_fp32(shared=row.shared)
    splits = splits_of(behavior())
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as remembered:
        task = Task(base, splits, own, Path(remembered))
        read_texts(base, task.texts[:WARM_UP], [])
        seconds, core_seconds = [], []
        for _ in range(row.repeats):
            begun, worked = time.perf_counter(), cores_time()
            terms = row.make(task)
            seconds.append(time.perf_counter() - begun)
            core_seconds.append(cores_time() - worked)
    peak = peak_resident() + ranks.most_bytes
    if terms is not None:
        delta = dump_delta(to_delta(terms, base.fingerprint, name))
        (own / DELTA).write_bytes(delta)
    return Cost(
        row=name,
        label=": ".join([row.label, *task.found]),
        processes=base.ranks,
        seconds=statistics.median(seconds),
        core_seconds=statistics.median(core_seconds),
        peak_bytes=peak,
        stored_bytes=sum(path.stat().st_size for path in own.glob("*.safetensors")) or None,
        figures=task.figures,
    )


def cores_time() -> float:
    """Seconds that cores have worked for this process and for those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


DELTA = "delta.safetensors"


def stored_terms(folder: Path) -> list[Term] | None:
    """The edit in a row's own folder; None if it is an adapter."""
    path = folder / DELTA
    return from_delta(load_delta(path.read_bytes())) if path.exists() else None
