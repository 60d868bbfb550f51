"""Precision and recall of the presets' scorers on labelled generations.

    python -m benchmarks.labels [--write]

prints the table; `--write` puts it into docs/measuring.md. It takes about half a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.labels.figures import Figures, Share, figures
from benchmarks.page import PAGE, write_section
from models_store.presets import labelled_texts, load_preset
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.scorers.prepare import PreparedScorer, prepare_scorers

PRESETS = ("negativity", "toxicity", "formality", "refusal", "compliance", "verbosity")
OTHERS: Mapping[str, tuple[str, ...]] = {
    "negativity": ("char-ngrams", "vader"),
    "toxicity": ("char-ngrams", "politeness-markers", "vader"),
    "formality": ("char-ngrams", "formality-markers"),
    "refusal": ("char-ngrams", "refusal-phrases"),
    "compliance": ("char-ngrams", "refusal-phrases"),
    "verbosity": ("char-ngrams", "length"),
}
"""Scorers to compare with. `char-ngrams` stands in the place of `tfidf`, so that it learns from as
many texts."""


@dataclass(frozen=True)
class Row:
    preset: str
    scorer: str
    takes_part: bool
    """In edits of the preset."""
    threshold: float
    figures: Figures


def rows(preset: str) -> Iterator[Row]:
    """The preset's scorers, as an edit prepares them, then those that take no part in it."""
    read = [label for label in labelled_texts(preset) if label.undesired is not None]
    prompts, texts = [label.prompt for label in read], [label.text for label in read]
    labels = np.array([label.undesired for label in read], dtype=np.bool_)
    for scorer, takes_part in _scorers(preset):
        threshold = scorer.info.threshold
        found = figures(scorer.score(prompts, texts), labels, threshold)
        yield Row(preset, scorer.name, takes_part, threshold, found)


def _scorers(preset: str) -> Iterator[tuple[PreparedScorer, bool]]:
    behavior = load_preset(preset)
    splits = split_behavior(behavior, seed=0)
    for scorer in prepare_scorers(behavior, splits, seed=0):
        yield scorer, True
    others = behavior.model_copy(update={"scorers": OTHERS[preset]})
    for scorer in prepare_scorers(others, splits, seed=0):
        if scorer.name not in behavior.scorers:
            yield scorer, False


def section() -> str:
    """What was labelled, and what the scorers make of it."""
    counts = ["| preset | undesired | not | cannot tell |", "|---|---|---|---|"]
    table = [
        "| labels of | by scorer | flagged | precision | recall | AUC | F1 | best F1 | gain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for preset in PRESETS:
        given = [label.undesired for label in labelled_texts(preset)]
        cells = (f"{given.count(value)}" for value in (True, False, None))
        counts.append(f"| `{preset}` | {' | '.join(cells)} |")
        table += [_line(row) for row in rows(preset)]
    return "\n".join((*counts, "", *table))


def _line(row: Row) -> str:
    found = row.figures
    best, gain = found.best_f1, found.gain
    cells = (
        f"`{row.preset}`",
        f"`{row.scorer}`" if row.takes_part else f"(`{row.scorer}`)",
        "" if found.flagged.value is None else f"{100 * found.flagged.value:.0f} %",
        _share(found.precision),
        _share(found.recall),
        "" if found.auc is None else f"{found.auc:.2f}",
        "" if best is None else f"{found.f1:.2f}",
        "" if best is None else f"{best:.2f} from {found.best_threshold:.2g}",
        "" if gain is None else f"{gain:+.2f}",
    )
    return f"| {' | '.join(cells)} |"


def _share(share: Share) -> str:
    if share.value is None:
        return ""
    low, high = share.interval
    return f"{share.hits} of {share.of}: {share.value:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="also write docs/measuring.md")
    given = parser.parse_args()
    text = section()
    print(text)
    if given.write:
        write_section("labels", text, PAGE.with_name("measuring.md"))


if __name__ == "__main__":
    main()
