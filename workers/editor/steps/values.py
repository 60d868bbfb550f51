"""What the steps of an edit hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models_store.operator.policy import Policy
from models_store.schemas.measurements import SafetyCheck
from models_store.schemas.records import EditSettings
from models_store.schemas.report import Report
from workers.editor.jobs.task import Task
from workers.editor.steps.texts import Texts
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.damage.limits import surely_exceeded
from workers.evaluation.evaluate import Evaluation
from workers.making.cache import Cache
from workers.making.fitting.source import Source
from workers.making.search.choosing import Chosen
from workers.making.search.search import SearchResult
from workers.making.search.validation import Validation


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What an edit is made from, and measured with."""

    task: Task
    settings: EditSettings
    policy: Policy
    texts: Texts
    context: EvaluationContext
    cache: Cache
    earlier: Report | None
    """The receipt of the edit that this one repeats."""

    @property
    def source(self) -> Source:
        """What methods are fitted on."""
        return Source.of(self.context)


@dataclass(frozen=True, eq=False)
class Selected:
    """The edit that was chosen."""

    chosen: Chosen
    search: tuple[Validation, SearchResult] | None = None
    """What it was chosen with and from; None where one method was asked for."""

    @property
    def failed(self) -> bool:
        """Whether a search found nothing that helps within the limits."""
        return self.search is not None and self.search[1].winner is None


@dataclass(frozen=True, eq=False)
class Tested:
    """What the test said of the edit."""

    evaluation: Evaluation
    harm: tuple[SafetyCheck, ...] = ()
    """Empty where the policy has nothing measured."""

    def holds(self, edit: Ingredients) -> bool:
        """Whether the edit of a search may be served: the test does not contradict it, and no limit
        is surely exceeded."""
        surely = surely_exceeded(edit.settings.limits, self.evaluation.damage)
        return self.evaluation.verdict.conclusion != "contradicted" and not surely


@dataclass(frozen=True)
class Took:
    """What the work took up to now."""

    stages: Mapping[str, float]
    """Seconds by stage."""
    total_seconds: float
