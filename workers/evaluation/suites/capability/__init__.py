"""Perplexity, GSM8K and multiple choice: what the operator says of the suite.

No torch in here: the API loads it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from models_store.operator.suites import Data, SuiteTable, Table


class CapabilityFiles(Table):
    text: Data | None = None
    """Plain text, for perplexity."""
    gsm8k: Data | None = None
    """JSONL: `{"question": "…", "answer": "… #### 18"}`; the first lines are shown as examples."""
    multiple_choice: Data | None = None
    """JSONL: `{"question": "…", "choices": ["…", …], "answer": index or choice}`."""

    @model_validator(mode="after")
    def _not_empty(self) -> CapabilityFiles:
        if self.text is self.gsm8k is self.multiple_choice is None:
            raise ValueError("must name a file for text, gsm8k or multiple_choice")
        return self


class CapabilityTable(SuiteTable):
    """What the model could do before, it should do still."""

    opens: ClassVar = "workers.evaluation.suites.capability.run:open_suite"

    data: CapabilityFiles
    windows: Annotated[int, Field(ge=1, le=10_000)] = 24
    """Windows of the text that are read, at most."""
    window_tokens: Annotated[int, Field(ge=2, le=32_768)] = 512
    problems: Annotated[int, Field(ge=1, le=10_000)] = 40
    """Of GSM8K, at most."""
    shots: Annotated[int, Field(ge=0, le=16)] = 4
    """Worked examples before each problem of GSM8K; fewer where the context is too short."""
    max_new_tokens: Annotated[int, Field(ge=8, le=2048)] = 160
    questions: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Of multiple choice, at most."""
