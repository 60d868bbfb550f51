"""What a scorer is, and what it may learn from or call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models_store.schemas.behaviors import Behavior
from workers.evaluation.statistics import Floats

if TYPE_CHECKING:
    from workers.runtime.loading import LoadedModel


class Scorer(Protocol):
    """Rates texts one by one; the others of a call make no difference."""

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """How much of what it measures is in each text, `[texts]` in [0, 1].

        Args:
            prompts: what each text responds to or continues; empty where there is nothing.
        """
        ...


@dataclass(frozen=True)
class Training:
    """The scorer split: texts that neither methods nor probes see; and what scorers may call."""

    texts: Sequence[str]
    labels: Sequence[int]
    """1 for undesired."""
    seed: int
    behavior: Behavior | None = None
    """Whose texts they are, for scorers that put its question or look at its prompts."""
    base: LoadedModel | None = None
    """For scorers that call it, which keep it as `base`. Its weights must be the base's own while
    they score."""
