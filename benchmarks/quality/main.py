"""What edits do to the text of a model and what they harm, beside their rivals: the quality table.

    make quality BEHAVIORS=negative_sentiment SEEDS=0,1,2
    python -m benchmarks.quality.main --table

measures for each behaviour and seed, on the same test prompts with the same random numbers: the
base, what `auto` finds, every row of its table alone at about 0.9 of the limits, the paper's
setting at its own alpha and at equal KL, random directions and rows, steering by a hook,
directional ablation and a prompt. Rows are added to a file as they are made; a run that was cut
goes on where it was.

The texts do not come with Scalpel; see `benchmarks.quality.data`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.paper.edits import told
from benchmarks.paper.table import source_of
from benchmarks.quality.arms import Arms
from benchmarks.quality.data import SUBJECTS, Subject, data_folder, subject
from benchmarks.quality.measure import Measure
from benchmarks.quality.plot import plot
from benchmarks.quality.recipes import ALL, names
from benchmarks.quality.rows import BASE, RULES, Options, Row, RowFile
from benchmarks.quality.setting import Setting
from benchmarks.quality.statistics import columns
from benchmarks.quality.table import LIMITS, lines, markdown, spots
from models_store.errors import EditFailed, InvalidRequest, ScalpelError
from models_store.schemas.catalogue import SMOLLM2
from models_store.schemas.methods import Effort
from models_store.settings import Settings
from workers.runtime.base_models import materialise
from workers.runtime.loading import BaseModel, load_base


def measure(
    base: BaseModel,
    base_id: str,
    of: Subject,
    seed: int,
    asked: Sequence[str],
    options: Options,
    file: RowFile,
) -> None:
    """Add the rows of one behaviour and seed that the file does not have.

    Raises:
        InvalidRequest: an arm is asked for that there is not, or the behaviour cannot be used.
    """
    name = of.behavior.name
    every = names(asked, base.layers)
    missing = [arm for arm in every if not file.has(base_id, name, seed, arm)]
    if not missing:
        return
    setting = Setting(base, base_id, of, seed, options, Settings())
    arms = Arms(setting, asked)
    bench = Measure(setting)
    for arm in missing:
        told(f"{name}, seed {seed}: {arm}")
        started = time.monotonic()
        row = Row(base=base_id, behavior=name, seed=seed, arm=arm, label=arm, options=options)
        try:
            made = arms.make(arm)
            sheets, harm = bench.measure(made)
        except (EditFailed, InvalidRequest) as error:
            changes: dict[str, object] = {"failed": error.message}
        else:
            changes = {
                "label": made.label,
                "sheets": sheets,
                "harm": harm,
                "scale": made.scale,
                "target_kl": made.target_kl,
                "scaled_kl": made.scaled_kl,
                "aucs": setting.aucs if arm == BASE else {},
            }
        changes["seconds"] = time.monotonic() - started
        file.append(row.model_copy(update=changes))


def show(file: RowFile) -> None:
    """Print the table of all rows and write a plot for each base and behaviour beside the file."""
    print(markdown(file.rows))
    for base, behavior in dict.fromkeys((row.base, row.behavior) for row in file.rows):
        rows = [row for row in file.rows if (row.base, row.behavior) == (base, behavior)]
        leading = next(iter(columns([row for row in rows if row.arm == BASE])), None)
        found = spots(lines(rows)) if leading else []
        if leading and found:
            what = f"change of the rate by {leading.scorer} on {leading.sheet} prompts, points"
            name = f"{Path(base).name.partition('@')[0]}-{behavior}.svg"
            target = file.path.with_name(name)
            target.write_text(plot(f"{behavior}, {base}", what, found, LIMITS), encoding="utf-8")
            told(f"wrote {target}")


def _words(value: str) -> list[str]:
    return [word for word in value.replace(",", " ").split() if word]


def _options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--base", default=SMOLLM2.id, help="id, folder or OWNER/NAME@COMMIT")
    made.add_argument("--behaviors", type=_words, default=list(SUBJECTS), help="with commas")
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
        subject(name, folder, given.texts)  # a wrong name or file is told before a model is loaded
    options = Options(
        prompts=given.prompts,
        samples=given.samples,
        effort=given.effort,
        texts=given.texts,
        rules=RULES,
    )
    file.require(options)
    settings = Settings()
    base = load_base(
        materialise(source_of(given.base), settings.cache),
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        cache=settings.cache,
    )
    for seed in given.seeds:
        for name in given.behaviors:
            of = subject(name, folder, given.texts, seed)
            measure(base, given.base, of, seed, given.arms, options, file)


if __name__ == "__main__":
    sys.exit(main())
