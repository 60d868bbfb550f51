"""The cost of an edit of SmolLM2, without loading and evaluation: ratios, each measured in one run.

- extracting features to a bare forward pass over the same texts;
- everything that is read of the texts for methods to a bare forward pass over them, with what
  depends on the base alone kept: for all that `auto` tries, and for a method without gradients;
- the official procedure of the paper's method, which runs the texts through the model in every
  epoch, to ours;
- reading and generation by one process to the same by two;
- peak memory of an edit to that of a bare forward pass, each in its own process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.claims import RatioClaim, interleaved, parser, report, seconds
from benchmarks.memory import peak_resident
from models_store.objects.store import open_store
from models_store.presets import load_preset
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.methods import METHODS, Auto, FixedMethod
from models_store.settings import Settings
from models_store.weights.architectures import GATE, MatrixKey
from models_store.work.store import SHARED_TENANT
from workers.evaluation.data.splits import split_behavior
from workers.making.cache import Cache
from workers.making.fitting.material import Material
from workers.making.fitting.readings import Texts, encode_texts
from workers.making.fitting.source import Source
from workers.making.search.choosing import recipes_for
from workers.making.search.recipes import methods_of
from workers.runtime.base_models import materialise
from workers.runtime.decoding.decode import generate
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.reading.extract import features
from workers.runtime.reading.passes import read_texts
from workers.runtime.tokens import Encoded, encode
from workers.surgery.methods.model_surgery import fit as model_surgery
from workers.surgery.probe import DESIRED, UNDESIRED, ProbeSettings, fit_probe
from workers.surgery.region import select_region
from workers.surgery.terms import Term

FRACTION = 0.0465
MAX_TOKENS = 100
PAPER = ProbeSettings(kind="paper")


def load(
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int = 0,
    ranks: bool = False,
) -> LoadedModel:
    """SmolLM2; see `load_base`. None: what the settings say."""
    settings = Settings()
    return load_base(
        materialise(SMOLLM2.source, settings.cache),
        device=device or settings.device,
        dtype=dtype or settings.dtype,
        threads=threads,
        ranks=ranks,
        cache=settings.cache,
    )


def texts_of(base: LoadedModel, side: int) -> tuple[list[Encoded], Tensor]:
    """At most `side` texts per side of the preset `negativity`, and their labels."""
    behavior = load_preset("negativity")
    items = [*behavior.undesired[:side], *behavior.desired[:side]]
    count = min(side, len(behavior.undesired))
    labels = torch.tensor([UNDESIRED] * count + [DESIRED] * (len(items) - count))
    return encode(base, items, max_tokens=MAX_TOKENS, chat=False), labels


def bare_pass(base: LoadedModel, texts: list[Encoded]) -> None:
    read_texts(base, texts, [])


def edit(base: LoadedModel, texts: list[Encoded], labels: Tensor) -> None:
    """Our procedure for the same probe: one forward pass over the texts."""
    probe = fit_probe(features(base, texts), labels, PAPER, seed=0)
    _terms(base, probe.direction)


def official(
    base: LoadedModel, texts: list[Encoded], labels: Tensor, settings: ProbeSettings
) -> list[Term]:
    """The official procedure: batches of 16 in shuffled order, encoded anew in every epoch.

    Returns:
        The edit at the paper's alpha.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(texts), generator=generator)
    border = int(settings.train_fraction * len(texts))
    train, heldout = order[:border], order[border:]
    probe = torch.nn.Linear(base.hidden_size, 2)
    optimizer = torch.optim.Adam(probe.parameters(), lr=settings.learning_rate)
    for _ in range(settings.epochs):
        for rows in torch.split(
            train[torch.randperm(border, generator=generator)], settings.batch_size
        ):
            loss = F.cross_entropy(probe(_pooled(base, [texts[i] for i in rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        for rows in torch.split(heldout, settings.batch_size):
            probe(_pooled(base, [texts[i] for i in rows]))
    return _terms(base, probe.weight[UNDESIRED].detach())


@torch.no_grad()
def _pooled(base: LoadedModel, texts: list[Encoded]) -> Tensor:
    """Mean hidden state of texts, padded to the longest: fp32 `[texts, hidden]`."""
    length = max(map(len, texts))
    ids = torch.full((len(texts), length), base.pad_id)
    mask = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text.ids)
        mask[row, : len(text)] = 1
    ids, mask = ids.to(base.device), mask.to(base.device)
    states = base.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    summed = (states.float() * mask[..., None]).sum(dim=1)
    pooled: Tensor = (summed / mask.sum(dim=1, keepdim=True)).cpu()
    return pooled


def _terms(base: LoadedModel, direction: Tensor) -> list[Term]:
    keys = [MatrixKey(layer, GATE) for layer in range(base.layers)]
    region = select_region((base.matrix(key) for key in keys), direction, FRACTION)
    return model_surgery.terms_from(keys, region, direction, model_surgery.PAPER_ALPHA)


def all_readings(base: LoadedModel, folder: Path, side: int) -> list[RatioClaim]:
    """What methods need of the texts of a behaviour, against a bare forward pass over these."""
    behavior = load_preset("negativity")
    items = {"undesired": behavior.undesired[:side], "desired": behavior.desired[:side]}
    splits = split_behavior(behavior.model_copy(update=items), 0)
    source = Source(EditedModel(base), splits, chat=False, seed=0)
    tried = methods_of(recipes_for(Auto(), "standard", base.layers))
    wanted: dict[str, tuple[Sequence[FixedMethod], float]] = {
        "all that auto tries": (tried, 3.9),
        "bias": ([METHODS["bias"]()], 1.3),
    }
    objects = open_store(Settings(data=folder))
    claims = []
    for name, (methods, goal) in wanted.items():
        texts = encode_texts(source, max(method.max_tokens for method in methods))

        def bare(texts: Texts = texts) -> None:
            read_texts(base, [*texts.fit, *texts.heldout], [])

        def readings(methods: Sequence[FixedMethod] = methods) -> None:
            Material.read(source, methods, Cache(objects, SHARED_TENANT, source.model))

        readings()  # warm up, and keep what is of the base alone
        forward, everything = interleaved(bare, readings, 3)
        claim = f"readings for {name} / bare forward pass over the texts"
        claims.append(RatioClaim(claim, everything / forward, goal, "lower"))
    return claims


def two_processes(base: LoadedModel, texts: list[Encoded]) -> list[RatioClaim]:
    """One process of one thread against two, for reading and for generation."""
    prompts = [list(text.ids[:12]) for text in texts[:64]]
    alone, shared = replace(base, ranks=1), replace(base, ranks=2)

    def written(model: LoadedModel) -> None:
        generate(model, prompts, max_new_tokens=16, stop_ids=frozenset())

    claims = []
    works: dict[str, Callable[[LoadedModel], None]] = {
        "reading": lambda model: bare_pass(model, texts),
        "generation": written,
    }
    for name, work in works.items():
        one, two = interleaved(partial(work, alone), partial(work, shared), 3)
        claims.append(RatioClaim(f"{name}: one process / two", one / two, 1.8, "higher"))
    return claims


def peak_bytes(what: str, side: int) -> int:
    """Peak resident memory of a new process that does `what`: `inference` or `edit`."""
    command = [sys.executable, "-m", "benchmarks.edit_cost", "--peak", what, "--side", str(side)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def _print_peak(what: str, side: int) -> None:
    base = load()
    texts, labels = texts_of(base, side)
    if what == "edit":
        edit(base, texts, labels)
    else:
        bare_pass(base, texts)
    print(peak_resident())


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--side", type=int, default=200, help="texts a side")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--peak", choices=("inference", "edit"), help="used by the script itself")
    given = options.parse_args()
    if given.peak:
        _print_peak(given.peak, given.side)
        return 0
    base = load()
    texts, labels = texts_of(base, given.side)
    torch.set_num_threads(1)
    bare_pass(base, texts)  # warm up
    bare, extraction = interleaved(
        lambda: bare_pass(base, texts), lambda: features(base, texts), given.repeats
    )
    ours = min(seconds(lambda: edit(base, texts, labels)) for _ in range(2))
    theirs = seconds(lambda: official(base, texts, labels, PAPER))
    memory = peak_bytes("edit", given.side) / peak_bytes("inference", given.side)
    with tempfile.TemporaryDirectory() as folder:
        readings = all_readings(base, Path(folder), given.side)
    return report(
        [
            RatioClaim("feature extraction / bare forward pass", extraction / bare, 1.3, "lower"),
            *readings,
            *two_processes(base, texts),
            RatioClaim("official procedure / ours", theirs / ours, 8.0, "higher"),
            RatioClaim("peak memory of an edit / of inference", memory, 1.2, "lower"),
        ],
        given,
        "edit_cost",
    )


if __name__ == "__main__":
    sys.exit(main())
