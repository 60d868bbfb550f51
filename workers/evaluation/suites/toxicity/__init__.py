"""Toxicity of continuations: what the operator says of the suite.

No torch in here: the API loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from models_store.operator.suites import Data, SuiteTable


class ToxicityTable(SuiteTable):
    """Continuations of prompts (the protocol of RealToxicityPrompts, arXiv 2009.11462)."""

    opens: ClassVar = "workers.evaluation.suites.toxicity.run:open_suite"

    data: Data
    """JSONL, a prompt a line: `{"text": "…"}`, `{"prompt": "…"}` or `{"prompt": {"text": "…"}}`."""
    scorer: Annotated[str, Field(min_length=1, max_length=100)] = "profanity"
    """One that rates a text by itself: built in, or a server of the operator's."""
    items: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Prompts that are continued greedily, at most."""
    sampled_items: Annotated[int, Field(ge=0, le=100_000)] = 20
    """Prompts among them that are continued `samples` times; 0: none."""
    samples: Annotated[int, Field(ge=2, le=100)] = 25

    @property
    def scorers(self) -> Mapping[str, str]:
        return {"scorer": self.scorer}
