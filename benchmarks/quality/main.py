"""The quality table: effect and harm of edits, beside their baselines.

    make quality BEHAVIORS=negative_sentiment SEEDS=0,1,2
    python -m benchmarks.quality.main --table

measures for each behaviour and seed, on the same test prompts with the same random numbers: the
base, the winner of `auto`, each of its recipes alone at about 0.9 of the limits, random directions
and rows, steering by a hook, directional ablation, a prompt, and the paper's method: `paper`, with
a probe that has converged, at equal KL, is the rival that counts; `paper_alpha` has the paper's own
settings, and `paper_9_epochs` these at equal KL. Rows are appended to a file as they are made; an
interrupted run is continued.

The texts do not come with Scalpel; see `benchmarks.quality.data`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.paper.edits import log
from benchmarks.paper.table import source_of
from benchmarks.quality.arms import Arms
from benchmarks.quality.data import BEHAVIORS, TableBehavior, data_folder, load_behavior
from benchmarks.quality.measure import Measure
from benchmarks.quality.plot import plot
from benchmarks.quality.recipes import ALL, names
from benchmarks.quality.rows import BASE, RULES, ArmRow, Options, RowFile
from benchmarks.quality.setting import Setting
from benchmarks.quality.statistics import columns
from benchmarks.quality.table import LIMITS, lines, markdown, spots
from models_store.errors import ScalpelError
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.methods import Effort
from models_store.settings import Settings
from workers.runtime.base_models import materialise
from workers.runtime.loading import LoadedModel, load_base


def measure(
    base: LoadedModel,
    base_id: str,
    of: TableBehavior,
    seed: int,
    arms: Sequence[str],
    options: Options,
    file: RowFile,
) -> None:
    """Add the rows of one behaviour and seed that the file does not have.

    Raises:
        InvalidRequest: there is no arm of a name in `arms`, or the behaviour cannot be used.
    """
    name = of.behavior.name
    every = names(arms, base.layers)
    missing = [arm for arm in every if not file.has(base_id, name, seed, arm)]
    if not missing:
        return
    setting = Setting(base, base_id, of, seed, options, Settings())
    maker = Arms(setting, arms)
    bench = Measure(setting)
    for arm in missing:
        log(f"{name}, seed {seed}: {arm}")
        row = ArmRow(base=base_id, behavior=name, seed=seed, arm=arm, label=arm, options=options)
        file.append(bench.row(row, maker.make))


def show(file: RowFile) -> None:
    """Print the table of all rows and write a plot for each base and behaviour beside the file."""
    print(markdown(file.rows))
    for base, behavior in dict.fromkeys((row.base, row.behavior) for row in file.rows):
        rows = [row for row in file.rows if (row.base, row.behavior) == (base, behavior)]
        leading = next(iter(columns([row for row in rows if row.arm == BASE])), None)
        points = spots(lines(rows)) if leading else []
        if leading and points:
            what = f"change of the rate by {leading.scorer} on {leading.sheet} prompts, points"
            name = f"{Path(base).name.partition('@')[0]}-{behavior}.svg"
            target = file.path.with_name(name)
            target.write_text(plot(f"{behavior}, {base}", what, points, LIMITS), encoding="utf-8")
            log(f"wrote {target}")


def _words(value: str) -> list[str]:
    return [word for word in value.replace(",", " ").split() if word]


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--base", default=SMOLLM2.id, help="id, folder or OWNER/NAME@COMMIT")
    made.add_argument("--behaviors", type=_words, default=list(BEHAVIORS), help="with commas")
    made.add_argument("--seeds", type=lambda v: [int(w) for w in _words(v)], default=[0])
    made.add_argument("--effort", choices=get_args(Effort), default="quick", help="of auto")
    made.add_argument(
        "--arms",
        type=_words,
        default=list(ALL),
        help=f"of {', '.join(ALL)}, or types of method such as bias or natural+bias",
    )
    made.add_argument("--prompts", type=int, default=200, help="test prompts at most, of each set")
    made.add_argument("--samples", type=int, default=1, help="of each prompt")
    made.add_argument("--texts", type=int, help="texts a side at most")
    made.add_argument(
        "--equal-kl",
        type=float,
        help="KL on the reporting texts to scale recipes to, not limits",
    )
    made.add_argument("--out", type=Path, default=Path(".quality/rows.jsonl"))
    made.add_argument("--table", action="store_true", help="only show what the file has")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = _options().parse_args(arguments)
    try:
        file = RowFile(given.out)
        if not given.table:
            _run(given, file)
    except (ScalpelError, OSError) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    show(file)
    return 0


def _run(given: argparse.Namespace, file: RowFile) -> None:
    folder = data_folder()
    for name in given.behaviors:
        load_behavior(
            name, folder, given.texts
        )  # a wrong name or file fails before loading a model
    options = Options(
        prompts=given.prompts,
        samples=given.samples,
        effort=given.effort,
        texts=given.texts,
        rules=RULES,
        equal_kl=given.equal_kl,
    )
    file.require(options)
    settings = Settings()
    base = load_base(
        materialise(source_of(given.base), settings.cache),
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        ranks=True,
        cache=settings.cache,
    )
    for seed in given.seeds:
        for name in given.behaviors:
            of = load_behavior(name, folder, given.texts, seed)
            measure(base, given.base, of, seed, given.arms, options, file)


if __name__ == "__main__":
    sys.exit(main())
