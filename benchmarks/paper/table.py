"""The detoxification table of the Model Surgery paper (arXiv 2407.08770), measured again.

    make paper-table BASE=meta-llama/Llama-2-7b-hf RTP=prompts.jsonl TOXIGEN=toxigen.jsonl

compares the unedited model, Model Surgery at the paper's alpha, its two controls, all three and
Model Surgery with a converged probe at the KL of Scalpel's edit, and Scalpel's `bias` and `auto`,
with greedy decoding on the prompts of RealToxicityPrompts and ToxiGen, beside the paper's figures.
A model of that size needs a GPU; any other base model can be used. Neither prompts nor weights come
with Scalpel.

Differences to the paper: the edits are fitted on the texts of a behaviour (by default of the preset
`toxicity`, not Jigsaw's), continuations have 20 tokens, and the scorer is by default `profanity`,
not the Perspective API. So compare rows with each other first.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.paper.edits import Edit, Fitting, Search, log
from models_store.errors import InvalidRequest, ScalpelError
from models_store.operator.scorers import read_scorers
from models_store.operator.suites import DataFile
from models_store.presets import load_preset, preset_names
from models_store.schemas.behaviors import Behavior
from models_store.schemas.catalogue import BUILT_IN, BaseModelSource, FolderSource, HubSource
from models_store.schemas.measurements import Interval
from models_store.settings import Settings
from workers.evaluation.context.budget import BUDGETS, Budget
from workers.evaluation.damage.neutral import KlMeter, encode_neutral
from workers.evaluation.effect.generations import generate_arm
from workers.evaluation.statistics import Bootstrap, Floats
from workers.evaluation.suites.capability.perplexity import cut_windows
from workers.evaluation.suites.data import open_file, read_text
from workers.evaluation.suites.protocol import choose, greedy
from workers.evaluation.suites.scoring import SuiteScorer, suite_scorer
from workers.evaluation.suites.toxicity.run import NEW_TOKENS, read_prompts
from workers.making.search.search import search
from workers.runtime.base_models import materialise
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.likelihood import negative_log_likelihood
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import encode_prompt
from workers.surgery.terms import Term

PUBLISHED: Mapping[str, tuple[str, str, str]] = {
    "base": ("51.4", "79.1", "6.10"),
    "surgery": ("5.17", "39.9", "6.53"),
    "region": ("15.0", "", ""),
    "direction": ("41.2", "", ""),
}
"""LLaMA2-7B in the paper: toxic % on RealToxicityPrompts and on ToxiGen, WikiText perplexity."""
WINDOWS, WINDOW_TOKENS = 64, 1024
_HUB_FORM = "OWNER/NAME@COMMIT"


@dataclass(frozen=True, eq=False)
class Prompts:
    """One set of prompts."""

    name: str
    texts: Sequence[str]


@dataclass(frozen=True, eq=False)
class EditRow:
    """The measurements of one edit."""

    edit: Edit
    toxic: Mapping[str, Floats]
    """By set of prompts: `[prompts]`, 1 if the continuation is toxic."""
    kl: float
    perplexity: float | None


@dataclass(eq=False)
class Bench:
    """Measures rows."""

    base: LoadedModel
    sets: Sequence[Prompts]
    scorer: SuiteScorer
    text: str | None
    neutral_each: int | None
    model: EditedModel = field(init=False)
    meter: KlMeter = field(init=False)

    def __post_init__(self) -> None:
        self.model = EditedModel(self.base)
        neutral = encode_neutral(self.base, "reporting", each=self.neutral_each)
        self.meter = KlMeter.read(self.model, neutral.parts)

    def row(self, edit: Edit) -> EditRow:
        """Measure one edit."""
        log(f"measuring: {edit.name}")
        return EditRow(
            edit,
            {prompts.name: self._toxic(prompts.texts, edit.terms) for prompts in self.sets},
            self.meter.kl(edit.terms) if edit.terms else 0.0,
            None if self.text is None else self._perplexity(self.text, edit.terms),
        )

    def _toxic(self, prompts: Sequence[str], terms: Sequence[Term]) -> Floats:
        room = self.base.context_length - NEW_TOKENS
        arm = generate_arm(
            self.model.plus(terms),
            [encode_prompt(self.base, prompt, chat=False)[-room:] for prompt in prompts],
            greedy(NEW_TOKENS),
        )
        scores = self.scorer.score(prompts, arm.flat_texts())
        return (scores >= self.scorer.threshold).astype(np.float64)

    def _perplexity(self, text: str, terms: Sequence[Term]) -> float:
        windows = cut_windows(self.base, text, WINDOWS, WINDOW_TOKENS)
        reading = self.model.plus(terms).reading(windows)
        nats = negative_log_likelihood(self.base, reading) * reading.counts
        return float(np.exp(nats.sum() / reading.counts.sum()))


def source_of(name: str) -> BaseModelSource:
    """The source of a base model: a catalogue id, a folder, or a hub repository.

    Raises:
        InvalidRequest: it is none of these.
    """
    if name in BUILT_IN:
        return BUILT_IN[name].source
    if Path(name).is_dir():
        return FolderSource(path=Path(name).resolve())
    repo, _, revision = name.partition("@")
    if repo.count("/") != 1:
        raise InvalidRequest(
            f"--base: {name!r} is no folder, no id ({', '.join(BUILT_IN)}) and not {_HUB_FORM}"
        )
    if not revision:
        from huggingface_hub import HfApi

        try:
            revision = str(HfApi().model_info(repo).sha)
        except Exception as error:
            raise InvalidRequest(
                f"--base: the hub does not tell the newest commit of {repo} ({error}); name one: "
                f"{_HUB_FORM}"
            ) from error
        log(f"{repo} is at {revision}: name it as {repo}@{revision} to repeat this")
    return HubSource(repo=repo, revision=revision)


def behavior_of(name: str, limit: int | None) -> Behavior:
    """A preset, or a behaviour in a JSON file; at most `limit` texts per side."""
    if name in preset_names():
        behavior = load_preset(name)
    else:
        behavior = Behavior.model_validate_json(Path(name).read_bytes())
    return behavior.model_copy(
        update={"undesired": behavior.undesired[:limit], "desired": behavior.desired[:limit]}
    )


def prompts_of(path: str, flag: str, limit: int | None, cache: Path) -> Prompts:
    """The prompts of a JSONL file, at most `limit`."""
    file = open_file(DataFile(path=Path(path).absolute()), flag, cache)
    every = read_prompts(file)
    return Prompts(flag, choose(every, limit or len(every), flag))


def table(rows: Sequence[EditRow], sets: Sequence[Prompts], bootstrap: Bootstrap) -> str:
    """The rows in Markdown; changes are from the first, the base model."""
    titles = {"--rtp": "RTP", "--toxigen": "ToxiGen"}
    places = {"--rtp": 0, "--toxigen": 1}
    heads = ["edit"]
    for prompts in sets:
        heads += [f"{titles[prompts.name]} toxic, %", "change, points", "paper, %"]
    heads.append("KL")
    with_text = rows[0].perplexity is not None
    heads += ["perplexity", "paper"] if with_text else []
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        published = PUBLISHED.get(row.edit.published or "", ("", "", ""))
        cells = [row.edit.name]
        for prompts in sets:
            toxic, before = row.toxic[prompts.name], rows[0].toxic[prompts.name]
            change = "" if row is rows[0] else _points(bootstrap.mean(toxic - before))
            cells += [f"{100 * toxic.mean():.1f}", change, published[places[prompts.name]]]
        cells.append("" if row is rows[0] else f"{row.kl:#.3g}")
        cells += [f"{row.perplexity:.2f}", published[2]] if with_text else []
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _points(change: Interval) -> str:
    value, low, high = (100 * x for x in (change.value, change.low, change.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of = os.environ.get
    made.add_argument("--base", default=of("BASE"), help=f"id, folder, or {_HUB_FORM} (BASE)")
    made.add_argument("--rtp", default=of("RTP"), help="JSONL of RealToxicityPrompts (RTP)")
    made.add_argument("--toxigen", default=of("TOXIGEN"), help="JSONL of ToxiGen (TOXIGEN)")
    made.add_argument("--text", default=of("WIKITEXT"), help="text for perplexity (WIKITEXT)")
    made.add_argument("--behavior", default="toxicity", help="preset, or a behaviour's JSON file")
    made.add_argument("--scorer", default="profanity", help="as the suite toxicity takes one")
    made.add_argument(
        "--limit", type=int, help="prompts a set, texts a side and neutral texts a kind"
    )
    made.add_argument("--no-auto", action="store_true", help="leave the search out")
    made.add_argument("--seed", type=int, default=0)
    gpu = "cuda" if torch.cuda.is_available() else None
    made.add_argument("--device", default=gpu, help="default: a GPU, else SCALPEL_DEVICE")
    return made


def main(
    arguments: Sequence[str] | None = None,
    *,
    search: Search = search,
    budget: Budget = BUDGETS["standard"],
) -> int:
    """Print the table; `search` and `budget` are those of the edit that `auto` finds."""
    given = _options().parse_args(arguments)
    if not given.base or not (given.rtp or given.toxigen):
        print(
            "paper-table needs a base model and prompts, none of which come with Scalpel:\n"
            "  make paper-table BASE=meta-llama/Llama-2-7b-hf RTP=prompts.jsonl TOXIGEN=….jsonl\n"
            f"BASE is an id ({', '.join(BUILT_IN)}), a folder, or {_HUB_FORM}; RTP and TOXIGEN, "
            'one or both, are JSONL\nfiles with a prompt a line: {"text": "…"}, {"prompt": "…"} '
            'or {"prompt": {"text": "…"}}.',
            file=sys.stderr,
        )
        return 2
    try:
        return _run(given, search, budget)
    except (ScalpelError, OSError) as error:
        print(f"paper-table: {error}", file=sys.stderr)
        return 2


def _run(given: argparse.Namespace, search: Search, budget: Budget) -> int:
    started = time.monotonic()
    settings = Settings()
    scorer = suite_scorer(given.scorer, "--scorer", read_scorers(settings.scorers))
    sets = [
        prompts_of(path, flag, given.limit, settings.cache)
        for flag, path in (("--rtp", given.rtp), ("--toxigen", given.toxigen))
        if path
    ]
    text = None
    if given.text:
        file = DataFile(path=Path(given.text).absolute())
        text = read_text(open_file(file, "--text", settings.cache))
    behavior = behavior_of(given.behavior, given.limit)
    folder = materialise(source_of(given.base), settings.cache)
    base = load_base(
        folder,
        device=given.device or settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        ranks=True,
        cache=settings.cache,
    )
    fitting = Fitting(base, behavior, settings, seed=given.seed, neutral_each=given.limit)
    edits = fitting.edits(auto=not given.no_auto, search=search, budget=budget)
    bench = Bench(base, sets, scorer, text, given.limit)
    rows = [bench.row(edit) for edit in (Edit("base", (), "base"), *edits)]
    counts = ", ".join(f"{len(prompts.texts)} of {prompts.name[2:]}" for prompts in sets)
    print(
        f"{given.base} on {base.device}, {base.dtype}; prompts: {counts}; greedy, {NEW_TOKENS} "
        f"tokens; scorer {scorer.name}; fitted on {behavior.name}; seed {given.seed}\n"
    )
    print(table(rows, sets, Bootstrap(given.seed)))
    print(
        "\nIn brackets: 95 % intervals of the change. Paper: LLaMA2-7B, scored by the Perspective "
        f"API (arXiv 2407.08770).\n{time.monotonic() - started:.0f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
