"""Rows of the quality table as they lie in a file: a JSON object a line, added as they are made.

A row holds figures and digests of prompts, no text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from models_store.errors import InvalidRequest
from models_store.schemas.measurements import PointDamage
from models_store.schemas.methods import Effort
from workers.evaluation.controls.controls import equal

RULES = 2
"""Raise it when what rows say changes: since 2, rivals have an edit's KL on the texts that are
reported on, and empty texts count as undesired."""
BASE = "base"
"""The arm without an edit."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Options(_Part):
    """What rows must have in common to stand in one table."""

    prompts: int
    samples: int
    effort: Effort
    texts: int | None
    rules: int
    """Of scaling and scoring: `RULES` when they were measured."""


class Harm(_Part):
    """What an arm does that it should not; None: not measured."""

    kl: float | None = None
    kl_preserve: float | None = None
    perplexity_ratio: float | None = None
    domain: float | None = None
    """What the limit is judged on: one of the two below."""
    domain_samples: float | None = None
    domain_heldout: float | None = None
    fluency: float | None = None
    fluency_against_base: float | None = None
    """Where what the edit made desired was compared with held-out answers."""
    distinct2_ratio: float | None = None
    loops: float | None = None
    mean_tokens: float | None = None
    ended: float | None = None

    def point(self) -> PointDamage:
        """As limits are held against it.

        Raises:
            ValueError: the KL was not measured.
        """
        if self.kl is None:
            raise ValueError("there is no KL")
        fields = PointDamage.model_fields.keys() - {"kl", "fluency_source"}
        return PointDamage(kl=self.kl, **{name: getattr(self, name) for name in fields})


class Scores(_Part):
    """What one scorer makes of the generations from each prompt, samples averaged: `[prompts]`."""

    rate: tuple[float, ...]
    score: tuple[float, ...]


class Sheet(_Part):
    """One set of prompts and what the scorers say."""

    prompts: tuple[str, ...]
    """Digests."""
    scorers: Mapping[str, Scores]


class Row(_Part):
    """One arm of one comparison."""

    base: str
    behavior: str
    seed: int
    arm: str
    """Names it; `random_direction/2` is the third draw of one kind."""
    label: str
    """What it is, in words."""
    options: Options
    sheets: Mapping[str, Sheet] = {}
    """By set of prompts."""
    harm: Harm = Harm()
    scale: float | None = None
    target_kl: float | None = None
    """That it was scaled to, on the texts that the KL is reported of."""
    scaled_kl: float | None = None
    """What it came to there."""
    failed: str | None = None
    """Why it could not be made or measured."""
    aucs: Mapping[str, float | None] = {}
    """Of the scorers on held-out texts; in the base's row."""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Its row of the table, which several draws share."""
        return self.arm.partition("/")[0]

    @property
    def matched(self) -> bool:
        """Whether the KL that it was scaled to was reached, where it was."""
        if self.target_kl is None or self.scaled_kl is None:
            return True
        return equal(self.scaled_kl, self.target_kl)

    @property
    def key(self) -> tuple[str, str, int, str]:
        return (self.base, self.behavior, self.seed, self.arm)


class RowFile:
    """The rows that are there, and where more of them go."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one; a last line that was cut is dropped.

        Raises:
            InvalidRequest: a line is not a row.
        """
        self.path = path
        self.rows: list[Row] = []
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            path.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self.rows.append(Row.model_validate_json(line))
            except ValidationError as error:
                raise InvalidRequest(
                    f"{path}, line {number}: not a row of this table "
                    f"({error.errors()[0]['msg']}); name another file with --out"
                ) from error

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

    def append(self, row: Row) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(row.model_dump_json() + "\n")
        self.rows.append(row)


def digests(prompts: Sequence[str]) -> tuple[str, ...]:
    """Names of prompts that do not tell them."""
    return tuple(hashlib.sha256(prompt.encode()).hexdigest()[:16] for prompt in prompts)
