"""The file of rows of the quality table: one JSON object per line, appended as they are made.

A row holds figures and digests of prompts, no texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from benchmarks.json_lines import JsonLines
from models_store.errors import InvalidRequest
from models_store.schemas.base import FrozenModel
from models_store.schemas.measurements import PointDamage
from models_store.schemas.methods import Effort
from workers.evaluation.controls.baselines import equal

RULES = 4
"""To be raised when the meaning of rows changes. Since 2, baselines have an edit's KL on the
reporting texts, and empty texts count as undesired. Since 3, `paper` has a converged probe and an
edit's KL. Since 4, `prompt` is the system message of a chat, scorers that learn share no text, and
`auto` tries edits in which neutral text weighs."""
BASE = "base"
"""The arm without an edit."""


class Options(FrozenModel):
    """What the rows of one table have in common."""

    prompts: int
    samples: int
    effort: Effort
    texts: int | None
    rules: int
    """`RULES` when they were measured."""
    equal_kl: float | None = None
    """The KL on the reporting texts that recipes and baselines are scaled to, in place of limits
    and of the KL of an edit."""


class Harm(FrozenModel):
    """The harm of an arm; None: not measured."""

    kl: float | None = None
    kl_preserve: float | None = None
    perplexity_ratio: float | None = None
    domain: float | None = None
    """One of the two below, to which the limit applies."""
    domain_source: Literal["samples", "heldout"] | None = None
    """Which; None in rows from before."""
    domain_samples: float | None = None
    domain_heldout: float | None = None
    fluency: float | None = None
    fluency_against_base: float | None = None
    """If generations that the edit made desired were compared with held-out responses."""
    distinct2_ratio: float | None = None
    loops: float | None = None
    mean_tokens: float | None = None
    ended: float | None = None

    def point(self) -> PointDamage:
        """As `PointDamage`, to check limits; `loops` is a share here and not a rise.

        Raises:
            ValueError: the KL was not measured.
        """
        if self.kl is None:
            raise ValueError("there is no KL")
        return PointDamage(
            kl=self.kl,
            perplexity_ratio=self.perplexity_ratio,
            domain=self.domain,
            fluency=self.fluency,
            distinct2_ratio=self.distinct2_ratio,
            kl_preserve=self.kl_preserve,
        )


class ScorerValues(FrozenModel):
    """Results of one scorer by prompt, averaged over samples: `[prompts]`."""

    rate: tuple[float, ...]
    score: tuple[float, ...]


class Sheet(FrozenModel):
    """One set of prompts, with the results of the scorers."""

    prompts: tuple[str, ...]
    """Digests."""
    scorers: Mapping[str, ScorerValues]
    clusters: tuple[str, ...] = ()
    """Digest of each prompt's template, or of itself if it has none; empty in rows from before:
    each prompt is then its own."""

    @property
    def cluster_of(self) -> Mapping[str, str]:
        """By prompt."""
        return dict(zip(self.prompts, self.clusters or self.prompts, strict=True))


class ArmRow(FrozenModel):
    """The measurements of one arm."""

    base: str
    behavior: str
    seed: int
    arm: str
    """Its name; `random_direction/2` is the third draw of one kind."""
    label: str
    """A description."""
    options: Options
    sheets: Mapping[str, Sheet] = {}
    """By set of prompts."""
    harm: Harm = Harm()
    scale: float | None = None
    target_kl: float | None = None
    """The KL that it was scaled to, on the reporting texts."""
    scaled_kl: float | None = None
    """The KL that was reached there."""
    failed: str | None = None
    """Why it could not be made or measured."""
    aucs: Mapping[str, float | None] = {}
    """Of the scorers on held-out texts; in the base's row."""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Its line of the table, which several draws share."""
        return self.arm.partition("/")[0]

    @property
    def matched(self) -> bool:
        """Whether it reached the target KL, if there is one."""
        if self.target_kl is None or self.scaled_kl is None:
            return True
        return equal(self.scaled_kl, self.target_kl)

    @property
    def key(self) -> tuple[str, str, int, str]:
        return (self.base, self.behavior, self.seed, self.arm)


class RowFile(JsonLines[ArmRow]):
    """A file of rows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ArmRow)

    @property
    def rows(self) -> list[ArmRow]:
        return self.records

    def require(self, options: Options) -> None:
        """Refuse to mix rows that were measured differently.

        Raises:
            InvalidRequest: the file has rows with other options.
        """
        for row in self.rows:
            if row.options != options:
                raise InvalidRequest(
                    f"{self.path} was made with {row.options!r}, not with {options!r}: name "
                    "another file with --out"
                )

    def has(self, base: str, behavior: str, seed: int, arm: str) -> bool:
        return (base, behavior, seed, arm) in {row.key for row in self.rows}


def digests(prompts: Iterable[str]) -> tuple[str, ...]:
    """Digests of prompts, which do not disclose them."""
    return tuple(hashlib.sha256(prompt.encode()).hexdigest()[:16] for prompt in prompts)
